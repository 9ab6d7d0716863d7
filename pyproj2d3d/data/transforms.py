"""What do all transforms share? Chains of them, random numbers that come again, and checks of their ranges.

A transform is a frozen dataclass that is called with a sample (:class:`View` or :class:`Points`) and a
:class:`torch.Generator` on the CPU. Without one it draws from torch's own, which a DataLoader seeds anew in each of its
workers. Equal seeds give equal samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..ops._check import check_int, check_number

Range = tuple[float, float]


@dataclass(frozen=True)
class Compose:
    """Transforms one after another, each drawing where the one before has stopped."""

    transforms: Sequence[Callable[..., Any]]

    def __call__(self, sample: Any, rng: torch.Generator | None = None) -> Any:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


def generator_of(*key: object) -> torch.Generator:
    """Random numbers that depend on the key alone, such as a seed, an epoch and a name: in every process the same."""
    digest = hashlib.sha256(" ".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def uniform(low: float, high: float, rng: torch.Generator | None) -> float:
    """From [low, high)."""
    return low + (high - low) * torch.rand((), dtype=torch.float64, generator=rng).item()


def integer(low: int, high: int, rng: torch.Generator | None) -> int:
    """From low to high, both possible."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def chance(p: float, rng: torch.Generator | None) -> bool:
    """True with probability p."""
    return torch.rand((), dtype=torch.float64, generator=rng).item() < p


def check_share(name: str, value: float) -> None:
    if not 0 <= check_number(name, value) <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")


def check_positive(name: str, value: float) -> None:
    if not 0 < check_number(name, value) < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_amount(name: str, value: float) -> None:
    if not 0 <= check_number(name, value) < math.inf:
        raise ValueError(f"{name} must not be negative, and finite, got {value}")


def check_range(name: str, value: Range) -> None:
    """Two positive numbers, ascending."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers (low, high), got {value!r}")
    for bound in value:
        check_positive(name, bound)
    if value[0] > value[1]:
        raise ValueError(f"{name} must ascend, got {value!r}")


def check_int_range(name: str, value: tuple[int, int]) -> None:
    """Two integers of at least 1, ascending."""
    check_range(name, value)
    for bound in value:
        check_int(name, bound, 1)
