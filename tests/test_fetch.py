"""Sets of photographs over HTTP, from a real server on loopback that breaks off, answers wrongly, and is slow.

Whatever happens, a file under its own name is the one that was published: the server looks after that in every test.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections import Counter, defaultdict, deque
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import urllib3
from PIL import Image
from test_coco_mini import write_coco

from harmonylib.cli import main
from harmonylib.data import download, fetch
from harmonylib.data.coco import read_objects
from harmonylib.data.layout import read_entries
from harmonylib.data.locate import photographs
from harmonylib.data.verify import verify
from harmonylib.paths import alone

IMAGES = 12
SIZE = (64, 48)
ARCHIVE = "/annotations/annotations_trainval2017.zip"
MEMBER = "annotations/instances_val2017.json"
THIRD = "/val2017/000000000003.jpg"
DAY = "Mon, 01 Jan 2024 00:00:00 GMT"


class Server(ThreadingHTTPServer):
    """Serves `files` with ranges and ETags; the next of a path's `faults`, if any, answers instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults = {}, defaultdict(deque)
        self.asked, self.sent = [], Counter()  # (path, Range or None); bytes of bodies by path
        self.reached, self.go_on = threading.Event(), threading.Event()  # of the slow answer

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the game."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Range"]))
        faults = self.server.faults[self.path]
        (faults.popleft() if faults else ranges)(self, self.server.files.get(self.path))

    def answer(self, status: int, body: bytes = b"", announced: int | None = None, **headers):
        """`announced` bytes where that is not the truth; the connection ends after a body that is too short."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        for field, value in headers.items():
            self.send_header(field.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.server.sent[self.path] += len(body)
        self.close_connection = announced is not None


def etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def ranges(handler, body, mark=etag, field="ETag"):
    """What a sound server does."""
    if body is None:
        return handler.answer(404)
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
    if not asked or handler.headers["If-Range"] != mark(body):
        return handler.answer(200, body, **{field: mark(body)})
    start = int(asked[1])
    span = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return handler.answer(206, body[start:], Content_Range=span, **{field: mark(body)})


def status(code, **headers):
    return lambda handler, body: handler.answer(code, b"not now", **headers)


def whole(content, **headers):
    """This content, whatever is asked for."""
    return lambda handler, body: handler.answer(200, content, **headers)


def drop(share, content=None, **headers):
    """A part of the body, and the end of the connection."""

    def fault(handler, body):
        body = content or body
        marked = headers or {"ETag": etag(body)}
        handler.answer(200, body[: int(share * len(body))], announced=len(body), **marked)

    return fault


def slow(handler, body):
    """Half of the body, and the rest when the test says so."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", etag(body))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.server.reached.set()
    handler.server.go_on.wait(20)
    handler.close_connection = True


def jpeg(seed: int, size=SIZE) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def listing(names=None) -> bytes:
    """COCO's JSON, not in the order of ids, with one outlined object."""
    names = names or [f"{number:012}.jpg" for number in range(1, IMAGES + 1)]
    images = [{"id": i, "file_name": n, "width": SIZE[0], "height": SIZE[1]} for i, n in enumerate(names, 1)]
    outline = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[8, 8, 40, 8, 40, 40, 8, 40]]}
    categories = [{"id": 1, "name": "thing"}]
    return json.dumps({"images": images[::-1], "annotations": [outline], "categories": categories}).encode()


def zipped(**more: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ({MEMBER: listing(), "annotations/captions_val2017.json": b"{}"} | more).items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pause between tries, and pieces so small that a broken connection leaves some of a small picture."""
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(download, "CHUNK", 256)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(tmp_path):
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.files = {f"/val2017/{number:012}.jpg": jpeg(number) for number in range(1, IMAGES + 1)}
        published = {path[1:]: body for path, body in running.files.items()} | {MEMBER: listing()}
        yield running
        running.go_on.set()
        running.shutdown()
        thread.join()
    for path in (tmp_path / "set").rglob("*.jp*g"):
        assert path.read_bytes() == published[path.relative_to(tmp_path / "set").as_posix()]
    for path in (tmp_path / "set").rglob("*.json"):
        assert path.read_bytes() == published[MEMBER]


@pytest.fixture
def coco(server, monkeypatch):
    """Offers an archive under COCO's address, with the size and MD5 that go with it."""

    def offer(archive: bytes) -> None:
        server.files[ARCHIVE] = archive
        known = {"size": len(archive), "md5": hashlib.md5(archive).hexdigest(), "room": 1000, "photographs": IMAGES}
        monkeypatch.setitem(fetch.SETS, "coco-val2017", replace(fetch.SETS["coco-val2017"], **known))

    offer(zipped())
    return offer


@pytest.fixture
def get(server, coco, tmp_path):
    """Fetches the made-up val2017 from the server."""

    def run(limit=None, to=tmp_path / "set", say=lambda line: None, **options):
        options = {"base": server.base, "workers": 3} | options
        return fetch.fetch("coco-val2017", limit, to=to, say=say, **options)

    return run


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "val2017").iterdir() if path.suffix == ".jpg")


def unfinished(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.part"))


def asked_for(server, path: str) -> list[str | None]:
    return [span for asked, span in server.asked if asked == path]


def test_a_whole_set_arrives(server, get, tmp_path):
    told = []
    folder = get(say=told.append)
    assert folder == tmp_path / "set" and len(pictures(folder)) == IMAGES
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {MEMBER} | {path[1:] for path in server.files if path != ARCHIVE}  # the archive is gone
    assert any("12 of 12 images" in line and "2.0 MB" in line and "estimated" in line for line in told)
    assert [o.file.name for o in read_objects(folder)] == ["000000000001.jpg"]


def test_bars_are_for_terminals_that_want_them(get, capfd):
    get()
    assert capfd.readouterr().err == ""
    program = [sys.executable, "-c", "from harmonylib.data import QUIET; print(QUIET)"]
    for word, expected in (("1", "True"), ("", "None")):
        told = subprocess.run(program, env=os.environ | {"TQDM_DISABLE": word}, capture_output=True, text=True)
        assert told.stdout.strip() == expected


def test_the_default_folder_is_the_one_that_is_looked_into(server, monkeypatch, tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("annotations/image_info_unlabeled2017.json", listing())
    server.files = {p.replace("val2017", "unlabeled2017"): body for p, body in server.files.items()}
    server.files["/annotations/image_info_unlabeled2017.zip"] = archive.getvalue()
    monkeypatch.setitem(
        fetch.SETS, "coco-unlabeled2017", replace(fetch.SETS["coco-unlabeled2017"], md5=None, photographs=IMAGES)
    )
    fetch.fetch("coco-unlabeled2017", 5, server.base)
    assert len(photographs("unlabelled", tmp_path)) == 5


def test_open_images_come_in_the_order_of_their_list(server, tmp_path):
    names = ["00f0", "00a1", "00c2"]
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerows([["ImageID", "Title"], *([name, 'a "title"\nof\u2028three lines'] for name in names)])
    server.files = {f"/test/{name}.jpg": jpeg(7) for name in names}
    server.files["/2018_04/test/test-images-with-rotation.csv"] = text.getvalue().encode()
    fetch.fetch("open-images", 2, server.base)
    assert {path.stem for path in photographs("open-images", tmp_path)} == {"00f0", "00a1"}


def test_a_limit_takes_the_first_by_id_and_a_larger_one_only_the_rest(server, get):
    assert pictures(get(limit=4)) == [f"{number:012}.jpg" for number in (1, 2, 3, 4)]
    server.asked.clear()
    get(limit=6)
    assert sorted(path for path, _ in server.asked) == [f"/val2017/{number:012}.jpg" for number in (5, 6)]


def test_the_second_time_the_server_is_asked_for_nothing(server, get):
    get()
    server.asked.clear()
    assert len(pictures(get())) == IMAGES
    assert server.asked == []


def test_a_broken_connection_goes_on_where_it_stopped(server, get):
    server.faults[THIRD].append(drop(0.5))
    server.faults[ARCHIVE].append(drop(0.9))
    folder = get()
    for path in (THIRD, ARCHIVE):
        first, second = asked_for(server, path)
        assert first is None and re.fullmatch(r"bytes=[1-9]\d*-", second)
        assert len(server.files[path]) <= server.sent[path] <= len(server.files[path]) + download.CHUNK
    assert len(pictures(folder)) == IMAGES and unfinished(folder) == []


def test_the_next_run_goes_on_with_what_the_last_one_left(server, get, tmp_path, refused):
    leave_a_part(server, get, refused)
    assert unfinished(tmp_path / "set") == ["000000000003.jpg.part", "000000000003.jpg.tag.part"]
    assert len(pictures(get())) == IMAGES
    assert [path for path, _ in server.asked] == [THIRD] and server.asked[0][1] is not None
    assert unfinished(tmp_path / "set") == []


def leave_a_part(server, get, refused) -> None:
    server.faults[THIRD].extend([drop(0.5), *[status(503)] * 3])
    with refused("1 of 12", THIRD, "503"):
        get()
    server.asked.clear()


def test_what_came_from_another_address_is_not_gone_on_with(server, get, refused):
    leave_a_part(server, get, refused)
    server.files |= {f"/mirror{path}": body for path, body in server.files.items()}
    get(base=f"{server.base}/mirror/")
    assert server.asked == [(f"/mirror{THIRD}", None)]


def test_a_run_that_ended_after_the_last_byte_only_has_to_check(server, get, tmp_path, refused):
    leave_a_part(server, get, refused)
    (tmp_path / "set/val2017/000000000003.jpg.part").write_bytes(server.files[THIRD])
    get()
    assert server.asked == []


def test_many_breaks_are_no_reason_to_give_up_while_it_gets_on(server, get):
    def next_bytes(handler, body):
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        span = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        end = start + len(body) // 9
        handler.answer(206 if start else 200, body[start:end], announced=len(body) - start, ETag=etag(body), **span)

    server.faults[THIRD].extend([next_bytes] * 8)  # more than there are tries
    assert len(pictures(get())) == IMAGES
    assert len(asked_for(server, THIRD)) == 9


@pytest.mark.parametrize("field", ["ETag", "Last-Modified"])
def test_either_mark_of_a_version_is_enough_to_go_on(server, get, field):
    mark = etag if field == "ETag" else lambda body: DAY
    server.faults[THIRD].extend(
        [drop(0.5, **{field: mark(server.files[THIRD])}), lambda h, b: ranges(h, b, mark, field)]
    )
    get()
    assert asked_for(server, THIRD)[1] is not None and server.sent[THIRD] < 1.3 * len(server.files[THIRD])


@pytest.mark.parametrize("headers", [{"Server": "x"}, {"ETag": 'W/"weak"'}])
def test_without_a_mark_of_its_version_a_file_starts_over(server, get, headers):
    server.faults[THIRD].append(drop(0.5, **headers))
    get()
    assert asked_for(server, THIRD) == [None, None]


def test_a_server_without_ranges_sends_it_all_again(server, get):
    server.faults[THIRD].extend([drop(0.5), whole(server.files[THIRD])])
    get()
    assert len(asked_for(server, THIRD)) == 2


def old_picture(seed=99) -> bytes:
    return jpeg(seed)


def test_a_changed_file_is_not_joined_to_what_came_of_the_old_one(server, get):
    server.faults[THIRD].append(drop(0.5, content=old_picture()))
    get()  # the server compares If-Range, and answers with the whole new file
    assert asked_for(server, THIRD)[1] is not None and server.sent[THIRD] > 1.3 * len(server.files[THIRD])


def regardless(handler, body):
    """The rest of a file, whatever If-Range says, as some servers do."""
    start = int(handler.headers["Range"][6:-1])
    handler.answer(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", ETag=etag(body))


@pytest.mark.parametrize("same_length", [True, False])
def test_nor_is_it_where_the_server_does_not_look_at_the_mark(server, get, same_length):
    other = old_picture()
    length = len(server.files[THIRD])
    other = (other + bytes(length))[:length] if same_length else other + b"more"
    server.faults[THIRD].extend([drop(0.5, content=other), regardless])
    get()
    assert asked_for(server, THIRD)[2] is None


@pytest.mark.parametrize("span", ["bytes 0-{end}/{total}", "bytes {start}-{end}/*", "nonsense", ""])
def test_a_rest_from_another_place_is_not_joined(server, get, span):
    def wrong(handler, body):
        start = int(handler.headers["Range"][6:-1])
        told = span.format(start=start, end=len(body) - 1, total=len(body))
        handler.answer(206, body[start:], Content_Range=told, ETag=etag(body))

    server.faults[THIRD].extend([drop(0.5), wrong])
    get()
    assert asked_for(server, THIRD)[2] is None


def test_a_file_that_became_shorter_starts_over(server, get):
    server.faults[THIRD].extend([drop(0.5, content=old_picture() * 2), status(416)])
    get()
    assert asked_for(server, THIRD)[2] is None


def test_pieces_that_make_no_picture_are_thrown_away_once(server, get):
    good = server.files[THIRD]
    damaged = drop(0.5, content=bytes(len(good)), ETag=etag(good))
    server.faults[THIRD].append(damaged)
    get()
    first, second, third = asked_for(server, THIRD)
    assert (first, third) == (None, None) and second is not None


@pytest.mark.parametrize("code", [500, 503, 429])
def test_errors_that_pass_are_waited_for(server, get, code):
    server.faults[THIRD].extend([status(code)] * 2)
    assert len(pictures(get())) == IMAGES
    assert len(asked_for(server, THIRD)) == 3


def test_an_error_that_stays_ends_after_some_tries_and_the_others_are_there(server, get, tmp_path, refused):
    server.faults[THIRD].extend([status(500)] * 50)
    with refused("1 of 12", THIRD, "500", "4 times", "same command"):
        get()
    assert len(asked_for(server, THIRD)) == 4 and len(pictures(tmp_path / "set")) == IMAGES - 1


@pytest.mark.parametrize("code", [404, 403, 410])
def test_missing_images_are_named_and_not_asked_for_twice(server, get, tmp_path, refused, code):
    server.faults[THIRD].append(status(code))
    server.faults["/val2017/000000000009.jpg"].append(status(code))
    with refused("2 of 12", THIRD, code, "same command"):
        get()
    assert len(asked_for(server, THIRD)) == 1 and len(pictures(tmp_path / "set")) == IMAGES - 2


def test_pauses_grow_and_follow_the_server_up_to_a_bound(server, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "PAUSES", (1, 2, 4))
    monkeypatch.setattr(download.Downloader, "_pause", lambda self, seconds: pauses.append(seconds))
    far = "Fri, 01 Jan 2100 00:00:00 GMT"
    server.faults[ARCHIVE].extend([status(503), status(503), status(429, Retry_After="7")])
    server.faults[THIRD].extend(
        [status(429, Retry_After="999999"), status(503, Retry_After=far), status(503, Retry_After=DAY)]
    )
    get(workers=1)
    assert pauses == [1, 2, 7, 60, 60, 4]


def test_too_many_failures_in_a_row_end_it(server, get, monkeypatch, refused):
    monkeypatch.setattr(fetch, "GIVE_UP", 5)
    monkeypatch.setattr(fetch, "AHEAD", 1)
    server.files = {ARCHIVE: server.files[ARCHIVE]}
    with refused("5 failures in a row", "000000000001.jpg", "404"):
        get(workers=1)
    assert len(server.asked) < IMAGES


def test_a_body_shorter_than_announced_is_never_whole(server, get, tmp_path, refused):
    server.faults[THIRD].extend([drop(0.9, ETag='W/"no"')] * 4)
    with refused("1 of 12", THIRD):
        get()
    assert unfinished(tmp_path / "set") == ["000000000003.jpg.part"]


def test_a_length_that_is_announced_too_short_is_found_by_decoding(server, get, refused):
    short = len(server.files[THIRD]) // 2
    server.faults[THIRD].append(lambda handler, body: handler.answer(200, body, announced=short))
    with refused("1 of 12", THIRD, "decoded"):
        get(workers=1)


def chunked(*chunks: bytes, end=b"0\r\n\r\n"):
    def fault(handler, body):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        handler.wfile.write(end)
        handler.close_connection = True

    return fault


def test_a_body_in_chunks_is_whole_with_its_last_chunk_only(server, get):
    good = server.files[THIRD]
    server.faults[THIRD].extend([chunked(good, end=b""), chunked(good[:500], good[500:])])
    server.faults[ARCHIVE].extend([chunked(server.files[ARCHIVE][:-9]), chunked(server.files[ARCHIVE])])
    get()
    assert len(asked_for(server, THIRD)) == len(asked_for(server, ARCHIVE)) == 2


def test_no_more_is_written_than_a_file_can_be(server, get, monkeypatch, tmp_path, refused):
    seen = []
    server.faults["/x"].extend([chunked(*[bytes(1000)] * 9)] * 4)
    with refused("/x", "more bytes"):
        download.Downloader().get(f"{server.base}/x", tmp_path / "x", lambda part: None, size=3000, moved=seen.append)
    assert max(seen) <= 3000 and not list(tmp_path.glob("x*"))
    monkeypatch.setattr(fetch, "PHOTOGRAPH", 2000)
    server.faults[THIRD].append(chunked(*[bytes(1000)] * 9))
    with refused("12 of 12", "more than 2,000 are refused"):
        get()
    assert len(asked_for(server, THIRD)) == 1


def drip(handler, body):
    """A byte now and then, as long as somebody listens."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for start in range(len(body)):
        handler.wfile.write(body[start : start + 1])
        handler.server.go_on.wait(0.05)


@pytest.mark.skipif(not hasattr(urllib3.HTTPResponse, "read1"), reason="urllib3 1 returns whole pieces only")
def test_what_drips_is_given_up(server, get, monkeypatch, refused):
    monkeypatch.setattr(download, "WATCHED", 0.3)
    monkeypatch.setattr(download, "CHUNK", 1 << 14)
    server.faults[THIRD].append(drip)
    with refused("1 of 12", THIRD, "2,000 bytes a second"):
        get()
    assert len(asked_for(server, THIRD)) == 1


def test_a_body_without_any_length_is_refused(server, get, refused):
    def bare(handler, body):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)

    server.faults[THIRD].append(bare)
    with refused("1 of 12", THIRD, "how long"):
        get()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>Please log in</html>", "decoded"),
        (b"", "decoded"),
        (jpeg(3)[:-900], "decoded"),
        (jpeg(3, (48, 64)), "48x64 px"),
    ],
    ids=["page", "empty", "truncated", "another size"],
)
def test_wrong_content_never_gets_the_name(server, get, tmp_path, refused, content, words):
    server.faults[THIRD].append(whole(content))
    with refused("1 of 12", THIRD, words):
        get()
    assert unfinished(tmp_path / "set") == [] and len(pictures(tmp_path / "set")) == IMAGES - 1


def test_another_archive_is_refused(server, get, tmp_path, refused):
    good = server.files[ARCHIVE]
    server.faults[ARCHIVE].extend([whole(good + b" "), whole(good[:-1] + b"x")])
    with refused(ARCHIVE, f"announces {len(good) + 1} bytes, not {len(good)}"):
        get()
    with refused(ARCHIVE, "MD5"):
        get()
    assert [path.name for path in (tmp_path / "set").rglob("*") if path.is_file()] == []


def test_compression_and_a_weaker_protocol_are_refused(server, get, refused):
    server.faults[ARCHIVE].extend([whole(b"x", Content_Encoding="gzip"), status(302, Location="ftp://127.0.0.1/x")])
    with refused("compresses"):
        get()
    with refused("ftp"):
        get()
    session = download._Session()
    response = SimpleNamespace(url="https://a.example/x", headers={"location": "http://b.example/x"}, is_redirect=True)
    with refused("sends on to http"):
        session.get_redirect_target(response)


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "http://[::1"},
        {"Location": "http://a b\xff/"},
        {"Location": f"http://{'a' * 70}/"},
        {"Location": f"http://127.0.0.1:{'9' * 5000}/"},
    ],
)
def test_a_redirect_to_no_address_is_refused(server, get, refused, headers):
    server.faults[THIRD].append(status(302, **headers))
    with refused("1 of 12", THIRD):
        get()


def test_the_body_of_a_redirect_is_not_read(server, get):
    def endless(handler, body):
        handler.send_response(302)
        handler.send_header("Location", THIRD)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        handler.wfile.write(bytes(1 << 10))
        assert not handler.server.go_on.wait(5)
        handler.close_connection = True

    server.faults[THIRD].append(endless)
    get()
    assert server.asked[-1] is not None and len(asked_for(server, THIRD)) == 2


def test_redirects_without_end_are_refused(server, get, refused):
    server.faults[THIRD].extend([status(302, Location=THIRD)] * 40)
    with refused(f"the first: {server.base}{THIRD}: ", "30 redirects)", "another address"):
        get()


def test_lengths_of_thousands_of_digits_are_refused(server, get, refused):
    server.faults[THIRD].append(lambda handler, body: handler.answer(200, body, announced="9" * 5000))
    rest = status(206, Content_Range=f"bytes {'9' * 5000}-1/2")
    server.faults["/val2017/000000000004.jpg"].extend([drop(0.5), rest])
    with refused("2 of 12", THIRD, "5000 digits"):
        get()


def test_a_redirect_is_followed(server, get):
    server.faults[THIRD].append(status(302, Location="/val2017/000000000003.jpg"))
    assert len(pictures(get())) == IMAGES


def test_too_little_room_is_said_before_anything_is_asked_for(server, get, monkeypatch, refused):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000))
    with refused("2.0 MB needed", "1.5 MB free", "--limit"):
        get()
    assert server.asked == []
    assert len(pictures(get(limit=5))) == 5
    with refused("1.2 MB needed", "1.0 MB free"):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
        get()


def test_a_disk_that_is_full_in_the_middle_ends_it(server, get, monkeypatch, tmp_path, refused):
    rooms = iter([10**9, 10**9, 10**9])  # before the list, for the archive, before the images
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(rooms, 10)))
    with refused("No space left", "kept"):
        get()
    assert pictures(tmp_path / "set") == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "/etc/evil.jpg",
        "a\\evil.jpg",
        "..",
        "a\0.jpg",
        "evil.png",
        "C:evil.jpg",
        ".jpg",
        "a b.jpg",
        "a\n.jpg",
    ],
)
def test_hostile_names_of_images_are_refused(server, coco, get, tmp_path, refused, name):
    coco(zipped(**{MEMBER: listing(["fine.jpg", name])}))
    with refused("no plain name", MEMBER.split("/")[0]):
        get()
    assert [path for path, _ in server.asked] == [ARCHIVE]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"",
        b'{"images": []}',
        b'{"images": 3}',
        b'{"images": [{"id": 1e999}]}',
        b"Title,ImageID\nshort",
        b"ImageID\n\xff",
        listing(["a.jpg", "A.jpg"]),
    ],
)
def test_lists_that_are_none_are_refused(server, coco, get, tmp_path, refused, content):
    coco(zipped(**{MEMBER: content}))
    with refused("list" if b"A.jpg" not in content else "twice"):
        get()
    server.files["/2018_04/test/test-images-with-rotation.csv"] = content
    with refused("list" if b"A.jpg" not in content else "twice"):
        fetch.fetch("open-images", base=server.base, to=tmp_path / "other", limit=3)  # all are 40 GB of disk
    assert not list((tmp_path / "other").glob("*.csv")) and not (tmp_path / "set" / MEMBER).exists()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil", "a\\b"])
def test_archives_that_lead_out_are_refused(server, coco, get, tmp_path, refused, name):
    coco(zipped(**{name: b"evil"}))
    with refused("leads out", "refused"):
        get()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_archives_with_links_are_refused(coco, get, refused):
    file = io.BytesIO(zipped())
    with zipfile.ZipFile(file, "a") as archive:
        link = zipfile.ZipInfo("annotations/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
    coco(file.getvalue())
    with refused("link", "refused"):
        get()


def test_members_that_are_too_large_missing_or_broken_are_refused(coco, get, monkeypatch, tmp_path, refused):
    real = (len(listing())).to_bytes(4, "little")
    lying = zipped().replace(real, (50).to_bytes(4, "little"))  # says 50 bytes, inflates to more
    assert lying != zipped()
    for archive, words in [
        (lying, "CRC"),
        (b"PK but no archive", "zip"),
        (zipped().replace(MEMBER.encode(), b"annotations/instances_val2O17.json"), f"no {MEMBER}"),
    ]:
        coco(archive)
        with refused(words, "refused"):
            get()
    monkeypatch.setattr(download, "MOST", len(listing()) - 1)
    coco(zipped())
    with refused("more than", "refused"):
        get()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "imagenet"}, "coco-val2017, coco-unlabeled2017, open-images"),
        *(({"limit": limit}, "limit") for limit in (0, -1, 2.5, "5", True)),
        *(({"workers": workers}, "workers") for workers in (0, 65, 1.0, "8")),
        *(
            ({"base": base}, "base")
            for base in ("", "ftp://a.example", "a.example", "http://", "http://a:b/", "http://a/?x", "http://\udcff")
        ),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, refused, options, words):
    with refused(words):
        fetch.fetch(**{"name": "coco-val2017", "to": tmp_path / "set"} | options)
    assert not (tmp_path / "set").exists()


def test_two_at_once_do_not_meet(server, get, tmp_path, refused):
    (tmp_path / "set").mkdir()
    with alone(tmp_path / "set" / ".lock", lambda: None), refused("another process"):
        get()
    assert server.asked == [] and len(pictures(get())) == IMAGES


def test_an_interruption_leaves_whole_files_and_parts_only_and_asks_for_nothing_more(
    server, get, monkeypatch, tmp_path
):
    class Bar(fetch.tqdm):
        def __init__(self, *words, **options):
            super().__init__(*words, **options | {"disable": False})  # TQDM_DISABLE would leave it without a count

        def update(self, n=1):
            if self.unit == "image" and self.n == 4:
                raise KeyboardInterrupt
            return super().update(n)

    monkeypatch.setattr(fetch, "tqdm", Bar)
    monkeypatch.setattr(download, "PAUSES", (5,))
    for number in (6, 7):  # both workers wait for their next try
        server.faults[f"/val2017/{number:012}.jpg"].append(status(503))
    with pytest.raises(KeyboardInterrupt):
        get(workers=2)
    assert pictures(tmp_path / "set") == [f"{number:012}.jpg" for number in (1, 2, 3, 4, 5)]
    asked = [path for path, _ in server.asked if path != ARCHIVE]
    assert len(asked) <= 7 and len(set(asked)) == len(asked)


def test_a_killed_process_leaves_nothing_that_is_taken_for_whole(server, get, tmp_path):
    server.faults[THIRD].append(slow)
    program = f"""
        from dataclasses import replace
        from harmonylib.data import download, fetch
        download.CHUNK = 256
        known = dict(size={fetch.SETS["coco-val2017"].size}, md5="{fetch.SETS["coco-val2017"].md5}", room=1000)
        fetch.SETS["coco-val2017"] = replace(fetch.SETS["coco-val2017"], photographs={IMAGES}, **known)
        fetch.fetch("coco-val2017", base="{server.base}", to={str(tmp_path / "set")!r}, workers=1)
    """
    half = len(server.files[THIRD]) // 2
    part = tmp_path / "set" / "val2017" / "000000000003.jpg.part"
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parent.parent) as child:
        try:
            assert server.reached.wait(20)
            for _ in range(2000):
                if part.exists() and part.stat().st_size > half - 256:
                    break
                server.go_on.wait(0.01)
        finally:
            os.kill(child.pid, signal.SIGKILL)
    server.go_on.set()
    assert pictures(tmp_path / "set") == ["000000000001.jpg", "000000000002.jpg"]
    server.asked.clear()
    assert len(pictures(get())) == IMAGES
    assert re.fullmatch(r"bytes=[1-9]\d*-", asked_for(server, THIRD)[0])
    assert ARCHIVE not in dict(server.asked) and unfinished(tmp_path / "set") == []


def test_one_command_from_a_network_to_a_training_set(server, coco, monkeypatch, tmp_path, capsys):
    """What a user with nothing types; a picture is broken off on the way, and the second time nothing is asked for."""
    monkeypatch.setenv("HARMONY_DATA", str(tmp_path / "data"))
    write_coco(tmp_path / "published", count=IMAGES)
    images = sorted((tmp_path / "published/images").iterdir())
    server.files = {f"/val2017/{path.name}": path.read_bytes() for path in images}
    instances = (tmp_path / "published/annotations/instances_made_up.json").read_bytes()
    coco(zipped(**{MEMBER: instances}))
    server.faults[f"/val2017/{images[4].name}"].append(drop(0.5))
    command = ["data", "prepare", "coco-mini", "--base", server.base, "--size", "32"]
    assert main(command) == 0
    entries = [e for split in ("train", "val", "test") for e in read_entries(tmp_path / "data/coco-mini", "all", split)]
    assert len({entry.photo for entry in entries}) > 6 and verify(tmp_path / "data/coco-mini")[1] == []
    told = capsys.readouterr()
    assert f"{len(entries)} composites at 32 px" in told.out and told.err == ""
    count = len(server.asked)
    assert main(command) == 0 and len(server.asked) == count
