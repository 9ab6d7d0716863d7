"""What is computed along the pairs of a kernel map? Products, maxima and means of features, with their gradients.

Every row of a result is summed by one worker, in the order of the offsets: no atomics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops._register import add_rows, sort_keys
from ..ops.scatter import _scatter_extreme, _scatter_sum

__all__ = ["Pairs", "average", "convolve", "maximum"]

PIECE = 2**18  # numbers of one row of each pair


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of inputs and outputs that meet, offset by offset: ``source[ptr[k] : ptr[k + 1]]`` are those of offset k."""

    ptr: list[int]  # on the host: the loop over offsets does not wait for the device
    source: Tensor  # (P,) int32
    target: Tensor  # (P,) int32
    n_sources: int
    n_targets: int

    centre: int | None = None  # the offset at which each voxel reads itself, of a submanifold map of odd size

    def turned(self) -> Pairs:
        """Inputs for outputs: what an inverse convolution reads."""
        return Pairs(self.ptr, self.target, self.source, self.n_targets, self.n_sources, self.centre)

    def pieces(self, channels: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Offset by offset but for the centre: k, sources and targets, on the CPU so many at a time that their rows
        stay in its cache."""
        fit = max(PIECE // max(channels, 1), 1)
        most = fit if self.source.device.type == "cpu" else max(len(self.source), 1)
        for k, (begin, end) in enumerate(pairwise(self.ptr)):
            if k != self.centre:
                for first in range(begin, end, most):
                    piece = slice(first, min(first + most, end))
                    yield k, self.source[piece], self.target[piece]

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
        matrices = [w.T for w in weight.unbind(1)]  # (C_in, C_out) of each offset
        out = _start(features, matrices, pairs, pairs.n_targets)
        for k, source, target in pairs.pieces(max(matrices[0].shape)):
            add_rows(out, target, features.index_select(0, source) @ matrices[k])
        return out.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (features, weight), pairs, (ask, ask_weight, _) = ctx.saved_tensors, ctx.pairs, ctx.needs_input_grad
        grad = grad.contiguous()
        matrices = weight.unbind(1)
        of_features = _start(grad, matrices, pairs, pairs.n_sources) if ask else grad
        of_weight = torch.zeros_like(weight.movedim(1, 0), dtype=_sums_of(grad), memory_format=torch.contiguous_format)
        if ask_weight and pairs.centre is not None:
            of_weight[pairs.centre] += grad.T @ features
        for k, source, target in pairs.pieces(max(matrices[0].shape)):
            there = grad.index_select(0, target)
            if ask:
                add_rows(of_features, source, there @ matrices[k])
            if ask_weight:
                of_weight[k] += there.T @ features.index_select(0, source)
        return (
            of_features.to(features.dtype) if ask else None,
            of_weight.movedim(0, 1).to(weight.dtype) if ask_weight else None,
            None,
        )


def _start(rows: Tensor, matrices: Sequence[Tensor], pairs: Pairs, n: int) -> Tensor:
    """(n, C) in what the rows are summed in: what they give at the centre, or 0."""
    if pairs.centre is None:
        return torch.zeros(n, matrices[0].shape[1], dtype=_sums_of(rows), device=rows.device)
    return (rows @ matrices[pairs.centre]).to(_sums_of(rows))


def _sums_of(rows: Tensor) -> torch.dtype:
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


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
