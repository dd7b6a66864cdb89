"""The commands. What stands above the last import must be understood by any Python 3, however old."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    version = ".".join(map(str, sys.version_info[:3]))
    print("FIX  Python " + version + ": use 3.11, 3.12 or 3.13: .venv/bin/python, after `make setup`")
    raise SystemExit(1)

if sys.argv[1:2] == ["doctor"]:
    from harmonylib import doctor

    doctor.step_aside()

from harmonylib.cli import main

raise SystemExit(main())
