"""What the tests of studies have done in other processes, which import this file and not a test."""

import os
import time


def count(out, name, add=0):
    """How often this was done is in a file, and goes up by one."""
    path = out / f"{name}.txt"
    times = int(path.read_text()) if path.exists() else 0
    path.write_text(str(times + 1))
    return {"times": times + 1.0, "sum": float(add)}


def added(out, names):
    return {"sum": float(sum(int((out / f"{name}.txt").read_text()) for name in names))}


def fails(out):
    raise RuntimeError("no luck")


def dies(out):
    os._exit(7)


def waits(out, seconds):
    (out / "waiting").touch()
    time.sleep(seconds)
    return {}
