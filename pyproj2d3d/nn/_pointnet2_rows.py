"""What does PointNet++ compute on rows? Shared layers, and rows gathered and interpolated with exact gradients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..ops._check import check_int
from ..ops.farthest_point_sample import farthest_point_sample
from ..ops.scatter import _scatter_sum
from .sparse_blocks import Norm

__all__ = ["Rows1d", "SharedMLP", "farthest_points", "gather", "interpolate"]


def farthest_points(points: Tensor, ptr: Tensor, begins: list[int], n: int) -> tuple[Tensor, list[int]]:
    """Points that cover each cloud, ``n`` or all of a smaller one, and how many; ``begins`` is ptr on the host."""
    sizes = [min(n, end - begin) for begin, end in pairwise(begins)]
    if all(size == n for size in sizes):
        return farthest_point_sample(points, n, ptr=ptr), sizes
    chosen = [ptr.new_empty(0)]
    for (begin, end), size in zip(pairwise(begins), sizes, strict=True):
        if size:
            chosen.append(farthest_point_sample(points[begin:end], size) + begin)
    return torch.cat(chosen), sizes


class SharedMLP(nn.Module):
    """Layers on the rows of a matrix, layer0 and so on: linear without bias, norm, ReLU."""

    def __init__(self, channels: Sequence[int], norm: Norm):
        super().__init__()
        if len(channels) < 2:
            raise ValueError("channels must have at least one layer, got none")
        for i, (before, after) in enumerate(pairwise(channels)):
            self.add_module(f"layer{i}", Layer(before, check_int(f"channels[{i}]", after, 1), norm))

    @property
    def layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.children()))

    def first_weight(self) -> Tensor:
        """(C_out, C_in)"""
        return self.layers[0].conv.weight.flatten(1)

    def after_first(self, rows: Tensor) -> Tensor:
        """What follows the first linear layer."""
        first, *rest = self.layers
        rows = first.activated(rows)
        for layer in rest:
            rows = layer.activated(layer.conv(rows))
        return rows


class Layer(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, norm: Norm):
        super().__init__()
        self.conv = Rows2d(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.bn = nn.Sequential(OrderedDict(bn=norm(out_channels)))

    def activated(self, rows: Tensor) -> Tensor:
        out: Tensor = self.bn(rows)
        return out.relu_()


class Rows2d(nn.Conv2d):
    """A convolution of size 1, of rows (M, C_in): the weight has the shape that public code stores."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


class Rows1d(nn.Conv1d):
    """The same in the shape of a 1D one."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.flatten(1), self.bias)


def gather(rows: Tensor, index: Tensor) -> Tensor:
    """``rows[index]``, whose gradient is summed in the order of the index whatever the number of threads."""
    return _Gather.apply(rows, index)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.n = len(rows)
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        row, order = index.int().sort(stable=True)
        ptr = torch.searchsorted(row, torch.arange(ctx.n + 1, dtype=row.dtype, device=row.device))
        return _scatter_sum(grad, order, ptr, index, False, False), None


def interpolate(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(Q, C), sums of weight (Q, 3) times the rows at index (Q, 3), in float32 at least; -1 is left out."""
    there = index >= 0
    ptr = F.pad(there.sum(1).cumsum(0), (1, 0))
    sums = rows.to(torch.float64 if rows.dtype == torch.float64 else torch.float32)
    weights = weight[there].to(sums.dtype)
    out = F.embedding_bag(index[there], sums, ptr, mode="sum", per_sample_weights=weights, include_last_offset=True)
    return out.to(rows.dtype)
