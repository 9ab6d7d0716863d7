"""Which voxel is each point in? Coordinates, inverse and CSR order of the occupied voxels, in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from ..results import Voxels
from . import _register
from ._check import GEOMETRY, check_device, check_fewer, check_number, check_tensor
from ._register import contiguous, empty, native, on, register, sort_keys

__all__ = ["voxelize"]


def voxelize(
    points: Tensor,
    size: float | Sequence[float],
    *,
    batch: Tensor | None = None,
    origin: Tensor | Sequence[float] | None = None,
) -> Voxels:
    """The occupied voxels of a cloud, or of a batch of clouds.

    A point lies in the voxel floor((p - origin) / size), computed in the points' dtype with a division: a point on a
    face belongs to the voxel above it, and where (p - origin) / size rounds to a whole number it is on the face.

    Args:
        points: (N, 3) float32 or float64, in any order.
        size: edge of a voxel, or three of them along x, y, z; positive.
        batch: (N,) int32 or int64, which cloud each point belongs to, from 0 to 2**31 - 2. None: all to cloud 0.
        origin: (3,) a corner of voxel (0, 0, 0). None: the origin.

    Returns:
        Voxels in ascending order of (batch, x, y, z): ``coords`` (M, 4) int32, which may be negative; ``inverse`` (N,),
        ``counts`` (M,), ``ptr`` (M + 1,) and ``order`` (N,) int64, ascending within a voxel. The same on every device.
        Every finite point is in a voxel, however many there are and however far apart. One that is not finite has
        inverse -1, counts nowhere, and comes at the end of ``order``. Not differentiable: :func:`scatter` is.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here, or a finite point
            whose coordinate is beyond int32.

    Cells are numbered within the extent of the cloud and sorted by one radix sort; where 63 bits do not do, by one for
    each axis. On CUDA it synchronises once, for M; in that last case once more.

    >>> voxels = voxelize(torch.tensor([[0.9, 0.0, 0.0], [-0.1, 0.0, 0.0], [0.5, 0.0, 0.0]]), 1.0)
    >>> voxels.coords.tolist(), voxels.inverse.tolist(), voxels.order.tolist()
    ([[0, -1, 0, 0], [0, 0, 0, 0]], [1, 0, 1], [1, 0, 2])
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    edges = _check_size(size, points.dtype)
    if batch is not None:
        check_tensor("batch", batch, (torch.int32, torch.int64), len(points))
        check_device("batch", batch, "points", points)
        batch = batch.long()
    return Voxels(*_voxelize(points.detach(), batch, _check_origin(origin, points), *edges))


def _check_size(size: float | Sequence[float], dtype: torch.dtype) -> tuple[float, float, float]:
    """Three edges, none of which is 0 or infinite in the points' dtype."""
    given = [size] * 3 if isinstance(size, (int, float, Real)) else size
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(f"size must be one number or three, got {size!r}")
    if len(given) != 3:
        raise ValueError(f"size must be one number or three, got {size!r}")
    x, y, z = (check_number("size", edge) for edge in given)
    smallest, largest = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    if not all(smallest <= edge <= largest for edge in (x, y, z)):
        raise ValueError(f"size must be positive and finite in {str(dtype).removeprefix('torch.')}, got {size!r}")
    return x, y, z


def _check_origin(origin: Tensor | Sequence[float] | None, points: Tensor) -> Tensor:
    if origin is None:
        return points.new_zeros(3)
    if isinstance(origin, Tensor):
        check_tensor("origin", origin, GEOMETRY, 3)
        check_device("origin", origin, "points", points)
        return origin.detach().to(points.dtype)
    if not isinstance(origin, Sequence) or isinstance(origin, str):
        raise TypeError(f"origin must be a tensor or three numbers, got {origin!r}")
    if len(origin) != 3:
        raise ValueError(f"origin must be three numbers, got {origin!r}")
    corner = [check_number("origin", o) for o in origin]
    if max(abs(o) for o in corner) > torch.finfo(points.dtype).max:
        raise ValueError(f"origin must be finite in {str(points.dtype).removeprefix('torch.')}, got {origin!r}")
    return torch.stack([points.new_full((), o) for o in corner])  # a copy to CUDA would synchronise


Cloud = tuple[Tensor, Tensor | None, Tensor, tuple[float, float, float]]  # points, batch, origin, size


def occupied_voxels(
    points: Tensor, batch: Tensor | None, origin: Tensor, x: float, y: float, z: float
) -> tuple[Tensor, ...]:
    """What :class:`Voxels` holds, for arguments that are checked but for their values."""
    n, new = len(points), points.new_empty
    check_fewer("points", n)
    if n == 0:
        _check_finite(origin)
        index = torch.zeros(1, dtype=torch.int64, device=points.device)
        return new(0, 4, dtype=torch.int32), index[:0].clone(), index[:0].clone(), index, index[:0].clone()
    cloud: Cloud = (*contiguous(points, batch, origin), (x, y, z))
    blocks = native.voxelize_blocks(on(points), n)
    boxes, extent = new(blocks, 6), new(8, dtype=torch.int64)  # the second: lowest b, x, y, z, and cells along them
    native.voxelize_box(on(points), *cloud, boxes)
    batches = None if batch is None else torch.stack(batch.aminmax())
    native.voxelize_extent(on(points), *cloud, boxes.amin(0), batches, extent)

    # On the CPU the keys are made as wide as they have to be. CUDA would have to wait for the extent: there they have
    # 64 bits, and whether that was enough is seen with the number of voxels.
    waits = points.is_cuda or _register.rehearse_cuda
    cells = None if waits else _cells(extent.tolist(), points, batch, origin)
    while True:
        wide = cells is not None and cells >= 2**63
        key, order, valid = _sort_by_axis(cloud, extent) if wide else _sort_by_cell(cloud, extent, cells)
        count = new(blocks, dtype=torch.int64)
        native.voxelize_count(on(points), key, valid, count)
        end = count.cumsum(0)
        found, *known = torch.cat((end[-1:], extent)).tolist()  # the one synchronisation
        cells = _cells(known, points, batch, origin)
        if wide or cells < 2**63:
            break
    if found == 0:
        _check_finite(origin)
    coords = empty(points, found, 4, dtype=torch.int32)
    inverse, ptr = empty(points, n, dtype=torch.int64), empty(points, found + 1, dtype=torch.int64)
    native.voxelize_fill(on(points), *cloud, key, order, valid, end, coords, inverse, ptr)
    return coords, inverse, ptr.diff(), ptr, order


def _cells(extent: list[int], points: Tensor, batch: Tensor | None, origin: Tensor) -> int:
    """The number of cells within the extent, or the error that it shows."""
    first, last = extent[0], extent[0] + extent[4] - 1
    if batch is not None and (first < 0 or last > native.LAST_BATCH):
        worst = batch.min() if first < 0 else batch.max()
        raise ValueError(f"batch must be from 0 to {native.LAST_BATCH}, got {worst.item()}")
    if 0 in extent[5:]:
        _check_finite(origin)
        raise ValueError(
            "points must have voxels within int32: increase size or move origin; their coordinates reach "
            f"{points[points.isfinite().all(1)].abs().max().item():g}"
        )
    return math.prod(extent[4:])


def _check_finite(origin: Tensor) -> None:
    """Where no point has a voxel: looking always would synchronise."""
    if not bool(origin.isfinite().all()):
        raise ValueError(f"origin must be finite, got {origin.tolist()}")


def _sort_by_cell(cloud: Cloud, extent: Tensor, cells: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted keys, where they came from, and how many are of finite points: those below the number of cells."""
    points = cloud[0]
    key = empty(points, len(points), dtype=torch.int32 if cells is not None and cells < 2**31 else torch.int64)
    native.voxelize_keys(on(points), *cloud, extent, -1, key)
    key, order = sort_keys(key, 2**63 if cells is None else cells + 1)
    return key, order, torch.searchsorted(key, extent[4:].prod().to(key.dtype).view(1))


def _sort_by_axis(cloud: Cloud, extent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same where the number of cells is beyond int64: the last axis first, and then keys that number the voxels."""
    points = cloud[0]
    keys = [empty(points, len(points), dtype=torch.int64) for _ in range(4)]
    order = torch.arange(len(points), device=points.device)
    for axis in (3, 2, 1, 0):
        native.voxelize_keys(on(points), *cloud, extent, axis, keys[axis])
        first, within = sort_keys(keys[axis][order], 2**33)
        order = order[within]
    changed = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for key in keys:
        changed[1:] |= key[order].diff() != 0
    return changed.cumsum(0), order, torch.searchsorted(first, extent[4:5])


def _fake(points: Tensor, batch: Tensor | None, origin: Tensor, x: float, y: float, z: float) -> tuple[Tensor, ...]:
    n, found = points.shape[0], torch.library.get_ctx().new_dynamic_size()
    inverse, counts, ptr, order = (points.new_empty(k, dtype=torch.int64) for k in (n, found, found + 1, n))
    return points.new_empty(found, 4, dtype=torch.int32), inverse, counts, ptr, order


_voxelize = register(
    "voxelize(Tensor points, Tensor? batch, Tensor origin, float x, float y, float z)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    occupied_voxels,
    _fake,
)
