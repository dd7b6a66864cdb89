"""The one exception that a user of harmonylib is meant to read, and words from elsewhere that go into a line of it."""

MOST = 1000  # letters of a line: a name may be as long as its file


class HarmonyError(Exception):
    """Bad input or configuration, told in one line: the thing, what is wrong with it, what to do.

    Commands print the line and leave with exit code 2; notebooks show it as the last line of the traceback.
    """

    exit_code = 2


def one_line(words: object) -> str:
    """Words, or what an error says, as one line that a terminal shows and does not obey; of many, first and last."""
    if isinstance(words, OSError):
        words = f"{words.filename or 'a file, or the output'}: {words.strerror or words}"
    line = plain(" ".join(str(words).split()))
    return line if len(line) <= MOST else f"{line[: MOST // 2]} ... {line[-MOST // 2 :]}"


def plain(text: str) -> str:
    """A text of several lines with everything escaped that is not printable: what moves cursors, what has no letter."""
    if text.isprintable():  # nearly all are, and letter by letter takes fifty times as long
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
