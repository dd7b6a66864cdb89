"""The commands. What stands above the last import must be understood by any Python 3, however old."""

import os
import signal
import sys


def leave(*_):
    """SIGTERM before a command has begun, or when it is over."""
    if os.environ.get("RANK", "0") == "0":  # of several processes the first speaks
        os.write(2, b"harmonylib: stopped by SIGTERM; the same command goes on\n")
    os._exit(75)  # `interruption.EXIT_CODE`


def stop(*_):
    """Ctrl-C then."""
    os.write(2, b"harmonylib: interrupted; the same command goes on\n")
    os._exit(130)


signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, stop)

if sys.version_info < (3, 11):  # noqa: UP036
    version, doctor = ".".join(map(str, sys.version_info[:3])), sys.argv[1:2] == ["doctor"]
    words = "Python " + version + ": use 3.11, 3.12 or 3.13: .venv/bin/python, after `make setup`\n"
    (sys.stdout if doctor else sys.stderr).write(("FIX  " if doctor else "harmonylib: ") + words)
    raise SystemExit(1 if doctor else 2)

if "TORCHELASTIC_RUN_ID" in os.environ:  # now: torchrun may be gone before torch is imported
    from harmonylib.interruption import end_with

    end_with(os.getppid())

if sys.argv[1:2] == ["doctor"]:
    from harmonylib import doctor

    doctor.step_aside()

from harmonylib.cli import main  # noqa: E402

if sys.stdout:  # a terminal that lacks the letters of a name is no reason to fail
    sys.stdout.reconfigure(errors="backslashreplace")
signal.signal(signal.SIGINT, signal.default_int_handler)
code = main()
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is written: what is left is to end
if "LOCAL_RANK" in os.environ and "harmonylib.distributed" in sys.modules:
    sys.modules["harmonylib.distributed"].leave(code)
raise SystemExit(code)
