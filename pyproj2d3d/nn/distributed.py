"""What do several processes that train together compute as one? Sums over all of them, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["cat_over_processes", "check_finite", "joint_mean", "processes", "sum_over_processes"]


def processes() -> int:
    """How many train together: 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of what all processes give, with the same shape; each gets the gradients of all. Alone it is ``x``."""
    return _Sum.apply(x) if processes() > 1 else x


def cat_over_processes(x: Tensor) -> Tensor:
    """The rows of all processes, first those of the first; they may be of different numbers, also none.

    Each gets the gradients of all. So a loss of all rows, which all processes then compute alike, has in the mean that
    DistributedDataParallel takes the gradients of one process with the joint batch. Alone it is ``x``.
    """
    if processes() == 1:
        return x
    counts = torch.zeros(processes(), dtype=torch.int64, device=x.device)
    counts[dist.get_rank()] = len(x)
    rows = sum_over_processes(counts).tolist()
    before, after = (
        x.new_zeros(sum(some), *x.shape[1:]) for some in (rows[: dist.get_rank()], rows[dist.get_rank() + 1 :])
    )
    return sum_over_processes(torch.cat((before, x, after)))


def joint_mean(total: Tensor, count: int | Tensor) -> Tensor:
    """A loss as the mean over the samples of all processes, given each one's sum and number.

    It is multiplied by the number of processes: DistributedDataParallel takes the mean of their gradients, which is
    then that of one process with all samples. The processes' values average to the joint mean. No samples give 0.
    """
    count = torch.as_tensor(count, device=total.device).to(torch.float64)
    return total * (processes() / sum_over_processes(count).clamp(min=1)).to(total.dtype)


def check_finite(loss: Tensor, step: int) -> None:
    """Stop all processes if any has a loss that is not.

    Raises:
        ValueError: in each of them, with its own loss and the step.
    """
    if not bool(sum_over_processes(loss.detach()).isfinite()):
        raise ValueError(f"the loss must be finite, got {loss.item()} in step {step}: is lr too high?")


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)
