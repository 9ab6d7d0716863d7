"""What do sparse layers pass on? Features of active voxels in a batch of grids, and the kernel maps of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops._check import FEATURES, check_device, check_int, check_tensor
from ..ops._register import uncompiled
from ..ops.kernel_map import check_three, kernel_map
from ._pairs import Pairs

__all__ = ["Shared", "SparseTensor", "check_sparse", "same_voxels"]


@dataclass(frozen=True)
class Shared:
    """A kernel map under its key: what it was made for, and what comes out."""

    submanifold: bool
    rule: tuple[list[int], ...]  # size and dilation, and with a stride also stride and padding
    pairs: Pairs
    indices: Tensor
    spatial_shape: list[int]
    out_indices: Tensor
    out_shape: list[int]


class SparseTensor:
    """Features of the active voxels of a batch of grids; everything else is 0.

    Args:
        features: (M, C) float16, bfloat16, float32 or float64.
        indices: (M, 4) int32 like those of :func:`pyproj2d3d.voxelize`: batch, then three coordinates, all different,
            in any order; from 0 to below ``batch_size`` and ``spatial_shape``.
        spatial_shape: extent of the grids along the three coordinates, or one for all. Unlike spconv's it need not be
            padded.
        batch_size: grids, of which some may have no voxel.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here, or a voxel that is
            there twice.

    No voxels at all are allowed. Layers return new tensors; :meth:`replace_feature` does so too, and keeps the voxels
    and the kernel maps that their keys share.
    """

    def __init__(self, features: Tensor, indices: Tensor, spatial_shape: Sequence[int], batch_size: int):
        check_tensor("features", features, FEATURES, None, None)
        check_tensor("indices", indices, (torch.int32,), features.shape[0], 4)
        check_device("indices", indices, "features", features)
        self.spatial_shape = check_three("spatial_shape", spatial_shape, 1)
        self.batch_size = check_int("batch_size", batch_size, 1)
        self._features, self.indices = features, indices.contiguous()
        self.indice_dict: dict[str, Shared] = {}
        _check_indices(self.indices, [self.batch_size, *self.spatial_shape])

    @property
    def features(self) -> Tensor:
        """(M, C), of the voxels in the order of ``indices``."""
        return self._features

    @features.setter
    def features(self, _: Tensor) -> None:
        raise AttributeError("features of a SparseTensor cannot be set; x.replace_feature(features) returns another")

    def replace_feature(self, features: Tensor) -> SparseTensor:
        """The same voxels with other features (M, any)."""
        check_tensor("features", features, FEATURES, self.indices.shape[0], None)
        check_device("features", features, "indices", self.indices)
        return self._with(features, self.indices, self.spatial_shape)

    def to(self, device: torch.device | str | int) -> SparseTensor:
        """The same on another device, without the kernel maps of its keys: they are made anew there. Differentiable.

        Where it is on that device already, itself.
        """
        if isinstance(device, torch.dtype):
            raise TypeError(f"device must be a device, got {device}; x.replace_feature(x.features.to({device})) casts")
        features, indices = self.features.to(device), self.indices.to(device)
        if features is self.features:
            return self
        other = self._with(features, indices, self.spatial_shape)
        other.indice_dict = {}
        return other

    def dense(self, channels_first: bool = True) -> Tensor:
        """(B, C, *spatial_shape), or (B, *spatial_shape, C): 0 where no voxel is. Differentiable."""
        at = self.indices.long().unbind(1)
        shape = (self.batch_size, *self.spatial_shape, self.features.shape[1])
        grid = self.features.new_zeros(shape).index_put(at, self.features)
        return grid.permute(0, 4, 1, 2, 3).contiguous() if channels_first else grid

    def _with(
        self, features: Tensor, indices: Tensor, spatial_shape: list[int], new: dict[str, Shared] | None = None
    ) -> SparseTensor:
        other = object.__new__(SparseTensor)  # these voxels have been checked
        other._features, other.indices = features, indices
        other.spatial_shape, other.batch_size = spatial_shape, self.batch_size
        other.indice_dict = self.indice_dict | (new or {})
        return other

    def __repr__(self) -> str:
        m, channels = self.features.shape
        return (
            f"SparseTensor(M={m}, C={channels}, B={self.batch_size}, shape={self.spatial_shape}, "
            f"{self.features.dtype}, {self.features.device})"
        )


@uncompiled
def _check_indices(indices: Tensor, ends: list[int]) -> None:
    if len(indices) == 0:
        return
    low, high = (t.tolist() for t in torch.stack((indices.amin(0), indices.amax(0))))
    for d, name in enumerate(("batch", "coordinate 0", "coordinate 1", "coordinate 2")):
        if low[d] < 0 or high[d] >= ends[d]:
            worst = low[d] if low[d] < 0 else high[d]
            raise ValueError(f"indices must have {name} from 0 to {ends[d] - 1}, got {worst}")
    try:
        kernel_map(indices, 1)  # looks at every voxel
    except ValueError as error:
        raise ValueError(str(error).replace("coords", "indices", 1)) from None


def check_sparse(x: SparseTensor) -> None:
    if not isinstance(x, SparseTensor):
        raise TypeError(f"x must be a SparseTensor, got {type(x).__name__}")


def same_voxels(indices: Tensor, other: Tensor) -> bool:
    return indices is other or torch.equal(indices, other)
