"""Which input voxel does each offset of a 3D kernel read for each output voxel? The pairs of a sparse convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..results import KernelMap
from ._check import check_fewer, check_int, check_tensor
from ._register import empty, native, on, register, sort_keys

__all__ = ["kernel_map"]

LOWEST, HIGHEST = -(2**31), 2**31 - 1  # of int32
Triple = int | Sequence[int]


def kernel_map(
    coords: Tensor,
    size: Triple,
    *,
    stride: Triple | None = None,
    padding: Triple | None = None,
    dilation: Triple = 1,
    shape: Sequence[int] | None = None,
) -> KernelMap:
    """The pairs of input and output voxels of a sparse convolution, offset by offset of its kernel.

    An output o reads the input i = o stride - padding + k dilation at offset k, from 0 to size - 1 along each of x, y
    and z; of the inputs those that are there. Without ``stride`` the map is submanifold: the outputs are the inputs,
    the stride is 1 and the padding (size // 2) dilation, so that an odd kernel is centred. With a stride the outputs
    are all voxels that read an input; at size = stride = 2 each input has its one output, floor(i / 2).

    Args:
        coords: (M, 4) int32: batch, x, y, z, all different, in any order, such as those of :func:`voxelize`. Batches
            are not negative; x, y and z may be.
        size: of the kernel: one number or three of them along x, y, z, at least 1.
        stride: one or three, at least 1. None: submanifold.
        padding: one or three, not negative; None: 0. Only with a stride.
        dilation: one or three, at least 1.
        shape: three: outputs are from 0 to shape - 1, and what lies beyond is left out, as a dense convolution of that
            output shape does. None: wherever they are. Only with a stride.

    Returns:
        KernelMap: ``ptr`` (K + 1,) int64, ``input`` and ``output`` (P,) int32, and ``coords`` (Q, 4) int32 of the
        outputs: with a stride in ascending order of (batch, x, y, z), without one those that were given. The pairs of
        an offset come in that order of their outputs, whatever the order of ``coords``. The same on every device. Not
        differentiable: there is nothing to differentiate by.

    Raises:
        TypeError, ValueError: an argument of another type, shape or range than said here, a voxel that is there twice,
            or outputs beyond int32.

    Voxels are sorted, unless they come sorted, and each column of the kernel walks along them beside the outputs: there
    is no hash table, no limit to the neighbours, and no memory beyond the result and, of voxels that come unsorted or
    with a stride, their keys. On CUDA it synchronises twice, for the extent of the voxels and for P; once more for
    voxels that are unsorted, and with a stride three times more for Q.

    >>> found = kernel_map(torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32), (1, 1, 3))
    >>> found.ptr.tolist(), found.input.tolist(), found.output.tolist()
    ([0, 1, 3, 4], [0, 0, 1, 1], [1, 0, 1, 0])
    >>> kernel_map(torch.tensor([[0, 5, 0, -1]], dtype=torch.int32), 2, stride=2).coords.tolist()
    [[0, 2, 0, -1]]
    """
    check_tensor("coords", coords, (torch.int32,), None, 4)
    sizes, dilations = check_three("size", size, 1), check_three("dilation", dilation, 1)
    if math.prod(sizes) > HIGHEST:
        raise ValueError(f"size must make fewer than 2**31 offsets, got {size}")
    if stride is None:
        for name, given in (("padding", padding), ("shape", shape)):
            if given is not None:
                raise ValueError(f"{name} must be None without a stride: the map is submanifold, got {given}")
        centred = [n // 2 * d for n, d in zip(sizes, dilations, strict=True)]
        ptr, source, target, _ = _kernel_map(coords, sizes, [], centred, dilations, [])
        return KernelMap(ptr, source, target, coords)
    strides, paddings = check_three("stride", stride, 1), check_three("padding", 0 if padding is None else padding, 0)
    shapes = [] if shape is None else check_three("shape", shape, 0)
    return KernelMap(*_kernel_map(coords, sizes, strides, paddings, dilations, shapes))


def check_three(name: str, value: Triple, at_least: int) -> list[int]:
    """One integer, or three along x, y, z, each within int32; three of NumPy or in a tensor too."""
    if not isinstance(value, (int, Sequence)) and hasattr(value, "tolist"):
        value = value.tolist()
    given = [value] * 3 if not isinstance(value, Sequence) or isinstance(value, str) else value
    if len(given) != 3:
        raise ValueError(f"{name} must be one integer or three, got {value!r}")
    three = [check_int(name, n, at_least) for n in given]
    if max(three) > HIGHEST:
        raise ValueError(f"{name} must be at most {HIGHEST}, got {value!r}")
    return three


def _run(
    coords: Tensor, size: list[int], stride: list[int], padding: list[int], dilation: list[int], shape: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_fewer("coords", len(coords))
    rule = native.KernelRule(size, stride or [1] * 3, padding, dilation, shape or [-1] * 3)
    given, new = coords.contiguous(), coords.new_empty
    row = None
    if len(given):
        fallen, equal, low, high = _extent(given)
        if low[0] < 0:
            raise ValueError(f"coords must have batches from 0, got {low[0]}")
        if fallen:
            row = _order(given, low, high)
            given = given[row]
            equal = _extent(given)[1]
        if equal:
            _refuse_twins(given)
    if not stride:
        found, out_row = given, row
    else:
        if len(given):
            _check_outputs(low, high, size, stride, padding, dilation, shape)
        found, out_row = _outputs(given, rule), None
    pairs = _pairs(given, row, found, out_row, rule, size, mirrored=not stride and all(n % 2 for n in size))
    return (*pairs, found if stride else new(0, 4))


def _pairs(
    given: Tensor,
    row: Tensor | None,
    found: Tensor,
    out_row: Tensor | None,
    rule: object,
    size: list[int],
    *,
    mirrored: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """ptr, input and output. Mirrored: half the offsets are looked for, the others are these turned round, and at the
    centre each voxel reads itself."""
    voxels = (given, row, found, out_row, rule)
    blocks, offsets = native.kernel_map_blocks(on(given), len(found)), math.prod(size)
    if blocks == 0:
        nothing = given.new_empty(0)
        return torch.zeros(offsets + 1, dtype=torch.int64, device=given.device), nothing, nothing.clone()
    some = offsets // 2 if mirrored else offsets
    count = empty(given, some, blocks, dtype=torch.int64)
    first = empty(given, -(-some // size[2]), len(found))
    native.kernel_map_pairs(on(given), *voxels, count, first, None, None, None)
    end = count.view(-1).cumsum(0).view(some, blocks)
    ptr = torch.cat((end.new_zeros(1), end[:, -1]))
    if mirrored:
        ptr = torch.cat((ptr, (2 * ptr[-1] + len(found)) - ptr.flip(0)))
    total = int(ptr[-1])
    source, target = empty(given, total), empty(given, total)
    native.kernel_map_pairs(on(given), *voxels, end.sub_(count), first, ptr if mirrored else None, source, target)
    if mirrored:
        centre = slice((total - len(found)) // 2, (total + len(found)) // 2)
        own = torch.arange(len(found), dtype=torch.int32, device=given.device) if row is None else row
        source[centre], target[centre] = own, own
    return ptr, source, target


def _extent(coords: Tensor) -> tuple[int, int, list[int], list[int]]:
    """How many voxels are below the one before, how many equal it, and the lowest and highest of each column."""
    of_block = coords.new_empty(native.kernel_map_blocks(on(coords), len(coords)), 10, dtype=torch.int64)
    native.kernel_map_extent(on(coords), coords, of_block)
    all_of = torch.cat((of_block[:, :2].sum(0), of_block[:, 2:6].amin(0), of_block[:, 6:].amax(0))).tolist()
    return all_of[0], all_of[1], all_of[2:6], all_of[6:]


def _order(coords: Tensor, low: list[int], high: list[int]) -> Tensor:
    """(M,) int64 that puts voxels in the order of (batch, x, y, z): by one key, or by one for each column."""
    length = [h - n + 1 for n, h in zip(low, high, strict=True)]
    cells = math.prod(length)
    if cells < 2**63:
        key = torch.zeros(len(coords), dtype=torch.int32 if cells < 2**31 else torch.int64, device=coords.device)
        for d in range(4):
            key = (
                key.mul_(length[d]).add_(coords[:, d] if key.dtype == torch.int32 else coords[:, d].long()).sub_(low[d])
            )
        return sort_keys(key, cells)[1]
    order = torch.arange(len(coords), device=coords.device)
    for d in (3, 2, 1, 0):
        order = order[sort_keys(coords[order, d].long() - low[d], length[d])[1]]
    return order


def _refuse_twins(coords: Tensor) -> None:
    first = int((coords[1:] == coords[:-1]).all(1).nonzero()[0])
    raise ValueError(f"coords must be all different, got {coords[first].tolist()} more than once")


def _check_outputs(low: list[int], high: list[int], *rule: list[int]) -> None:
    """Those that ``shape`` leaves in are within int32 anyway."""
    for axis, (size, stride, padding, dilation) in enumerate(zip(*rule[:4], strict=True), 1):
        lowest = -(((size - 1) * dilation - padding - low[axis]) // stride)
        highest = (high[axis] + padding) // stride
        if not rule[4] and (lowest < LOWEST or highest > HIGHEST):
            raise ValueError(f"coords must have outputs within int32, got some from {lowest} to {highest}")


def _outputs(coords: Tensor, rule: object) -> Tensor:
    """(Q, 4): every voxel that reads one of these, once, in their order."""
    blocks = native.kernel_map_blocks(on(coords), len(coords))
    if blocks == 0:
        return coords.new_empty(0, 4)
    count = coords.new_empty(blocks, dtype=torch.int64)
    native.kernel_map_outputs(on(coords), coords, rule, None, count, None)
    end = count.cumsum(0)
    candidates = empty(coords, int(end[-1]), 4)
    if len(candidates) == 0:
        return candidates
    native.kernel_map_outputs(on(coords), coords, rule, end, None, candidates)
    fallen, _, low, high = _extent(candidates)
    if fallen:
        candidates = candidates[_order(candidates, low, high)]
    new = torch.ones(len(candidates), dtype=torch.bool, device=coords.device)
    torch.any(candidates[1:] != candidates[:-1], 1, out=new[1:])
    return candidates[new]


def _fake(
    coords: Tensor, size: list[int], stride: list[int], padding: list[int], dilation: list[int], shape: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    context = torch.library.get_ctx()
    pairs, found = context.new_dynamic_size(), context.new_dynamic_size() if stride else 0
    ptr = coords.new_empty(math.prod(size) + 1, dtype=torch.int64)
    return ptr, coords.new_empty(pairs), coords.new_empty(pairs), coords.new_empty(found, 4)


_kernel_map = register(
    "kernel_map(Tensor coords, int[] size, int[] stride, int[] padding, int[] dilation, int[] shape)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _run,
    _fake,
)
