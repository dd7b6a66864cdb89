"""What the commands start from (a set in COCO's format, pictures, a server that breaks off), and processes to kill."""

import json
import os
import re
import shutil
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import find_contours

PHOTOGRAPHS = 44  # so many that the pairs are made by several processes
FETCHED = 24
LISTED = "2018_04/test/test-images-with-rotation.csv"
_servers: dict[Path, "Server"] = {}


def write_coco(embedded: Path, root: Path) -> None:
    """Scenes of the embedded set and their masks as photographs with outlines, in COCO's format."""
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    masks = sorted(embedded.glob("H*/masks/*scene*_1.png"))[:PHOTOGRAPHS]
    for number, mask in enumerate(masks, 1):
        real = mask.parent.parent / "real_images" / f"{mask.stem.removesuffix('_1')}.jpg"
        shutil.copy(real, root / "images" / f"{number:06d}.jpg")
        inside = np.pad(np.asarray(Image.open(mask)) > 127, 1)
        outline = max(find_contours(inside.astype(float), 0.5), key=len)[:, ::-1] - 0.5
        height, width = np.subtract(inside.shape, 2).tolist()
        images.append({"id": number, "file_name": f"{number:06d}.jpg", "width": width, "height": height})
        polygon = outline.clip(0, [width, height]).round(1).ravel().tolist()
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1 + number % 2, "segmentation": [polygon], "iscrowd": 0}
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}],
    }
    (root / "annotations" / "instances_toy.json").write_text(json.dumps(content))


def write_pictures(embedded: Path, base: Path, count: int = 6) -> None:
    """Composites and their masks under the same names."""
    for name in ("pictures", "masks"):
        (base / name).mkdir()
    for composite in sorted(embedded.glob("HFlickr/composite_images/*_1_1.jpg"))[:count]:
        shutil.copy(composite, base / "pictures")
        mask = embedded / "HFlickr" / "masks" / f"{composite.stem.removesuffix('_1')}.png"
        shutil.copy(mask, base / "masks" / f"{composite.stem}.png")


def write_venv(base: Path) -> None:
    """A stand-in for .venv: this very Python."""
    (base / "venv" / "bin").mkdir(parents=True)
    shim = base / "venv" / "bin" / "python"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    (base / "venv" / ".ready").touch()


class Server(ThreadingHTTPServer):
    """The pictures of a folder as Open Images, with ranges; every third answer breaks off, all are slow."""

    daemon_threads = True

    def __init__(self, pictures: list[Path]):
        super().__init__(("127.0.0.1", 0), Handler)
        names = [f"{number:016x}" for number in range(len(pictures))]
        self.files = {f"/test/{name}.jpg": path.read_bytes() for name, path in zip(names, pictures, strict=True)}
        self.files[f"/{LISTED}"] = "\n".join(["ImageID", *names, ""]).encode()
        self.answers = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Clients that are killed hang up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        mark, asked = f'"{sha256(body).hexdigest()}"', re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        first = int(asked[1]) if asked and self.headers["If-Range"] == mark else 0
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.send_header("ETag", mark)
        self.end_headers()
        self.server.answers += 1
        rest = body[first:]
        if self.server.answers % 3 == 0 and len(rest) > 1:
            rest, self.close_connection = rest[: len(rest) // 2], True
        for start in range(0, len(rest), 4096):
            self.wfile.write(rest[start : start + 4096])
            self.wfile.flush()
            time.sleep(0.01)


def serve(base: Path) -> Server:
    if base not in _servers:
        pictures = sorted((base / "data" / "embedded-80").glob("HFlickr/composite_images/*.jpg"))[:FETCHED]
        _servers[base] = Server(pictures)
    return _servers[base]


def fetch(harmony: list[str], base: Path, folder: Path) -> list:
    address = f"http://127.0.0.1:{serve(base).server_address[1]}"
    words = f"data fetch open-images --base {address} --workers 2 --limit {FETCHED} --to"
    return [*harmony, *words.split(), folder / "set"]


def processes(folder: Path) -> list[int]:
    """Those that were started for a folder and live, whoever their parent is now."""
    mark, found = f"TORTURE_FOLDER={folder}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            alive = b") Z" not in (path / "stat").read_bytes()
            if alive and mark in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def kill_all(folder: Path) -> None:
    for pid in processes(folder):
        kill(pid)


def kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
