"""Malicious annotations, checkpoints, records and tables: cases for `malice`."""

import io
import json
import os
import pickle
import shutil
import zipfile
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save as safetensors

from harmonylib import models
from harmonylib.config import Experiment
from harmonylib.paths import ROOT
from torture import readers_of_runs, readers_of_sets
from torture.malice import MARK, Case, fifo, sparse
from torture.malicious_pictures import DEEP, NASTY, SIDE, composite, half, outside
from torture.strategies import picture, png


def coco(change, folder: Path) -> list:
    root, document = folder / "coco", json.loads(json.dumps(readers_of_sets.ANNOTATIONS))
    root.mkdir()
    readers_of_sets.write_coco(root)
    outside(folder)
    text = change(document, root) or json.dumps(document).encode()
    file = root / "annotations/instances_own.json"
    if not file.exists():
        file.write_bytes(text)
    return ["data", "prepare", "coco-mini", "--source", "coco", "--out", "out"]


def set_in(document: dict, kind: str, **values) -> None:
    document[kind][0].update(values)


def link_in_coco(document: dict, root: Path) -> None:
    (root / "images/1.jpg").unlink()
    (root / "images/1.jpg").symlink_to("../../private/photo.jpg")


def lead_out(name: str, document: dict, root: Path) -> None:
    """What has this name is outside, and a link leads there."""
    (root / "annotations/instances_own.json").write_text(json.dumps(document))
    (root / name).rename(root.parent / "private/kept")
    (root / name).symlink_to(root.parent / "private/kept")


def zigzag(corners: int, side: int) -> dict:
    return {"segmentation": [[way for x in range(corners) for way in (x % side, side * (x % 2))]]}


def realhm(folder: Path) -> list:
    place = folder / "realhm"
    place.mkdir()
    outside(folder)
    for part in ("", "_fore", "_mask"):
        (place / f"a{part}.jpg").write_bytes(picture("jpg", 1, SIDE))
    (place / "a_gt.jpg").symlink_to("../private/photo.jpg")
    return ["data", "prepare", "realhm", "--source", "realhm", "--out", "out"]


def real_composites(make, folder: Path) -> list:
    for name in ("composite", "mask"):
        (folder / "real" / name).mkdir(parents=True)
    outside(folder)
    make(folder / "real/composite/a.jpg")
    (folder / "real/mask/a.png").write_bytes(half())
    return ["composites", "real", "--method", "identity", "--out", "out.csv", "--size", "16", "--pictures", "out"]


OBJECTS = (
    *(Case(f"COCO: {what}", partial(coco, change), said) for what, change, said in (
        ("a photograph that climbs", lambda d, r: set_in(d, "images", file_name="../../private/photo.jpg"), "leads out"),
        ("an absolute photograph", lambda d, r: set_in(d, "images", file_name="/etc/passwd"), "leads out"),
        ("a photograph with NUL", lambda d, r: set_in(d, "images", file_name="a\0b.jpg"), "not COCO"),
        ("a link out", link_in_coco, "leads out"),
        ("photographs behind a link", partial(lead_out, "images"), "leads out"),
        ("annotations behind a link", partial(lead_out, "annotations"), "leads out"),
        ("annotations that are a link", partial(lead_out, "annotations/instances_own.json"), "leads out"),
        ("brackets without end", lambda d, r: DEEP, "no JSON"),
        ("a number of 5,000 digits", lambda d, r: b'{"images": ' + b"9" * 5000 + b"}", "no JSON"),
        ("ten gigabytes", lambda d, r: sparse(r / "annotations/instances_own.json") and b"", "GB"),
        ("a pipe", lambda d, r: fifo(r / "annotations/instances_own.json") and b"", "pipe"),
        ("a side of 10^9", lambda d, r: set_in(d, "images", width=10**9), "px a side"),
        ("a width of infinity", lambda d, r: json.dumps(d).replace("24", "1e999").encode(), "not COCO"),
        ("an id of 400 digits", lambda d, r: set_in(d, "annotations", id=10**400), "not COCO"),
        ("an id twice", lambda d, r: set_in(d, "annotations", id=2), "two objects"),
        ("100,000 corners", lambda d, r: set_in(d, "annotations", **zigzag(10**5, 20)), "corners"),
        ("a long way along few corners", lambda d, r: [set_in(d, "images", width=9000, height=9000),
                                                       set_in(d, "annotations", **zigzag(9000, 9000))][2:], "corners"),
        ("corners far away", lambda d, r: [set_in(d, "annotations", segmentation=[[1e300, 1e-300, 1e300, 2e-300, 1e301, 0]]),
                                           d["annotations"].pop()][2:], ""),
    )),
    Case("RealHM: a link out", realhm, "leads out"),
    Case("composites: a link out", partial(real_composites, lambda p: p.symlink_to("../../private/photo.jpg")), "leads out"),
    Case("composites: a pipe", partial(real_composites, fifo), "pipe"),
    Case("composites: gigapixels", partial(real_composites, lambda p: p.write_bytes(png(60_000, 60_000)))),
)  # fmt: skip


class Harm:
    """What runs when a pickle is loaded carelessly."""

    def __reduce__(self):
        return os.system, (f"touch ../{MARK}",)


class Nothing:
    """Gigabytes out of one number, by means that torch takes for harmless."""

    def __reduce__(self):
        wide = torch.zeros(1, dtype=torch.float64).expand(40000, 40000)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, (wide, torch.float32, "cpu", False)


def checkpoint(content, ending: str, folder: Path) -> list:
    words, file = composite(folder), folder / f"network{ending}"
    made = content() if callable(content) else content
    file.write_bytes(made)
    return [*words[:-1], file.name]


def saved(weights=None, **settings) -> dict:
    """A checkpoint of a tiny network, with settings that may not fit."""
    made = Experiment("tiny", "unet", options={"width": 2, "depth": 1}, size=16).to_dict() | settings
    own = models.build("unet", width=2, depth=1).state_dict()
    return {"experiment": made, "model": own if weights is None else weights(own)}


def large(model: str, size: int = 1024, **options):
    """A small checkpoint whose network is small too, but not what it does to a picture of that side."""
    return lambda: readers_of_runs.pickled(
        saved(lambda _: models.build(model, **options).state_dict(), model=model, options=options, size=size)
    )


def archive(data: bytes, **more: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", data)
        for name, content in more.items():
            packed.writestr(f"archive/{name}", content)
    return target.getvalue()


def bomb() -> bytes:
    """A checkpoint of torch, packed: half a gigabyte of zeros in half a megabyte."""
    loose, packed = io.BytesIO(), io.BytesIO()
    torch.save({"experiment": {}, "model": {"a": torch.zeros(2**8)}}, loose)
    with zipfile.ZipFile(loose) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            with target.open(info.filename, "w", force_zip64=True) as member:
                member.write(source.read(info))
                for _ in range(2**9 if "/data/" in info.filename else 0):
                    member.write(b"\0" * 2**20)
    return packed.getvalue()


def laughs() -> list:
    """Lists in lists: short as a pickle, endless as a text."""
    deep = ["ha"] * 10
    for _ in range(30):
        deep = [deep] * 10
    return deep


def tensors(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header


CHECKPOINTS = (
    *(Case(f"checkpoint: {what}", partial(checkpoint, content, ending), said, codes=codes)
      for what, content, ending, said, codes in (
        ("code in a pickle", lambda: pickle.dumps(Harm()), ".pt", "holds code", (2,)),
        ("code in torch's archive", lambda: archive(pickle.dumps({"model": Harm()}), version=b"3"), ".pt", "holds code", (2,)),
        ("code beside the weights", lambda: readers_of_runs.pickled(saved() | {"random": Harm()}), ".pt", "holds code", (2,)),
        ("a tensor out of nothing", lambda: readers_of_runs.pickled(saved() | {"random": Nothing()}), ".pt", "no readable checkpoint", (2,)),
        ("zeros, packed", bomb, ".pt", "no readable checkpoint", (2,)),
        ("settings that are a list", lambda: readers_of_runs.pickled(saved() | {"experiment": [1]}), ".pt", "does not fit", (2,)),
        ("settings without end", lambda: readers_of_runs.pickled(saved(length=laughs())), ".pt", "wrong type", (2,)),
        ("options without end", lambda: readers_of_runs.pickled(saved(options={"width": laughs()})), ".pt", "width", (2,)),
        ("a width of 10^9", lambda: readers_of_runs.pickled(saved(options={"width": 10**9})), ".pt", "at most", (2,)),
        ("a network of terabytes", lambda: readers_of_runs.pickled(saved(options={"width": 4096, "depth": 6})), ".pt", "fit", (2,)),
        ("scores of terabytes", large("s2am", width=4, place=128, attention="naive"), ".pt", "GB on a picture", (2,)),
        ("scores of eight gigabytes", large("s2am", 256, width=4, place=128, attention="naive"), ".pt", "", (2,)),
        ("attention of hours", large("vit", patch=1, width=4, depth=1, heads=1), ".pt", "operations on a picture", (2,)),
        ("attention of many channels", large("vit", patch=2, width=448, depth=1, heads=1), ".pt", "operations on a picture", (2,)),
        ("a million blocks", lambda: readers_of_runs.pickled(saved(model="resnet", options={"blocks": 10**6})), ".pt", "at most", (2,)),
        ("1,000 blocks", lambda: readers_of_runs.pickled(saved(model="resnet", options={"blocks": 1000})), ".pt", "fit", (2,)),
        ("an option that is negative", lambda: readers_of_runs.pickled(saved(options={"width": -5})), ".pt", "at least 1", (2,)),
        ("pictures of 10^9 px", lambda: readers_of_runs.pickled(saved(size=10**9)), ".pt", "at most", (2,)),
        ("10^9 cells", lambda: readers_of_runs.pickled(saved(strategy="random", cells=10**9)), ".pt", "at most", (2,)),
        ("weights that are no numbers", lambda: readers_of_runs.pickled(saved(lambda w: dict.fromkeys(w, "a"))), ".pt", "fit", (2,)),
        ("weights that are NaN", lambda: readers_of_runs.pickled(saved(lambda w: {k: v * float("nan") for k, v in w.items()})),
         ".pt", "", (0, 2)),
        ("weights that are infinite", lambda: readers_of_runs.pickled(saved(lambda w: {k: v + float("inf") for k, v in w.items()})),
         ".pt", "", (0, 2)),
        ("a header of 2^62 bytes", tensors(b"{}", 2**62), ".safetensors", "no readable checkpoint", (2,)),
        ("a header of brackets", tensors(DEEP), ".safetensors", "no readable checkpoint", (2,)),
        ("no metadata", lambda: safetensors({"a": torch.zeros(2)}), ".safetensors", "no readable checkpoint", (2,)),
        ("settings of brackets", lambda: safetensors({"a": torch.zeros(2)}, {"experiment": "[" * 10**5}), ".safetensors",
         "no readable checkpoint", (2,)),
        ("offsets beyond the end", tensors(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'), ".safetensors",
         "no readable checkpoint", (2,)),
    )),
    Case("checkpoint: ten gigabytes of nothing", lambda f: [*composite(f)[:-1], sparse(f / "a.pt").name], "no readable"),
    Case("checkpoint: a pipe", lambda f: [*composite(f)[:-1], fifo(f / "a.pt").name], "neither a checkpoint"),
)  # fmt: skip


RUN = "given/runs/s2am/seed0"


def records(change, words: tuple[str, ...], folder: Path) -> list:
    root = folder / "given"
    root.mkdir()
    readers_of_runs.write_records(root)
    outside(folder)
    change(folder / RUN)
    return list(words)


def edited(name: str, **values):
    def change(run: Path) -> None:
        document = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(document | values))

    return change


def replaced_by(name: str, make):
    def change(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return change


def table(content, words: list, folder: Path) -> list:
    (folder / words[1]).write_bytes(content() if callable(content) else content)
    return words


def packed(name: str, content: bytes) -> bytes:
    import gzip

    return gzip.compress(content)


CHECK, BOARD, VOTES = ("check-records", "given"), ["leaderboard", "rows.csv"], ["votes", "votes.csv"]
ROWS = readers_of_runs.ROWS[0]
WIDE = b"a," * 10**6 + b"b\n"
RECORDS = (
    *(Case(f"record: {what}", partial(records, change, CHECK), said, codes=(1,)) for what, change, said in (
        ("a link out", replaced_by("config.json", lambda p: p.symlink_to("../../../../private/photo.jpg")), "a link"),
        ("a link to /dev/zero", replaced_by("metrics.json", lambda p: p.symlink_to("/dev/zero")), "a link"),
        ("a pipe", replaced_by("metrics.json", fifo), "a pipe"),
        ("ten gigabytes", replaced_by("per_image.csv", sparse), "bytes"),
        ("settings of four megabytes", lambda run: _long(run / "config.json"), "config.json: has more than 1,048,576 bytes"),
        ("40,000 protocols", lambda run: _protocols(run / "per_image.csv"), "40,000 protocols"),
        ("a folder for a file", replaced_by("metrics.json", Path.mkdir), "metrics.json"),
        ("brackets without end", replaced_by("metrics.json", lambda p: p.write_bytes(DEEP)), "no JSON"),
        ("a number of 5,000 digits", replaced_by("env.json", lambda p: p.write_bytes(b"9" * 5000)), "no JSON"),
        ("a list for an object", replaced_by("env.json", lambda p: p.write_bytes(b"[]")), "no object"),
        ("a subset that is a list", edited("config.json", subset=[1]), "runs/s2am"),
        ("pictures of 10^9 px", edited("config.json", size=10**9), "at most"),
        ("averages of infinity", edited("metrics.json", test={"bcmi256@64": {"fmse": 1e999}}), ""),
        ("a name of HTML and newlines", lambda run: run.parent.rename(run.parent.with_name(NASTY.replace("/", ""))), "config"),
        ("a program", lambda run: (run / "run.sh").write_text("touch executed"), "left over"),
        ("a million columns after a blank line", replaced_by("per_image.csv", lambda p: p.write_bytes(b"\n" + WIDE)), "columns"),
        ("a line of a million commas", replaced_by("per_image.csv", lambda p: p.write_bytes(b"," * 10**6 + b"\n")), "columns"),
    )),
    *(Case(f"rows: {what}", partial(table, content, BOARD), said, codes=codes) for what, content, said, codes in (
        ("no table", b"\x89PNG\r\n\x1a\n", "not a table", (2,)), ("nothing", b"", "not a table", (2,)),
        ("words for numbers", ROWS.replace(b",30,", b",thirty,"), "not a table", (2,)),
        ("no protocol", ROWS.replace(b"bcmi256", b""), "", (2,)),
        ("a million commas", b"," * 10**6 + b"\n1\n", "columns", (2,)),
        ("a method that moves the cursor", ROWS.replace(b",own", b",\x1b[2J<b>"), "", (0,)),
    )),
    Case("rows: packed", lambda f: table(packed("", b" " * 10**8), ["leaderboard", "rows.csv.gz"], f), "not a table"),
    Case("rows: an address", lambda f: ["leaderboard", "http://localhost:9/rows.csv"], "no such file"),
    Case("rows: a pipe", lambda f: ["leaderboard", fifo(f / "rows.csv").name], "pipe"),
    Case("rows: ten gigabytes", lambda f: ["leaderboard", sparse(f / "rows.csv").name], "GB"),
    *(Case(f"votes: {what}", partial(table, content, VOTES), said, codes=codes) for what, content, said, codes in (
        ("3,000 methods", lambda: b"winner,loser\n" + b"".join(b"a%d,b%d\n" % (i, i) for i in range(1500)), "too many", (2,)),
        ("a million columns after a blank line", b"\n" + WIDE, "columns", (2,)),
        ("a million columns after a blank line of Windows", b"\xef\xbb\xbf\r\n" + WIDE, "columns", (2,)),
        ("a row of a million commas", b"winner,loser\n" + WIDE, "columns", (2,)),
        ("a million columns over many lines", b'a,"\n",' * 10**6 + b"\n1\n", "first line", (2,)),
        ("a million columns over many lines, after a mark", b'\xef\xbb\xbf\n "\n",' + b'"\n",' * 10**6 + b"\n1\n", "first line", (2,)),
        ("a row of a million commas over many lines", b"winner,loser\n" + b'"\n",' * 10**6 + b"\n", "Expected 3 fields", (2,)),
        ("NUL", b"winner,loser\n\0,b\n", "", (0, 2)), ("one method", b"winner,loser\na,a\n", "two different", (2,)),
        ("names that move the cursor", b"winner,loser\n\x1b[2J,b\nb,\x1b[2J\n", "", (0,)),
    )),
    *(Case(f"report: {what}", lambda f, change=change: _report(change, f), said) for what, change, said in (
        ("a folder that is a link", lambda run: (run.parents[2] / "figures").symlink_to("../../../private"), "leads out"),
        ("a figure that is a link", lambda run: figure(run).symlink_to("../../../../private/photo.jpg"), "leads out"),
        ("a figure of 4 gigapixels", lambda run: figure(run).write_bytes(png(60_000, 60_000) + bytes(10**6)), "cannot be read as a picture"),
        ("half a file", lambda run: (run / "metrics.json").write_bytes(b'{"test": {'), "no JSON"),
        ("a pipe", replaced_by("env.json", fifo), "pipe"),
        ("a protocol of HTML", lambda run: _reprotocol(run), "none of this project"),
        ("no settings", lambda run: (run / "config.json").write_text("{}"), "no object of JSON with name, size"),
        ("a million columns of the memory lab", lambda run: (run.parents[1] / "memory_lab.csv").write_bytes(b"\n" + WIDE), "columns"),
        ("no commit", lambda run: (run / "env.json").write_text("{}"), "git_sha"),
        ("averages that are words", edited("metrics.json", before_training={"test": {"fmse": "a"}}), "no records as runs write"),
    )),
)  # fmt: skip


def figure(run: Path) -> Path:
    """Of notebook 04, which `report` shows as it is."""
    folder = run.parents[2] / "figures"
    folder.mkdir()
    return folder / "lemart_figure1.png"


def _long(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"transforms": [[]] * 1_000_000}))


def _protocols(file: Path) -> None:
    columns, *rows = file.read_text().splitlines()
    row = rows[-1].split(",")
    place = columns.split(",").index("protocol")
    rows = (",".join([*row[:place], f"p{number}", *row[place + 1 :]]) for number in range(40_000))
    file.write_text("\n".join([columns, *rows]))


def _report(change, folder: Path) -> list:
    root = folder / "results/quick"
    root.mkdir(parents=True)
    for name in ("identity", "histogram", "unet", "s2am"):
        skipped = shutil.ignore_patterns("examples")
        shutil.copytree(ROOT / "results/quick/runs" / name, root / "runs" / name, ignore=skipped)
    change(root / "runs/identity/seed0")
    return ["report", "--profile", "quick", "--data", "embedded"]


def _reprotocol(run: Path) -> None:
    text = (run / "per_image.csv").read_bytes()
    (run / "per_image.csv").write_bytes(text.replace(b"bcmi256@64", b"bcmi256@<script>"))
