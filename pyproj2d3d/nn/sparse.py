"""How do 3D networks run on voxels alone? Sparse tensors, convolutions and pooling, with spconv's names and weights.

The layers take and return a :class:`SparseTensor`, and give the same right result on every device and for any number of
threads, forward and backward. They follow spconv 2.x: arguments, weights (C_out, k, k, k, C_in) known as KRSC, keys
that share kernel maps. Where it is silently wrong they raise, or do what one expects:

- Layers that share an ``indice_key`` must have the same voxels, kernel size and dilation; only submanifold layers share
  one to convolve again, and an inverse convolution needs the key of a strided one or of a pool. Else a ValueError.
- Extents that a stride does not divide lose no voxel: the output has one plane more than spconv's floor where the last
  inputs would otherwise be in no output.
- Voxels that are there twice or out of range are an error; memory layout does not matter.

A kernel of size 1 and stride 1 is a matrix product without a map or a key, and as in spconv its weight is read as
(C_in, C_out) whatever its shape says, so that weights of public models keep their meaning.

On CUDA spconv itself does the products where it is installed; see :class:`use_engine`. torch.compile leaves the layers
as they are and compiles what is between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..ops._check import FEATURES, check_device, check_int, check_tensor
from ..ops._register import sort_keys, uncompiled
from ..ops.kernel_map import Triple, check_three, kernel_map
from ..ops.scatter import scatter
from ..results import Voxels
from ._pairs import Pairs, average, maximum
from ._spconv import convolve, use_engine

__all__ = [
    "SparseAvgPool3d",
    "SparseConv3d",
    "SparseGlobalAvgPool",
    "SparseGlobalMaxPool",
    "SparseInverseConv3d",
    "SparseMaxPool3d",
    "SparseModule",
    "SparseSequential",
    "SparseTensor",
    "SubMConv3d",
    "use_engine",
]


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
        spatial_shape: extent of the grids along the three coordinates. Unlike spconv's it need not be padded.
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

    def dense(self, channels_first: bool = True) -> Tensor:
        """(B, C, *spatial_shape), or (B, *spatial_shape, C): 0 where no voxel is. Differentiable."""
        at = self.indices.long().unbind(1)
        shape = (self.batch_size, *self.spatial_shape, self.features.shape[1])
        grid = self.features.new_zeros(shape).index_put(at, self.features)
        return grid.permute(0, 4, 1, 2, 3).contiguous() if channels_first else grid

    def _with(self, features: Tensor, indices: Tensor, spatial_shape: list[int], **new: Shared) -> SparseTensor:
        other = object.__new__(SparseTensor)  # these voxels have been checked
        other._features, other.indices = features, indices
        other.spatial_shape, other.batch_size = spatial_shape, self.batch_size
        other.indice_dict = self.indice_dict | new
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


class SparseModule(nn.Module):
    """A layer that takes and returns a :class:`SparseTensor`, so that :class:`SparseSequential` hands it one."""


class SparseSequential(nn.Sequential, SparseModule):
    """Layers one after the other: sparse ones get the tensor, others, such as BatchNorm1d and ReLU, its features."""

    def forward(self, x: Any) -> Any:
        for layer in self:
            if isinstance(layer, SparseModule) or not isinstance(x, SparseTensor):
                x = layer(x)
            else:
                x = x.replace_feature(layer(x.features))
        return x


class _Kernel(SparseModule):
    """What convolutions and pools have in common: a rule, a key, and the kernel map of both."""

    def __init__(self, kernel_size: Triple, stride: Triple, padding: Triple, dilation: Triple, indice_key: str | None):
        super().__init__()
        self.kernel_size, self.stride = check_three("kernel_size", kernel_size, 1), check_three("stride", stride, 1)
        self.padding, self.dilation = check_three("padding", padding, 0), check_three("dilation", dilation, 1)
        self.indice_key = indice_key

    def _strided(self, x: SparseTensor) -> tuple[Shared, dict[str, Shared]]:
        """The map from these voxels to all that read them, and what to keep of it under the key."""
        if self.indice_key in x.indice_dict:
            raise ValueError(f"indice_key must be new to the tensor for a strided layer, got {self.indice_key!r} again")
        shape = self._out_shape(x.spatial_shape)
        found = kernel_map(
            x.indices, self.kernel_size, stride=self.stride, padding=self.padding, dilation=self.dilation, shape=shape
        )
        pairs = Pairs(found.ptr.tolist(), found.input, found.output, len(x.indices), len(found.coords))
        rule = (self.kernel_size, self.dilation, self.stride, self.padding)
        shared = Shared(False, rule, pairs, x.indices, x.spatial_shape, found.coords, shape)
        return shared, {} if self.indice_key is None else {self.indice_key: shared}

    def _out_shape(self, shape: list[int]) -> list[int]:
        """Of a dense convolution, and one more where its last inputs would otherwise be in no output."""
        out = []
        for n, size, stride, padding, dilation in zip(
            shape, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        ):
            reach = dilation * (size - 1) + 1
            dense = (n + 2 * padding - reach) // stride + 1
            all_read = max(-((reach - n - padding) // stride), 0) + 1
            begins_inside = (n - 1 + padding) // stride + 1
            out.append(max(dense, min(all_read, begins_inside), 0))
        return out

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, key={self.indice_key!r}"


class _Convolution(_Kernel):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Triple, stride: Triple, padding: Triple,
        dilation: Triple, groups: int, bias: bool, indice_key: str | None,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, dilation, indice_key)
        if groups != 1:
            raise ValueError(f"groups must be 1, got {groups}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch's convolutions: uniform within 1 / sqrt(inputs of one output)."""
        bound = 1 / math.sqrt(max(self.in_channels * math.prod(self.kernel_size), 1))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def _convolved(self, x: SparseTensor, pairs: Pairs) -> Tensor:
        out = convolve(x.features, self.weight.flatten(1, 3), pairs)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def _check(self, x: SparseTensor) -> None:
        if not isinstance(x, SparseTensor):
            raise TypeError(f"x must be a SparseTensor, got {type(x).__name__}")
        if x.features.shape[1] != self.in_channels:
            raise ValueError(f"x must have {self.in_channels} channels, got {x.features.shape[1]}")
        check_device("x", x.features, "the weight", self.weight)
        if x.features.dtype != self.weight.dtype and not torch.is_autocast_enabled(x.features.device.type):
            raise TypeError(f"x must be {self.weight.dtype} like the weight, got {x.features.dtype}; or use autocast")

    def _is_product(self) -> bool:
        return self.kernel_size == [1, 1, 1] and self.stride == [1, 1, 1] and self.padding == [0, 0, 0]

    def _product(self, x: SparseTensor) -> SparseTensor:
        """Kernel 1: a matrix product, with spconv's reading of the weight."""
        out = x.features @ self.weight.view(self.in_channels, self.out_channels)
        return x.replace_feature(out if self.bias is None else out + self.bias.to(out.dtype))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {super().extra_repr()}, bias={self.bias is not None}"


class SubMConv3d(_Convolution):
    """Submanifold convolution: outputs are the voxels that there are; the kernel is centred on each.

    ``stride`` must be 1, and ``padding`` is taken for spconv's sake and changes nothing. Layers with the same
    ``indice_key`` share one kernel map.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Triple, stride: Triple = 1, padding: Triple = 0,
        dilation: Triple = 1, groups: int = 1, bias: bool = True, indice_key: str | None = None,
    ):  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, indice_key)
        if self.stride != [1, 1, 1]:
            raise ValueError(f"stride must be 1 for a submanifold convolution, got {stride}")

    @uncompiled
    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check(x)
        if self.kernel_size == [1, 1, 1]:
            return self._product(x)
        rule, shared = (self.kernel_size, self.dilation), x.indice_dict.get(self.indice_key or "")
        if shared is None:
            found = kernel_map(x.indices, self.kernel_size, dilation=self.dilation)
            centre = math.prod(self.kernel_size) // 2 if all(n % 2 for n in self.kernel_size) else None
            pairs = Pairs(found.ptr.tolist(), found.input, found.output, len(x.indices), len(x.indices), centre)
            shared = Shared(True, rule, pairs, x.indices, x.spatial_shape, x.indices, x.spatial_shape)
        elif not shared.submanifold or shared.rule != rule or not _same(shared.indices, x.indices):
            kind = "submanifold" if shared.submanifold else "strided"
            raise ValueError(
                f"indice_key {self.indice_key!r} must be of a submanifold map of these voxels with kernel_size "
                f"{rule[0]} and dilation {rule[1]}, got a {kind} one of {len(shared.indices)} voxels with "
                f"{shared.rule[0]} and {shared.rule[1]}; x has {len(x.indices)} voxels"
            )
        new = {} if self.indice_key is None else {self.indice_key: shared}
        return x._with(self._convolved(x, shared.pairs), x.indices, x.spatial_shape, **new)


class SparseConv3d(_Convolution):
    """Strided convolution: outputs are all voxels that read one of the inputs, in ascending order.

    ``indice_key`` keeps the map for a :class:`SparseInverseConv3d`; it must be new.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Triple, stride: Triple = 1, padding: Triple = 0,
        dilation: Triple = 1, groups: int = 1, bias: bool = True, indice_key: str | None = None,
    ):  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, indice_key)

    @uncompiled
    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check(x)
        if self._is_product():
            return self._product(x)
        shared, new = self._strided(x)
        return x._with(self._convolved(x, shared.pairs), shared.out_indices, shared.out_shape, **new)


class SparseInverseConv3d(_Convolution):
    """Back to the voxels that a strided convolution or a pool with this ``indice_key`` had: its pairs turned round."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Triple, indice_key: str, bias: bool = True):
        if not isinstance(indice_key, str):
            raise TypeError(f"indice_key must be that of a strided layer, got {indice_key!r}")
        super().__init__(in_channels, out_channels, kernel_size, 1, 0, 1, 1, bias, indice_key)

    @uncompiled
    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check(x)
        shared = x.indice_dict.get(self.indice_key or "")
        if shared is None:
            known = ", ".join(map(repr, x.indice_dict)) or "none"
            raise ValueError(f"indice_key must be one that x has seen, got {self.indice_key!r}; it has {known}")
        if shared.submanifold:
            raise ValueError(f"indice_key must be of a strided layer, got {self.indice_key!r} of a submanifold one")
        if shared.rule[0] != self.kernel_size:
            raise ValueError(f"kernel_size must be {shared.rule[0]} as under this key, got {self.kernel_size}")
        if not _same(shared.out_indices, x.indices):
            raise ValueError(f"x must have the voxels that {self.indice_key!r} leads to, got others")
        return x._with(self._convolved(x, shared.pairs.turned()), shared.indices, shared.spatial_shape)


def _same(indices: Tensor, other: Tensor) -> bool:
    return indices is other or torch.equal(indices, other)


class SparseMaxPool3d(_Kernel):
    """The maximum over the voxels that there are: the others are no 0. ``stride`` None is the kernel's size.

    Of equal values the voxel first in the order of the offsets gets the gradient.
    """

    def __init__(
        self, kernel_size: Triple, stride: Triple | None = None, padding: Triple = 0, dilation: Triple = 1,
        indice_key: str | None = None,
    ):  # fmt: skip
        super().__init__(kernel_size, kernel_size if stride is None else stride, padding, dilation, indice_key)

    @uncompiled
    def forward(self, x: SparseTensor) -> SparseTensor:
        shared, new = self._strided(x)
        return x._with(self.pool(x.features, shared.pairs), shared.out_indices, shared.out_shape, **new)

    def pool(self, features: Tensor, pairs: Pairs) -> Tensor:
        return maximum(features, pairs)


class SparseAvgPool3d(SparseMaxPool3d):
    """The mean over the voxels that there are, divided by their number and not by the kernel's."""

    def pool(self, features: Tensor, pairs: Pairs) -> Tensor:
        return average(features, pairs)


class SparseGlobalMaxPool(SparseModule):
    """(B, C): the maximum over the voxels of each grid of the batch; 0 for a grid without voxels."""

    reduce = "max"

    @uncompiled
    def forward(self, x: SparseTensor) -> Tensor:
        out = x.features.new_zeros(x.batch_size, x.features.shape[1])
        key, order = sort_keys(x.indices[:, 0].contiguous(), x.batch_size)
        batch, place, counts = key.unique_consecutive(return_inverse=True, return_counts=True)
        inverse = torch.empty_like(place).index_copy_(0, order, place)
        ptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
        grids = Voxels(batch.new_zeros(len(batch), 4), inverse, counts, ptr, order)
        return out.index_copy(0, batch.long(), scatter(x.features, grids, self.reduce))


class SparseGlobalAvgPool(SparseGlobalMaxPool):
    """(B, C): the mean over the voxels of each grid of the batch; 0 for a grid without voxels."""

    reduce = "mean"
