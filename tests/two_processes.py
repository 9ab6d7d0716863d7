"""A function in several processes that know each other, as training on several devices runs it: gloo on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_processes(n: int, function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What ``function(rank, *arguments)`` returns in each of n processes; it must be one of a module, to be sent."""
    mp.spawn(_one, (n, function, str(folder), arguments), nprocs=n)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(n)]


def _one(rank: int, n: int, function: Callable[..., Any], folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=n)
    try:
        torch.save(function(rank, *arguments), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
