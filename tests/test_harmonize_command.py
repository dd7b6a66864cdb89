"""``python -m harmonylib harmonize``: pictures in, pictures out; what else comes gets one line and leaves no file."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harmonylib import cli, pictures

ROOT = Path(__file__).resolve().parent.parent
SIZE = (40, 30)


@pytest.fixture
def folder(tmp_path):
    """A composite and its mask as files, in a folder of their own."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(60, 190, (*SIZE[::-1], 3), np.uint8)).save(tmp_path / "composite.png")
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[8:20, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def run(*arguments) -> int:
    return cli.main(["harmonize", *map(str, arguments), "--model", "reinhard"])


def one_line(capsys) -> str:
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said, said
    return said


def listing(folder) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def refuse(capsys, folder, *arguments, words=""):
    """Exit code 2, one line with these words, and not a file more or less than before."""
    before = listing(folder)
    try:
        code = run(*arguments)
    except SystemExit as stopped:  # argparse's own
        code = stopped.code
    assert code == 2
    assert words in one_line(capsys)
    assert listing(folder) == before


class TestOnePicture:
    def test_it_is_written(self, folder, capsys):
        assert run(folder / "composite.png", folder / "mask.png", "-o", folder / "out.png") == 0
        before, after = (np.asarray(Image.open(folder / n)) for n in ("composite.png", "out.png"))
        mask = np.asarray(Image.open(folder / "mask.png")) > 0
        assert (before[~mask] == after[~mask]).all() and (before[mask] != after[mask]).any()
        assert capsys.readouterr().out.strip() == str(folder / "out.png")

    def test_it_is_not_overwritten_unasked(self, folder, capsys):
        (folder / "out.png").write_bytes(b"mine")
        refuse(capsys, folder, folder / "composite.png", folder / "mask.png", "-o", folder / "out.png", words="--force")
        assert (folder / "out.png").read_bytes() == b"mine"
        assert run(folder / "composite.png", folder / "mask.png", "-o", folder / "out.png", "--force") == 0
        assert Image.open(folder / "out.png").size == SIZE

    def test_it_has_the_permissions_of_a_new_file(self, folder):
        run(folder / "composite.png", folder / "mask.png", "-o", folder / "out.png")
        (folder / "new").touch()
        assert (folder / "out.png").stat().st_mode == (folder / "new").stat().st_mode

    @pytest.mark.parametrize("ending", ["jpg", "JPEG", "tif", "tiff", "webp", "PNG"])
    def test_every_format(self, folder, ending):
        assert run(folder / "composite.png", folder / "mask.png", "-o", folder / f"out.{ending}") == 0
        assert Image.open(folder / f"out.{ending}").size == SIZE

    def test_a_full_disk_leaves_nothing(self, folder, capsys, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "replace", full)
        refuse(
            capsys, folder, folder / "composite.png", folder / "mask.png", "-o", folder / "out.png", words="No space"
        )

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_no_permission(self, folder, capsys):
        (folder / "shut").mkdir(mode=0o500)
        refuse(
            capsys,
            folder,
            folder / "composite.png",
            folder / "mask.png",
            "-o",
            folder / "shut/out.png",
            words="ermission",
        )


class TestFolders:
    @pytest.fixture
    def many(self, folder):
        (folder / "in").mkdir()
        (folder / "masks").mkdir()
        for name in ("a_1_1.png", "a_1_2.jpg", "b.bmp"):
            Image.open(folder / "composite.png").save(folder / "in" / name)
        for name in ("a_1.png", "b.png"):
            Image.open(folder / "mask.png").save(folder / "masks" / name)
        return folder

    def test_every_picture_with_its_mask(self, many, capsys):
        assert run(many / "in", many / "masks", "-o", many / "out") == 0
        assert listing(many / "out") == {"a_1_1.png", "a_1_2.jpg", "b.png"}
        assert "3 of 3" in capsys.readouterr().out

    def test_what_can_be_done_is_done(self, many, capsys):
        (many / "in" / "a_1_2.jpg").write_bytes(b"broken")
        assert run(many / "in", many / "masks", "-o", many / "out") == 2
        assert listing(many / "out") == {"a_1_1.png", "b.png"}
        told = capsys.readouterr()
        assert "a_1_2.jpg" in told.err and "2 of 3" in told.out

    def test_none_is_begun_where_one_would_be_overwritten(self, many, capsys):
        (many / "out").mkdir()
        (many / "out" / "b.png").touch()
        refuse(capsys, many, many / "in", many / "masks", "-o", many / "out", words="b.png: is there already")

    def test_what_does_not_fit(self, many, capsys):
        refuse(capsys, many, many / "in", many / "mask.png", "-o", many / "out", words="no folder")
        refuse(capsys, many, many / "in", many / "masks", "-o", many / "mask.png", words="no folder")
        (many / "masks" / "b.png").unlink()
        refuse(capsys, many, many / "in", many / "masks", "-o", many / "out", words="no mask b.png")
        (many / "empty").mkdir()
        refuse(capsys, many, many / "empty", many / "masks", "-o", many / "out", words="no pictures")


def hostile(folder: Path) -> dict[str, list]:
    """Name: arguments. Each is wrong in one way."""
    good, mask, out = folder / "composite.png", folder / "mask.png", folder / "out.png"
    cases: dict[str, list] = {}

    def file(name: str, content: bytes | str | Image.Image) -> Path:
        path = folder / name
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    raw = {kind: pictures.encode(pictures.read(good), kind) for kind in pictures.FORMATS}
    for kind, content in raw.items():
        for cut in (0, 1, 4, 12, 30, 60, len(content) // 2, len(content) - 20):
            cases[f"{cut} bytes of a composite{kind}"] = [file(f"c{cut}{kind}", content[:cut]), mask, "-o", out]
            cases[f"{cut} bytes of a mask{kind}"] = [good, file(f"m{cut}{kind}", content[:cut]), "-o", out]
    for name, content in {
        "text": "hello", "zeros": b"\0" * 1000, "html": "<html>", "svg": "<svg/>", "zip": b"PK\3\4" + b"\0" * 50,
        "python": "import os", "pickle": b"\x80\x04K\x01.", "eps": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "newlines": "\n\n\n", "a name with\nnewline": "x", "a name with <b>": "x",
    }.items():  # fmt: skip
        cases[f"{name} for a composite"] = [file(f"{name}.png", content), mask, "-o", out]
        cases[f"{name} for a mask"] = [good, file(f"{name} m.png", content), "-o", out]
    for size in ((1, 1), (30, 40), (41, 30), (40, 31), (400, 300)):
        cases[f"a mask of {size}"] = [good, file(f"s{size}.png", Image.new("L", size, 255)), "-o", out]
    for level in (0, 1, 127, 128, 255):
        cases[f"a mask of {level} everywhere"] = [good, file(f"l{level}.png", Image.new("L", SIZE, level)), "-o", out]
    for number, text in enumerate(
        ("", "{}", "[]", "null", "3", "[[1]]", "[[[1, 2]]]", '{"polygons": []}', '{"polygons": "x"}',
         "[[[1e999, 2], [3, 4], [5, 6]]]", '{"shapes": [{}]}', '{"segmentation": {"counts": "x"}}', "[" * 10000,
         "[[[0, 0], [1, 0], [1, 1]]", '[[["a", 1], [2, 2], [3, 3]]]',
         "[[[900, 900], [990, 900], [990, 990]]]", "[[[-9, -9], [99, -9], [99, 99], [-9, 99]]]", "\xff\xfe")
    ):  # fmt: skip
        cases[f"polygons {text[:30]!r}"] = [good, file(f"p{number}.json", text.encode("latin-1")), "-o", out]
    for name in ("none.png", "none/none.png", "", ".", "..", "/", "composite.png/x", "x" * 300 + ".png", "a\0b.png"):
        cases[f"composite {name[:20]!r}"] = [folder / name if name else "", mask, "-o", out]
        cases[f"mask {name[:20]!r}"] = [good, folder / name if name else "", "-o", out]
        cases[f"out {name[:20]!r}"] = [
            good,
            mask,
            "-o",
            folder / name if name not in ("", "none.png") else folder / "none" / "x.png",
        ]
    for ending in ("", ".gif", ".bmp", ".txt", ".exe", ".npy", ".p\nng"):
        cases[f"out{ending!r}"] = [good, mask, "-o", folder / f"out{ending}"]
    for value in ("-1", "2.5", "nan", "inf", "much", "", "1e400"):
        cases[f"strength {value!r}"] = [good, mask, "-o", out, "--strength", value]
    cases["alpha of a picture without"] = [good, "alpha", "-o", out]
    cases["a bomb"] = [file("bomb.png", _header(60_000, 60_000)), mask, "-o", out]
    cases["a mask that is a bomb"] = [good, file("bomb m.png", _header(60_000, 60_000)), "-o", out]
    cases["an animation"] = [_animation(folder / "anim.webp"), mask, "-o", out]
    cases["floats"] = [file("f.tif", Image.new("F", SIZE)), mask, "-o", out]
    cases["32 bits"] = [file("i.tif", Image.new("I", SIZE)), mask, "-o", out]
    cases["alpha into JPEG"] = [file("rgba.png", Image.new("RGBA", SIZE)), mask, "-o", folder / "out.jpg"]
    cases["16 bits into WebP"] = [_deep(folder / "deep.png"), mask, "-o", folder / "out.webp"]
    cases["nothing"] = []
    cases["no mask"] = [good, "-o", out]
    cases["no out"] = [good, mask]
    cases["too much"] = [good, mask, mask, "-o", out]
    cases["an unknown option"] = [good, mask, "-o", out, "--colour", "red"]
    return cases


def _header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has, and more than anyone has memory for."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )


def _animation(path: Path) -> Path:
    Image.new("RGB", SIZE).save(path, save_all=True, append_images=[Image.new("RGB", SIZE, "red")])
    return path


def _deep(path: Path) -> Path:
    pictures.write(pictures.Picture(np.full((*SIZE[::-1], 3), 9999, np.uint16)), path)
    return path


def test_hostile_input(folder, capsys):
    """Two hundred of them, in one process."""
    cases = hostile(folder)
    assert len(cases) >= 200
    for name, arguments in cases.items():
        before = listing(folder)
        try:
            code = run(*arguments)
        except SystemExit as stopped:
            code = stopped.code
        except BaseException as error:
            raise AssertionError(f"{name}: {error!r}") from error
        told = capsys.readouterr()
        assert code == 2, (name, code, told)
        assert told.err.count("\n") == 1 and told.err.startswith(("harmonylib: ", "python -m")), (name, told.err)
        assert listing(folder) == before, name


@pytest.mark.slow
def test_hostile_input_to_real_processes(folder):
    cases = list(hostile(folder).items())
    for name, arguments in cases[:: len(cases) // 4]:
        words = [str(a) for a in arguments]
        if any("\0" in word for word in words):
            continue  # the system itself does not pass these on
        done = subprocess.run(
            [sys.executable, "-m", "harmonylib", "harmonize", *words, "--model", "reinhard"],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (name, done.stderr)
        assert not (folder / "out.png").exists()


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes(folder, seed, capsys):
    """A picture with bytes turned over is read or refused, never more."""
    rng = np.random.default_rng(seed)
    kind = list(pictures.FORMATS)[seed % len(pictures.FORMATS)]
    content = bytearray(pictures.encode(pictures.read(folder / "composite.png"), kind))
    for place in rng.integers(0, len(content), 1 + seed // 3):
        content[place] = rng.integers(256)
    (folder / f"damaged{kind}").write_bytes(content)
    code = run(folder / f"damaged{kind}", folder / "mask.png", "-o", folder / "out.png")
    assert code in (0, 2) and (folder / "out.png").exists() == (code == 0)
    if code:
        one_line(capsys)


def test_polygons_from_labelling_tools(folder):
    corners = [[10, 8], [30, 8], [30, 20], [10, 20]]
    (folder / "m.json").write_text(json.dumps({"shapes": [{"label": "cup", "points": corners}]}))
    assert run(folder / "composite.png", folder / "m.json", "-o", folder / "a.png") == 0
    assert run(folder / "composite.png", folder / "mask.png", "-o", folder / "b.png") == 0
    a, b = (np.asarray(Image.open(folder / n)).astype(int) for n in ("a.png", "b.png"))
    assert np.abs(a - b)[10:18, 12:28].mean() < 8
