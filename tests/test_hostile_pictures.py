"""``harmonize`` on what hypothesis invents: a result that opens, or one line, exit code 2 and not a file more."""

import io
import json
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

from harmonylib import cli

FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP"}
MODES = {"png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "jpg": ("L", "RGB", "CMYK"),
         "tif": ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "F"), "webp": ("RGB", "RGBA")}  # fmt: skip
WORDS = ("", "alpha", "nan", "../up.png", "a\nb.png", "<b>.png", "nul\0.png", "é🙂.png")
ANY = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
json_values = some.recursive(
    some.none() | some.booleans() | some.integers(-(10**9), 10**9) | some.floats() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=5) | some.dictionaries(some.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@some.composite
def files(draw) -> tuple[str, bytes]:
    """A picture of some format, mode and size, as it is or damaged: (ending, content)."""
    ending = draw(some.sampled_from(sorted(FORMATS)))
    mode = draw(some.sampled_from(MODES[ending]))
    size = draw(some.tuples(some.integers(1, 24), some.integers(1, 24)))
    noise = np.random.default_rng(draw(some.integers(0, 99))).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    image = image.convert("L").convert("I;16" if mode == "I;16" else "F") if mode in ("I;16", "F") else (
        image.convert("RGB").convert(mode) if mode != "LAB" else Image.frombytes("LAB", size, noise.tobytes())
    )  # fmt: skip
    target = io.BytesIO()
    image.save(target, FORMATS[ending])
    content = bytearray(target.getvalue())
    for _ in range(draw(some.integers(0, 3))):
        place = draw(some.integers(0, len(content) - 1))
        match draw(some.sampled_from(["change", "cut", "insert"])):
            case "change":
                content[place] = draw(some.integers(0, 255))
            case "cut":
                del content[max(1, place) :]
            case "insert":
                content[place:place] = draw(some.binary(max_size=20))
    return ending, bytes(content)


def answer(folder: Path, *words) -> int:
    """The exit code of `harmonize`, after checking what was said and what is there."""
    before = {path.name for path in folder.iterdir()}
    told = io.StringIO()
    with redirect_stderr(told), redirect_stdout(io.StringIO()):
        try:
            code = cli.main(["harmonize", *map(str, words)])
        except SystemExit as stopped:
            code = stopped.code
    added = {path.name for path in folder.iterdir()} - before
    if code == 0:
        assert added == {"out.png"}
        Image.open(folder / "out.png").load()
    else:
        assert code == 2
        assert told.getvalue().count("\n") == 1 and "Traceback" not in told.getvalue(), told.getvalue()
        assert not added
    return code


def mask_of(size: tuple[int, int]) -> bytes:
    target, mask = io.BytesIO(), np.zeros(size[::-1], np.uint8)
    mask[: max(1, size[1] // 2), : max(1, size[0] // 2)] = 255
    Image.fromarray(mask).save(target, "PNG")
    return target.getvalue()


@ANY
@given(picture=files(), mask=files(), fitting=some.booleans())
def test_any_picture_and_mask(picture, mask, fitting):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        composite, given_mask = folder / f"composite.{picture[0]}", folder / f"mask.{mask[0]}"
        composite.write_bytes(picture[1])
        given_mask.write_bytes(mask[1])
        if fitting:
            try:
                with warnings.catch_warnings(action="ignore"):
                    size = Image.open(composite).size
            except Exception:  # whatever the damage has made of it
                size = (5, 5)
            if max(size) < 1000:
                given_mask = folder / "fitting.png"
                given_mask.write_bytes(mask_of(size))
        answer(folder, composite, given_mask, "-o", folder / "out.png", "--model", "reinhard")


@ANY
@given(value=json_values | some.builds(lambda points: {"polygons": [points]}, json_values))
def test_any_polygons(value):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (30, 20), (90, 120, 60)).save(folder / "composite.png")
        (folder / "mask.json").write_text(json.dumps(value), encoding="utf-8")
        answer(folder, folder / "composite.png", folder / "mask.json", "-o", folder / "out.png", "--model", "reinhard")


@ANY
@given(
    words=some.lists(some.sampled_from(WORDS) | some.text(max_size=12), min_size=2, max_size=2), strength=some.floats()
)
def test_any_words(words, strength):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [word.replace("/", "_") for word in words]
        answer(folder, *words, "-o", folder / "out.png", f"--strength={strength}", "--model", "reinhard")
