"""What is computed along the pairs of a kernel map? Products, maxima and means of features, with their gradients.

Every row of a result is summed by one worker, in the order of the offsets: no atomics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops._register import sort_keys
from ..ops.scatter import _scatter_extreme, _scatter_sum

__all__ = ["Pairs", "average", "convolve", "maximum"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of inputs and outputs that meet, offset by offset: ``source[ptr[k] : ptr[k + 1]]`` are those of offset k."""

    ptr: list[int]  # on the host: the loop over offsets does not wait for the device
    source: Tensor  # (P,) int32
    target: Tensor  # (P,) int32
    n_sources: int
    n_targets: int

    def turned(self) -> Pairs:
        """Inputs for outputs: what an inverse convolution reads."""
        turned = Pairs(self.ptr, self.target, self.source, self.n_targets, self.n_sources)
        for mine, other in (("by_target", "by_source"), ("by_source", "by_target")):
            turned.__dict__[mine] = getattr(self, other)  # sorted once for both
        return turned

    @cached_property
    def by_target(self) -> tuple[Tensor, Tensor]:
        """(P,) int64, the pairs target by target, and (n_targets + 1,) where each target begins."""
        return _sorted(self.target, self.n_targets)

    @cached_property
    def by_source(self) -> tuple[Tensor, Tensor]:
        """The same by source."""
        return _sorted(self.source, self.n_sources)


def _sorted(row: Tensor, n: int) -> tuple[Tensor, Tensor]:
    key, order = sort_keys(row, max(n, 1))
    return order, torch.searchsorted(key, torch.arange(n + 1, device=row.device, dtype=torch.int32))


def _sum(rows: Tensor, order: Tensor, ptr: Tensor, mean: bool = False) -> Tensor:
    """Of ``rows[order[ptr[i] : ptr[i + 1]]]``, in float32 for what is shorter."""
    return _scatter_sum(rows, order, ptr, order, mean)


def convolve(features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    """(n_sources, C_in) and (C_out, K, C_in) to (n_targets, C_out): sums over the pairs of ``weight[:, k] @ source``.

    Under autocast both are cast to its dtype, as torch's convolutions do.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and torch.float64 not in (features.dtype, weight.dtype):
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    return _Convolve.apply(features, weight, pairs)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        ctx.save_for_backward(features, weight)
        found = _products(features, weight.unbind(1), pairs.source, pairs.ptr)
        return _sum(found, *pairs.by_target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (features, weight), pairs = ctx.saved_tensors, ctx.pairs
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            found = _products(grad, [w.T for w in weight.unbind(1)], pairs.target, pairs.ptr)
            of_features = _sum(found, *pairs.by_source)
        if ctx.needs_input_grad[1]:
            of_weight = torch.zeros_like(weight)
            for k, (begin, end) in enumerate(_pieces(pairs.ptr)):
                if begin < end:
                    there = grad.index_select(0, pairs.target[begin:end])
                    of_weight[:, k] = there.T @ features.index_select(0, pairs.source[begin:end])
        return of_features, of_weight, None


def _products(rows: Tensor, matrices: Any, row: Tensor, ptr: list[int]) -> Tensor:
    """(P, C_out): of each pair the row that it reads times the (C_out, C_in) matrix of its offset."""
    out = rows.new_empty(ptr[-1], matrices[0].shape[0])
    for matrix, (begin, end) in zip(matrices, _pieces(ptr), strict=True):
        if begin < end:
            torch.mm(rows.index_select(0, row[begin:end]), matrix.T, out=out[begin:end])
    return out


def _pieces(ptr: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(ptr))


def average(features: Tensor, pairs: Pairs) -> Tensor:
    """The mean over the sources of each target."""
    return _Average.apply(features, pairs)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        order, ptr = pairs.by_target
        return _sum(features, pairs.source.long()[order], ptr, mean=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairs = ctx.pairs
        order, ptr = pairs.by_source
        share = grad / pairs.by_target[1].diff()[:, None].to(grad.dtype)
        return _sum(share, pairs.target.long()[order], ptr), None


def maximum(features: Tensor, pairs: Pairs) -> Tensor:
    """The maximum over the sources of each target, channel by channel; each target has one."""
    return _Maximum.apply(features, pairs)


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, pairs: Pairs) -> Tensor:
        ctx.pairs = pairs
        order, ptr = pairs.by_target
        out, arg = _scatter_extreme(features, pairs.source.long()[order], ptr, order, True, ctx.needs_input_grad[0])
        ctx.save_for_backward(arg)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (arg,), pairs = ctx.saved_tensors, ctx.pairs
        won = arg.index_select(0, pairs.target) == pairs.source[:, None]
        found = torch.where(won, grad.index_select(0, pairs.target), 0)
        return _sum(found, *pairs.by_source), None
