"""Python imports this at its start where the harness puts the folder on PYTHONPATH: it counts what is done to files.

TORTURE_FOLDER  only what happens to files in it counts
TORTURE_COUNT   a file that gets a line a process: how many times a file was opened for writing, renamed, removed, ...
TORTURE_AT      before so many of these operations (counted in each process by itself) SIGKILL, ...
TORTURE_AFTER   ... or so many seconds later, when the operation or the write that follows it is under way
TORTURE_WHOM    "group" or "self": who is killed
TORTURE_LARGEST no file may have more bytes
TORTURE_CLOCK   "after,by": so many seconds after its start the clock of the process jumps by so many seconds
"""

import atexit
import os
import signal
import sys
import threading
import time

FOLDER = os.environ.get("TORTURE_FOLDER", "")
AT, AFTER = int(os.environ.get("TORTURE_AT", 0)), float(os.environ.get("TORTURE_AFTER", 0))
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.utime"}
WRITING = os.O_WRONLY | os.O_RDWR
done = 0


def kill():
    if os.environ.get("TORTURE_WHOM") == "group":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def watch(event, arguments):
    global done
    if event == "open":
        if not arguments[2] & WRITING:
            return
    elif event not in OPERATIONS:
        return
    path = arguments[0]
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str) or not path.startswith(FOLDER) or path.endswith(".lock"):
        return
    done += 1
    if done == AT:
        if not AFTER:
            kill()
        threading.Timer(AFTER, kill).start()


def report():
    with open(os.environ["TORTURE_COUNT"], "a") as file:
        file.write(f"{done}\n")


def jump(after, by):
    started, now, now_ns = time.monotonic(), time.time, time.time_ns

    def shift():
        return by if time.monotonic() - started > after else 0

    time.time = lambda: now() + shift()
    time.time_ns = lambda: now_ns() + int(1e9 * shift())


if FOLDER and (AT or "TORTURE_COUNT" in os.environ):
    sys.addaudithook(watch)
if "TORTURE_COUNT" in os.environ:
    atexit.register(report)
if "TORTURE_LARGEST" in os.environ:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["TORTURE_LARGEST"]),) * 2)
if "TORTURE_CLOCK" in os.environ:
    jump(*map(float, os.environ["TORTURE_CLOCK"].split(",")))
