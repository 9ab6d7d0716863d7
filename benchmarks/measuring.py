"""How long does a call take, how many bytes does the device copy in a second, and how much memory does a call need?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Contender = Callable[[], Any]
PER_TURN = 3  # calls in a row, so that caches are warm for each contender alike
PEAK_MEMORY = Path(__file__).with_name("peak_memory.py")


def milliseconds(call: Contender, device: torch.device) -> tuple[float, Any]:
    """Of one call whose result is there when the clock stops, and that result."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end), result
    start = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - start), result


def interleaved(
    contenders: Mapping[str, Contender], device: torch.device, *, seconds: float, rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Times and last results of all, turn by turn, so that what disturbs the machine disturbs all alike.

    Each is called once to warm up (what compiles, compiles here). Then there are at least ``rounds`` rounds, and more
    while ``seconds`` are not over.
    """
    results = {name: call() for name, call in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    start = time.perf_counter()
    done = 0
    while done < rounds or (time.perf_counter() - start < seconds and done < 100):
        for name, call in contenders.items():
            for _ in range(PER_TURN):
                results[name] = None  # so that no contender pays for memory that it holds itself
                spent, results[name] = milliseconds(call, device)
                times[name].append(spent)
        done += 1
    return times, results


def copied_per_second(device: torch.device) -> float:
    """Bytes read plus bytes written by a plain copy much larger than the caches."""
    source = torch.ones((1 << 30 if device.type == "cuda" else 1 << 27) // 4, device=device)
    target = torch.empty_like(source)
    times, _ = interleaved({"copy": lambda: target.copy_(source)}, device, seconds=0.5, rounds=3)
    return 2 * source.nbytes / (min(times["copy"]) / 1000)


def peak_bytes(
    make: Callable[..., Mapping[str, Contender | str]],
    name: str,
    full: dict[str, int],
    tiny: dict[str, int],
    threads: int,
) -> int:
    """Memory that one call takes at its highest, beyond its inputs, in a fresh process: see peak_memory.py."""
    module = make.__module__.rpartition(".")[2]
    arguments = [module, make.__name__, name, json.dumps(full), json.dumps(tiny), str(threads)]
    # Freed blocks go back to the system at once: none left over from the inputs hides what a call takes.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144", "OMP_NUM_THREADS": str(threads)}
    child = subprocess.run(
        [sys.executable, str(PEAK_MEMORY), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if child.returncode:
        raise RuntimeError(f"the process that measures the memory of {name} failed:\n{child.stderr}")
    return int(child.stdout.splitlines()[-1])


def peak_bytes_on_cuda(call: Contender) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def nbytes(*tensors: Tensor) -> int:
    return sum(t.nbytes for t in tensors)
