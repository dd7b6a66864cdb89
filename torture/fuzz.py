"""Inputs for readers, for so many seconds each: from hypothesis' strategies, or guided by coverage, by atheris.

    python -m torture.fuzz hypothesis|atheris [READERS ...] [--seconds 10] [--seed 0] [--at-once 2]

Prints a line of JSON for each reader: how many inputs were tried, and what was lost, each thing once, with the file
that did it under build/torture/. Readers run in forks of a process that has imported everything.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torture.attempt import MEMORY, attempt, kept, told

HANGS = 90  # s beyond its time after which a reader is ended from outside


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m torture.fuzz")
    parser.add_argument("how", choices=list(WAYS))
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    if options.how == "atheris":
        import atheris

        with atheris.instrument_imports(include=["harmonylib"]):
            from torture.readers import READERS
    else:
        from torture.readers import READERS
    import torch

    torch.set_num_threads(1)  # a fork has no use for the threads of its parent
    with ThreadPoolExecutor(options.at_once) as pool:
        jobs = [pool.submit(one, options, READERS[name]) for name in options.readers or READERS]
        for job in jobs:
            print(json.dumps(job.result()), flush=True)
    return 0


def one(options, reader) -> dict:
    """What became of one reader: {reader, tried, lost}."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report"
        work = multiprocessing.get_context("fork").Process(target=_alone, args=(options, reader, Path(name), report))
        work.start()
        work.join(options.seconds + HANGS)
        hung = work.is_alive()
        work.kill()
        work.join()
        text = report.read_text(errors="replace") if report.exists() else ""
    lost = re.findall(r"^LOST (.*)$", text, re.MULTILINE)
    if hung or work.exitcode:
        lost.append(f"{'hung' if hung else f'ended with {work.exitcode}'}: {' / '.join(text.splitlines()[-3:])[-300:]}")
    counts = re.findall(r"^(?:TRIED |stat::number_of_executed_units: +|#)(\d+)", text, re.MULTILINE)
    return {"reader": reader.name, "tried": int(counts[-1]) if counts else 0, "lost": lost}


def _alone(options, reader, base: Path, report: Path) -> None:
    """In a process of its own: stdout is for nobody, stderr is read by `one`."""
    os.dup2(os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    place, seen = reader.place(base), set()

    def survive(content: bytes) -> None:
        try:
            attempt(reader, content, place)
        except Exception as error:
            if (what := told(error)) not in seen:
                seen.add(what)
                os.write(2, f"\nLOST {kept(reader.name, content, error)}\n".encode())

    for content in reader.sound():
        survive(content)
    WAYS[options.how](options, reader, base, survive)
    os._exit(0)  # nothing of the parent's is ended twice


def invented(options, reader, base: Path, survive: Callable[[bytes], None]) -> None:
    """Rounds of hypothesis' examples until the time is up, other ones in every round."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    end, rounds = time.monotonic() + options.seconds, random.Random(options.seed)
    tried = 0

    def each(content: bytes) -> None:
        nonlocal tried
        if time.monotonic() < end:
            tried += 1
            survive(content)

    how = settings(max_examples=200, deadline=None, database=None, phases=[Phase.generate],
                   suppress_health_check=list(HealthCheck))  # fmt: skip
    while time.monotonic() < end:
        with contextlib.suppress(Exception) if tried else contextlib.nullcontext():
            seed(rounds.getrandbits(32))(how(given(reader.spoilt())(each)))()
    os.write(2, f"\nTRIED {tried}\n".encode())


def guided(options, reader, base: Path, survive: Callable[[bytes], None]) -> None:
    """libFuzzer's mutations of sound files, kept where they reach new lines of the package."""
    import atheris

    corpus = base / "corpus"
    corpus.mkdir()
    for number, content in enumerate(reader.sound()):
        (corpus / f"{number}").write_bytes(content)
    seconds = max(1, round(options.seconds))
    words = {"max_total_time": seconds, "seed": options.seed + 1, "timeout": 0, "print_final_stats": 1,
             "rss_limit_mb": int(MEMORY / 1e6), "max_len": 1 << 16, "artifact_prefix": f"{base}/"}  # fmt: skip
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in words.items()), str(corpus)], survive)
    atheris.Fuzz()


WAYS = {"hypothesis": invented, "atheris": guided}

if __name__ == "__main__":
    raise SystemExit(main())
