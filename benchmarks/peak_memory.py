"""How much memory does one call take at its highest, beyond its inputs? A script, for a process of its own.

    python peak_memory.py MODULE MAKE NAME FULL TINY THREADS

calls ``MODULE.MAKE(device, **FULL)[NAME]`` once and prints the bytes between the high-water mark of the resident set
before that call (libraries loaded and threads started by a call of size TINY, inputs there) and after it.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from pathlib import Path

import torch


def high_water_mark() -> int:
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


def forget_high_water_mark() -> None:
    """Set it to what is resident now: making the inputs took more than the inputs take."""
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    module_name, make_name, name, full, tiny, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    package = types.ModuleType("benchmarks")  # as pytest imports these files: without a root folder on sys.path
    package.__path__ = [str(Path(__file__).parent)]
    sys.modules["benchmarks"] = package
    make = getattr(importlib.import_module(f"benchmarks.{module_name}"), make_name)
    cpu = torch.device("cpu")
    make(cpu, **json.loads(tiny))[name]()
    call = make(cpu, **json.loads(full))[name]
    if name.startswith("torch.compile"):
        call()  # compiles for this size
    forget_high_water_mark()
    before = high_water_mark()
    result = call()
    print(max(0, high_water_mark() - before))
    del result


if __name__ == "__main__":
    main()
