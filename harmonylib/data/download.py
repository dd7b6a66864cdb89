"""One file over HTTP, or one member of a zip archive: whole and checked under its name, or not there at all.

A file grows as ``NAME.part`` and gets its name when it is as long as the server said and has passed the caller's check.
One that broke off goes on where it stopped, in this process or a later one. ``NAME.tag.part`` keeps how the server
marked that version of the file (ETag or Last-Modified); without a mark nobody could tell that the rest belongs to the
same version, and the file starts over.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
from requests.packages.urllib3 import exceptions

from harmonylib import __version__
from harmonylib.errors import HarmonyError, one_line
from harmonylib.paths import shown
from harmonylib.reading import DAMAGE

PAUSES = (1, 2, 4, 8, 16)  # s, before the next try; more tries in a row that get no further end it
LONGEST_PAUSE = 60  # s, of those that a server asks for
TIMEOUTS = (10, 30)  # s, until there is a connection, and between two pieces of a body
SLOWEST, WATCHED = 2000, 60  # bytes a second, over so many seconds: what drips would never end
CHUNK = 1 << 14  # bytes; a connection that breaks takes up to so many with it
MOST = 4 << 30  # bytes of a list or a member, where its size is not known
BROKEN = (requests.ConnectionError, requests.Timeout)
BROKEN += (exceptions.ProtocolError, exceptions.TimeoutError, exceptions.SSLError)  # while a body is read
PASSING = {408, 416, 429}  # besides 5xx: what may go well the next time


class Damaged(Exception):
    """What arrived is whole, but not what was asked for; the message says why."""


class Stopped(Exception):
    """Somebody has set `Downloader.stop`."""


class _Again(Exception):
    def __init__(self, why: str, pause: float = 0):
        super().__init__(why)
        self.pause = pause  # s, that the server asks for


class Downloader:
    """Gets files, from several threads at once if need be, each with a session of its own.

    stop: set it, and every `get` under way ends with `Stopped` at its next piece or pause.
    """

    def __init__(self):
        self.stop = threading.Event()
        self._own = threading.local()

    def get(self, url: str, path: Path, check: Callable, size: int | None = None, moved=None, most: int = MOST) -> None:
        """`url` as `path`, unless it is there. Its folder must be.

        check: raises `Damaged` on a file that is not what it should be; size: bytes, where known; moved: is called with
        the bytes that are there so far; most: bytes, where their number is not known. Connections that fail or break
        off, 5xx, and the answers of `PASSING` are tried again. A damaged file is asked for once more where it came in
        pieces; one that came in one piece is what the server has. Raises HarmonyError where the file cannot be had or
        comes too slowly, and OSError where it cannot be written.
        """
        part = _Part(path, url)
        furthest = fruitless = 0
        while not path.exists():
            try:
                in_pieces = self._receive(part, size, moved, most)
                try:
                    check(part.file)
                except Damaged as why:
                    part.discard()
                    raise (_Again(str(why)) if in_pieces else HarmonyError(f"{url}: {why}")) from None
                part.tag.unlink(missing_ok=True)
                _settle(part.file, path)
            except _Again as problem:
                fruitless = 1 if part.length > furthest else fruitless + 1
                furthest = max(furthest, part.length)
                if fruitless > len(PAUSES):
                    raise HarmonyError(f"{url}: {problem}, {fruitless} times in a row; try again later") from None
                self._pause(max(problem.pause, PAUSES[fruitless - 1]))

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped

    def _receive(self, part: "_Part", size: int | None, moved, most: int) -> bool:
        """One request, after which all bytes are there. True where they came in more than one piece."""
        mark, total = part.marked()
        have = part.length if mark else 0
        if mark and have == total:  # the last process ended between the last byte and the check
            return True
        ask = {"Range": f"bytes={have}-", "If-Range": mark} if have else {}
        try:
            with self._session().get(part.url, headers=ask, stream=True, timeout=TIMEOUTS) as answer:
                _refuse_status(answer, part)
                if answer.status_code == 206:
                    _refuse_other_rest(answer, part, have, mark, total)
                else:
                    have, total = 0, _announced(answer, part.url, size, most)
                    part.begin(answer, total)
                if (total or 0) - have > shutil.disk_usage(part.file.parent).free:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.file))
                self._write(answer, part, total or size, moved, most)
        except BROKEN as problem:
            raise _Again(f"the connection failed ({type(problem).__name__})") from None
        except (requests.RequestException, ValueError) as problem:  # the second: of headers that nobody can read
            reason = one_line(str(problem)).rstrip(".")
            raise HarmonyError(f"{part.url}: no sensible answer ({reason}); take another address") from None
        return have > 0

    def _write(self, answer, part: "_Part", total: int | None, moved, most: int) -> None:
        length, since, then = part.length, time.monotonic(), part.length
        read = getattr(answer.raw, "read1", answer.raw.read)  # what has come; urllib3 1 waits for the whole piece
        with part.file.open("ab") as file:
            for piece in iter(partial(read, CHUNK), b""):
                if self.stop.is_set():
                    raise Stopped
                length += len(piece)
                if length > (total or most):
                    part.discard()
                    if total:
                        raise _Again("more bytes came than announced")
                    raise HarmonyError(f"{part.url}: more than {most:,} bytes came; take another address")
                if (now := time.monotonic()) - since > WATCHED:
                    if length - then < SLOWEST * WATCHED:
                        raise HarmonyError(f"{part.url}: less than {SLOWEST:,} bytes a second came; try again later")
                    since, then = now, length
                file.write(piece)
                file.flush()  # what is there when the process is killed need not come again
                if moved:
                    moved(length)
        if length != (total or length):
            raise _Again(f"{length:,} bytes came of {total:,}")

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = _Session()
        return self._own.session


class _Part:
    """A file on its way: its bytes so far, and how the server marked the version that they belong to."""

    def __init__(self, path: Path, url: str):
        self.url = url
        self.file = _part(path)
        self.tag = path.with_name(f"{path.name}.tag.part")

    @property
    def length(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def marked(self) -> tuple[str, int]:
        """(mark, bytes of the whole file), or ("", 0) where nobody can tell how the bytes go on."""
        try:
            tag = json.loads(self.tag.read_text(encoding="utf-8"))
            if tag["url"] == self.url and self.length <= tag["total"]:
                return str(tag["mark"]), tag["total"]
        except (OSError, *DAMAGE):
            pass
        return "", 0

    def begin(self, answer, total: int | None) -> None:
        """An empty file, with the mark of the version that this answer brings."""
        self.discard()
        mark = answer.headers.get("ETag", "")
        mark = mark if mark.startswith('"') else answer.headers.get("Last-Modified")  # W/"..." allows no resuming
        if mark and total:
            self.tag.write_text(json.dumps({"url": self.url, "mark": mark, "total": total}), encoding="utf-8")
        self.file.touch()

    def discard(self) -> None:
        self.file.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


class _Session(requests.Session):
    """Asks for bytes as they are, and follows no redirect to a weaker protocol."""

    def __init__(self):
        super().__init__()
        self.headers.update({"Accept-Encoding": "identity", "User-Agent": f"harmonylib/{__version__}"})

    def get_redirect_target(self, resp):
        target = super().get_redirect_target(resp)
        if target:
            before, after = urlsplit(resp.url).scheme, urlsplit(urljoin(resp.url, target)).scheme
            if after not in ("http", "https") or (before, after) == ("https", "http"):
                raise HarmonyError(f"{resp.url}: sends on to {after}, which is refused; is the address right?")
            resp._content = resp.raw.read(CHUNK)  # requests would hold the body in memory, whatever its length
        return target


def same_bytes(path: Path, md5: str | None) -> None:
    """Raises `Damaged` where the file's MD5 is another one; without one, every file passes."""
    if md5:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            raise Damaged(f"MD5 {found}, not the expected {md5}; this is another file, or a damaged one")


def extract(archive: Path, member: str, path: Path, check: Callable[[Path], None]) -> None:
    """One member of a zip archive as `path`; nothing else of the archive is unpacked.

    Raises HarmonyError: no zip archive or a damaged one, no such member or one of more than `MOST` bytes, content that
    `check` calls `Damaged`, and an archive with a name anywhere in it that leads out of its folder, or a link.
    """
    part = _part(path)
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                _refuse_escape(info)
            if member not in opened.namelist():
                raise Damaged(f"has no {member}")
            if opened.getinfo(member).file_size > MOST:
                raise Damaged(f"{member} would take more than {MOST:,} bytes")
            # zipfile inflates no more than the size just looked at, and compares the CRC at the end of the member
            with opened.open(member) as packed, part.open("wb") as file:
                shutil.copyfileobj(packed, file, CHUNK)
        check(part)
    except (Damaged, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, *DAMAGE) as why:
        if isinstance(why, OSError) and why.errno != errno.EINVAL:  # that one: it names places outside the file
            raise
        part.unlink(missing_ok=True)
        raise HarmonyError(f"{shown(archive)}: {one_line(why)}; refused") from None
    _settle(part, path)


def _refuse_escape(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    if re.match(r"/|[A-Za-z]:", name) or ".." in name.split("/") or "\\" in name or "\0" in name:
        raise Damaged(f"holds {name!r}, which leads out of its folder")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Damaged(f"holds {name!r}, which is a link")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Damaged(f"holds {name!r}, which is packed in another way than the published archives")


def _refuse_status(answer, part: _Part) -> None:
    status = answer.status_code
    if status in PASSING or status >= 500:
        if status == 416:  # the file has become shorter
            part.discard()
        raise _Again(f"the server answers {status}", _asked_pause(answer))
    if status not in (200, 206):
        raise HarmonyError(f"{part.url}: the server answers {status} {answer.reason or ''}".rstrip())
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise HarmonyError(f"{part.url}: the server compresses it unasked; take another address")


def _announced(answer, url: str, size: int | None, most: int) -> int | None:
    """Bytes of a whole answer; None where it comes in chunks, the last of which says that it is the last."""
    length = answer.headers.get("Content-Length", "")
    if not length.isdecimal():
        if answer.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return None
        raise HarmonyError(f"{url}: the server does not say how long it is, so nobody can tell whether it is whole")
    if size and int(length) != size:
        raise HarmonyError(f"{url}: the server announces {int(length):,} bytes, not {size:,}; this is another file")
    if int(length) > most:
        raise HarmonyError(f"{url}: the server announces {int(length):,} bytes; more than {most:,} are refused")
    return int(length)


def _refuse_other_rest(answer, part: _Part, have: int, mark: str, total: int) -> None:
    """Only the rest of the same version may be added, from where the bytes end."""
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
    field = "ETag" if mark.startswith('"') else "Last-Modified"
    fits = span and tuple(map(int, span.groups())) == (have, total - 1, total)
    if not fits or answer.headers.get(field, mark) != mark:
        part.discard()
        raise _Again("the server sends another part than asked for")


def _asked_pause(answer) -> float:
    """Seconds of a Retry-After, which is a number or a date; at most LONGEST_PAUSE."""
    text = answer.headers.get("Retry-After", "")
    try:
        seconds = float(text) if text.isdecimal() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0
    return min(max(seconds, 0), LONGEST_PAUSE)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _settle(part: Path, path: Path) -> None:
    """The part takes its name, after its bytes are on the disk: a name that is there is trusted from then on."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
