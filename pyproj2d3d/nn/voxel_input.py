"""How does a packed cloud get into a sparse network, and its results back to the points?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..ops._check import FEATURES, GEOMETRY, check_device, check_ptr, check_tensor
from ..ops.scatter import scatter
from ..ops.voxelize import voxelize
from ..results import Voxels
from .sparse import SparseTensor

__all__ = ["at_points", "voxel_tensor"]


def voxel_tensor(points: Tensor, features: Tensor, size: float, ptr: Tensor) -> tuple[SparseTensor, Voxels]:
    """The voxels of a batch of clouds, each with the mean features of its points.

    Args:
        points: (N, 3) float32 or float64, cloud after cloud.
        features: (N, C) float16, bfloat16, float32 or float64.
        size: edge of a voxel, metres.
        ptr: (B + 1,) int64: cloud b is points ptr[b] to ptr[b + 1]; it may have none.

    Returns:
        The tensor and the voxels: row m of the one is voxel m of the other, whose ``inverse`` says the voxel of each
        point. The grid of each cloud begins at its own lowest voxel along each axis, so that what a network makes of
        it in evaluation does not depend on the others. A point that is not finite is in no voxel; see
        :func:`at_points`.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here; see :func:`voxelize`.
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    check_tensor("features", features, FEATURES, len(points), None)
    check_device("features", features, "points", points)
    check_ptr("ptr", ptr, points)  # where this does not hold, repeat_interleave writes beyond its result
    voxels = voxelize(points, size, batch=torch.repeat_interleave(ptr.diff(), output_size=len(points)))
    cloud, place = voxels.coords[:, 0].long(), voxels.coords[:, 1:].long()
    low = place.new_zeros(len(ptr) - 1, 3).scatter_reduce(
        0, cloud[:, None].expand(-1, 3), place, "amin", include_self=False
    )
    place = place - low[cloud]
    extent = (place.amax(0) + 1).tolist() if len(place) else [1, 1, 1]
    if max(extent) >= 2**31:
        raise ValueError(f"points of a cloud must be within 2**31 voxels, got {max(extent)}: is one far away?")
    indices = torch.cat((voxels.coords[:, :1], place.int()), 1)
    return SparseTensor(scatter(features, voxels), indices, extent, len(ptr) - 1), voxels


def at_points(of_voxels: Tensor, voxels: Voxels, nowhere: float) -> Tensor:
    """(M, ...) to (N, ...): what each point's voxel has; ``nowhere`` for a point that is in none.

    Raises:
        TypeError, ValueError: ``of_voxels`` is no tensor, is elsewhere than the voxels or has not a row for each, or
            its dtype has no such ``nowhere``.
    """
    if not isinstance(of_voxels, Tensor):
        raise TypeError(f"of_voxels must be a tensor, got {type(of_voxels).__name__}")
    if of_voxels.shape[:1] != voxels.coords.shape[:1]:
        raise ValueError(
            f"of_voxels must have {len(voxels.coords)} rows, one for each voxel, got shape {tuple(of_voxels.shape)}"
        )
    check_device("of_voxels", of_voxels, "voxels", voxels.inverse)
    if not _holds(of_voxels.dtype, nowhere):
        raise ValueError(f"nowhere must be a value of {of_voxels.dtype}, got {nowhere}")
    rows = torch.cat((of_voxels, of_voxels.new_full((1, *of_voxels.shape[1:]), nowhere)))
    return rows[voxels.inverse]  # -1 is the last row


def _holds(dtype: torch.dtype, value: float) -> bool:
    if dtype.is_complex:
        return True
    if dtype.is_floating_point:
        return not math.isfinite(value) or abs(value) <= torch.finfo(dtype).max
    low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    return math.isfinite(value) and value == int(value) and low <= value <= high
