"""Everything that reads a file, on what hypothesis makes of small sound ones: a result, or a HarmonyError."""

import io
import warnings
from contextlib import redirect_stdout

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from harmonylib.errors import HarmonyError, one_line, plain
from harmonylib.reading import read_table
from torture import attempt
from torture.readers import READERS

ANY = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread; and what a process of the fuzzer may hold does not count here."""
    monkeypatch.setattr(attempt, "MEMORY", float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings(action="ignore"):  # of libraries, about the damage
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("reader", READERS.values(), ids=lambda reader: reader.name)
def test_any_file(reader, tmp_path):
    place = reader.place(tmp_path)

    @ANY
    @given(reader.spoilt())
    def tried(content):
        with redirect_stdout(io.StringIO()):
            attempt.attempt(reader, content, place)

    tried()


@pytest.mark.parametrize("reader", READERS.values(), ids=lambda reader: reader.name)
def test_sound_files_are_read(reader, tmp_path):
    """Or else nothing above would get beyond the first check."""
    place, read = reader.place(tmp_path), 0
    for content in reader.sound():
        try:
            with redirect_stdout(io.StringIO()):
                reader.read(content, place)
            read += 1
        except HarmonyError:
            pass
    assert read


@pytest.mark.parametrize("harm", [RecursionError("deep"), ValueError("bare"), Exception("any")])
def test_what_is_let_through_is_a_loss(tmp_path, harm):
    def read(content, folder):
        raise harm

    reader = READERS["votes"].__class__("bad", read, list, list)
    with pytest.raises(type(harm)):
        attempt.attempt(reader, b"", reader.place(tmp_path))


def test_what_is_written_elsewhere_is_a_loss(tmp_path):
    reader = READERS["votes"].__class__("bad", lambda c, f: (f.parent / "up").write_bytes(c), list, list)
    with pytest.raises(attempt.Lost, match="beside"):
        attempt.attempt(reader, b"", reader.place(tmp_path))


@pytest.mark.parametrize(
    "words", ["a\nb\tc", "\x1b[2J\x1b[1;1H", "nul\0", "\u202egpj.exe", "\ud800", "a\x85b", "x" * 10**6]
)
def test_words_become_one_line_that_moves_nothing(words):
    line = one_line(words)
    assert line.isprintable() and 0 < len(line) < 1100
    assert plain("two\nlines\x1b") == "two\nlines\\x1b"


@pytest.mark.parametrize(
    "text",
    [
        b"\n \na,b\n1,2\n",
        b"a,b\r1,2\r",
        b'\xef\xbb\xbf"a","b"\r\n1,2,\r\n',
        b'a,b\n1,"x\ny"\n',
        b'a,b5"\n1,2',
    ],
)
def test_odd_tables_are_read(text, tmp_path):
    (tmp_path / "t.csv").write_bytes(text)
    assert read_table(tmp_path / "t.csv", ("a",), "").shape == (1, 2)
