"""What is computed along the pairs of a kernel map? Products, maxima and means of features, with their gradients.

Every row of a result is summed by one worker, in the order of the offsets: no atomics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops import _register
from ..ops._register import add_rows, empty, native, on, sort_keys
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

    centre: int | None = None  # the offset at which each voxel reads itself, of a submanifold map of odd size

    def turned(self) -> Pairs:
        """Inputs for outputs: what an inverse convolution reads."""
        return self._turned

    @cached_property
    def _turned(self) -> Pairs:
        return Pairs(self.ptr, self.target, self.source, self.n_targets, self.n_sources, self.centre)

    def offsets(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """k, sources and targets of those that have some, but for the centre."""
        for k, (begin, end) in enumerate(pairwise(self.ptr)):
            if k != self.centre and begin < end:
                yield k, self.source[begin:end], self.target[begin:end]

    @cached_property
    def by_block(self) -> tuple[Tensor, Tensor, Tensor]:
        """(P,) int32 sources and targets by block of targets and then offset, and where each of both begins."""
        offsets, blocks = len(self.ptr) - 1, -(-self.n_targets // native.CONVOLVE_BLOCK)
        counts = torch.tensor(self.ptr).diff()
        offset = torch.arange(offsets, dtype=torch.int32).repeat_interleave(counts)
        key = self.target.div(native.CONVOLVE_BLOCK, rounding_mode="floor").mul_(offsets).add_(offset)
        order, ptr = _sorted(key, blocks * offsets)
        return self.source[order], self.target[order], ptr

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
    return _scatter_sum(rows, order, ptr, order, mean, False)


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
        return _products(features, weight, pairs, turned=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (features, weight), pairs, (ask, ask_weight, _) = ctx.saved_tensors, ctx.pairs, ctx.needs_input_grad
        return (
            _products(grad, weight, pairs.turned(), turned=True) if ask else None,
            _of_weight(features, grad, pairs) if ask_weight else None,
            None,
        )


def _products(rows: Tensor, weight: Tensor, pairs: Pairs, *, turned: bool) -> Tensor:
    """(n_targets, C): sums of ``weight[:, k] @ row``, or, turned, of ``weight[:, k].T @ row``."""
    if _by_blocks(rows):
        wide, weight = rows.to(_sums_of(rows)).contiguous(), weight.to(_sums_of(rows)).contiguous()
        columns, panel = weight.shape[2 if turned else 0], native.CONVOLVE_PANEL // wide.itemsize
        packed = empty(wide, weight.shape[1], -(-columns // panel), wide.shape[1], panel)
        out = empty(wide, pairs.n_targets, columns)
        native.convolve(on(wide), wide, *pairs.by_block, weight, turned, packed, out)
        return out.to(rows.dtype)
    matrices = weight.unbind(1) if turned else [w.T for w in weight.unbind(1)]
    if pairs.centre is None:
        out = rows.new_zeros(pairs.n_targets, matrices[0].shape[1], dtype=_sums_of(rows))
    else:
        out = (rows @ matrices[pairs.centre]).to(_sums_of(rows))
    for k, source, target in pairs.offsets():
        add_rows(out, target, rows.index_select(0, source) @ matrices[k])
    return out.to(rows.dtype)


def _of_weight(features: Tensor, grad: Tensor, pairs: Pairs) -> Tensor:
    """(C_out, K, C_in): the sum over the pairs of each offset of the product of a gradient and a row of features."""
    wide, k = _sums_of(grad), len(pairs.ptr) - 1
    if _by_blocks(grad):
        features, dtype = features.to(wide).contiguous(), features.dtype
        grad = grad.to(wide).contiguous()
        out = empty(features, grad.shape[1], k, features.shape[1])
        native.convolve_grad(on(features), features, grad, *pairs.by_block, out)
        return out.to(dtype)
    out = grad.new_zeros(k, grad.shape[1], features.shape[1], dtype=wide)
    if pairs.centre is not None:
        out[pairs.centre] = grad.T @ features
    for k, source, target in pairs.offsets():
        out[k] = grad.index_select(0, target).T @ features.index_select(0, source)
    return out.movedim(0, 1).to(grad.dtype)


def _by_blocks(rows: Tensor) -> bool:
    """Whether one native call sums block by block, without a copy of the rows: on the CPU. CUDA has torch's."""
    return rows.device.type == "cpu" and not _register.rehearse_cuda


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
        source = pairs.source.long()[order]
        out, arg = _scatter_extreme(features, source, ptr, order, True, ctx.needs_input_grad[0], False)
        ctx.save_for_backward(arg)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (arg,), pairs = ctx.saved_tensors, ctx.pairs
        won = arg.index_select(0, pairs.target) == pairs.source[:, None]
        found = torch.where(won, grad.index_select(0, pairs.target), 0)
        return _sum(found, *pairs.by_source), None
