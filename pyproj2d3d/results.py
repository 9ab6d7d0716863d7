"""What do operations hand back where one tensor does not say it? Clouds, voxels, kernel maps: tensors with names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Pixels lifted to points; what :func:`back_project` returns."""

    points: Tensor  # (M, 3) world, metres
    features: Tensor | None  # (M, C), where maps were given
    pixel: Tensor  # (M,) int32, v W + u within its image
    ptr: Tensor | None  # (B + 1,) int64: image b made the rows from ptr[b] to ptr[b + 1]; None where pixels were chosen
    valid: Tensor  # (M,) bool: False where a chosen pixel has no valid depth, and its point is NaN

    def __len__(self) -> int:
        """The number of points."""
        return self.points.shape[0]

    def __repr__(self) -> str:
        channels = "none" if self.features is None else f"C={self.features.shape[1]}"
        return f"PointCloud(M={len(self)}, features: {channels}, {self.points.dtype}, {self.points.device})"


@dataclass(frozen=True, eq=False)
class Voxels:
    """Occupied voxels in the order of (batch, x, y, z); what :func:`voxelize` returns.

    ``order[ptr[m] : ptr[m + 1]]`` are the points of voxel m, ascending.
    """

    coords: Tensor  # (M, 4) int32: batch, x, y, z
    inverse: Tensor  # (N,) int64, the voxel of each point; -1 for a point that is not finite
    counts: Tensor  # (M,) int64, points in each voxel
    ptr: Tensor  # (M + 1,) int64
    order: Tensor  # (N,) int64: the points voxel by voxel, then those in none

    def __len__(self) -> int:
        """The number of voxels."""
        return self.coords.shape[0]

    def to(self, device: torch.device | str) -> Voxels:
        """The same voxels on another device."""
        parts = (self.coords, self.inverse, self.counts, self.ptr, self.order)
        return Voxels(*(part.to(device) for part in parts))

    def __repr__(self) -> str:
        return f"Voxels(M={len(self)}, N={self.inverse.shape[0]}, {self.coords.device})"


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Which input does each offset of a kernel read for each output; what :func:`kernel_map` returns.

    ``input[ptr[k] : ptr[k + 1]]`` and ``output[ptr[k] : ptr[k + 1]]`` are the pairs of offset k, in the order of the
    outputs' (batch, x, y, z). Within an offset no input and no output is there twice.
    """

    ptr: Tensor  # (K + 1,) int64; offset k = (kx size_y + ky) size_z + kz
    input: Tensor  # (P,) int32, rows of the voxels that were given
    output: Tensor  # (P,) int32, rows of ``coords``
    coords: Tensor  # (Q, 4) int32: batch, x, y, z of the outputs; of a submanifold map the voxels that were given

    def __len__(self) -> int:
        """The number of pairs."""
        return self.input.shape[0]

    def __repr__(self) -> str:
        offsets = self.ptr.shape[0] - 1
        return f"KernelMap(K={offsets}, P={len(self)}, Q={self.coords.shape[0]}, {self.coords.device})"
