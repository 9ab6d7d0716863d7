"""Pairs of a sparse convolution: what each output wants, looked up among all inputs, offset by offset."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..results import KernelMap


def kernel_map(
    coords: Tensor,
    size: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    shape: Sequence[int] | None = None,
) -> KernelMap:
    sizes, dilations = _three(coords, size), _three(coords, dilation)
    steps = [torch.tensor(k, device=coords.device) * dilations for k in itertools.product(*map(range, sizes.tolist()))]
    inputs = coords.long()
    if stride is None:
        outputs, strides, paddings = inputs, torch.ones_like(sizes), sizes // 2 * dilations
    else:
        strides, paddings = _three(coords, stride), _three(coords, 0 if padding is None else padding)
        outputs = torch.cat([_outputs_of(inputs, k, strides, paddings, shape) for k in steps]).unique(dim=0)
    ascending = outputs.unique(dim=0, return_inverse=True)[1].argsort()
    first = torch.cat((outputs[:, :1], outputs[:, 1:] * strides - paddings), 1)  # what offset 0 reads
    pairs = [_pairs(inputs, first + torch.cat((k.new_zeros(1), k)), ascending) for k in steps]
    ptr = torch.tensor([0, *itertools.accumulate(len(p) for p, _ in pairs)], device=coords.device)
    source, target = (torch.cat(parts).int() for parts in zip(*pairs, strict=True))
    return KernelMap(ptr, source, target, outputs.int())


def _three(coords: Tensor, value: int | Sequence[int]) -> Tensor:
    return torch.tensor(value, device=coords.device).expand(3)


def _outputs_of(inputs: Tensor, step: Tensor, stride: Tensor, padding: Tensor, shape: Sequence[int] | None) -> Tensor:
    """Those that read one of the inputs (M, 4) at this step."""
    scaled = inputs[:, 1:] + padding - step
    outputs = scaled.div(stride, rounding_mode="floor")
    there = (outputs * stride == scaled).all(1)
    if shape is not None:
        there &= ((outputs >= 0) & (outputs < _three(inputs, shape))).all(1)
    return torch.cat((inputs[:, :1], outputs), 1)[there]


def _pairs(inputs: Tensor, wanted: Tensor, ascending: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of inputs (M, 4), and of the outputs, each of which wants one voxel (Q, 4)."""
    number = torch.cat((inputs, wanted)).unique(dim=0, return_inverse=True)[1]  # equal voxels, equal numbers
    input_of = torch.full((len(number),), -1, device=number.device)
    input_of[number[: len(inputs)]] = torch.arange(len(inputs), device=number.device)
    source = input_of[number[len(inputs) :]][ascending]
    return source[source >= 0], ascending[source >= 0]
