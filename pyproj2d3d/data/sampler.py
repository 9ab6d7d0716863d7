"""In which order are samples drawn, and with which seeds? The same for any number of workers and processes."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from torch.utils.data.distributed import DistributedSampler

from ..ops._check import check_int
from .samples import Sample


class SeededSampler(DistributedSampler[Sample]):
    """Numbers of samples, each with a seed of its own: what is drawn depends on no number of workers or processes.

    With ``shuffle`` every pass has another order and other seeds, those of ``epoch``, which goes up by itself and can
    be set to go on where a run was stopped. Without it every pass is the same. The next pass, and only that, leaves out
    its first ``begin`` samples: a run that was stopped within it goes on there.

    Of several processes each takes every so many-th sample, from its ``rank`` on: one batch of each is together what
    one process would take as one batch. With ``shuffle`` all get equally many, and up to ``processes - 1`` samples are
    left out of a pass, other ones each time; without it none is, and some processes get one more.

    It is one of torch's DistributedSamplers, so that Lightning puts no other in its place.
    """

    def __init__(self, samples: Sized, *, shuffle: bool, seed: int = 0, rank: int = 0, processes: int = 1):
        self.samples, self.shuffle, self.seed, self.epoch = samples, shuffle, check_int("seed", seed, 0), 0
        self.begin = 0
        self.processes, self.rank = check_int("processes", processes, 1), check_int("rank", rank, 0)
        if rank >= processes:
            raise ValueError(f"rank must be below the {processes} processes, got {rank}")

    def __len__(self) -> int:
        left = len(self.samples) - self.rank
        return len(self.samples) // self.processes if self.shuffle else max(-(-left // self.processes), 0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        rng = torch.Generator().manual_seed((1_000_003 * self.seed + self.epoch) % 2**63)
        self.epoch += self.shuffle
        n = len(self.samples)
        order = torch.randperm(n, generator=rng) if self.shuffle else torch.arange(n)
        seeds = torch.randint(2**62, (n,), generator=rng)
        mine = slice(self.rank + self.processes * self.begin, self.rank + self.processes * len(self), self.processes)
        self.begin = 0
        return zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)
