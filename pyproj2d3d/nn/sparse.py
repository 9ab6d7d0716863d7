"""How do 3D networks run on voxels alone? Sparse tensors, convolutions and pooling, with spconv's names and weights.

The layers take and return a :class:`SparseTensor`, and give the same right result on every device and for any number of
threads, forward and backward. They follow spconv 2.x: arguments, weights (C_out, k, k, k, C_in) known as KRSC, keys
that share kernel maps. Where it is silently wrong they raise, or do what one expects:

- Layers that share an ``indice_key`` must have the same voxels, kernel size and dilation; only submanifold layers share
  one to convolve again, and an inverse convolution needs the key of a strided one or of a pool. Else a ValueError.
- Extents that a stride does not divide lose no voxel: the output has one plane more than spconv's floor where the last
  inputs would otherwise be in no output. (Dilated kernels with a stride leave out what spconv's do.)
- Voxels that are there twice or out of range are an error; memory layout does not matter.

A kernel of size 1 and stride 1 is a matrix product without a map or a key, and as in spconv its weight is read as
(C_in, C_out) whatever its shape says, so that weights of public models keep their meaning.

On CUDA spconv itself does the products where it is installed; see :class:`use_engine`. torch.compile leaves the layers
as they are and compiles what is between them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..ops._check import check_device, check_int
from ..ops._register import sort_keys, uncompiled
from ..ops.kernel_map import Triple, check_three, kernel_map
from ..ops.scatter import scatter
from ..results import Voxels
from ._pairs import Pairs, average, maximum
from ._sparse_tensor import Shared, SparseTensor, check_sparse, same_voxels
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
        if indice_key is not None and not isinstance(indice_key, str):
            raise TypeError(f"indice_key must be text or None, got {indice_key!r}")
        self.indice_key = indice_key

    def _under_key(self, x: SparseTensor) -> Shared | None:
        return None if self.indice_key is None else x.indice_dict.get(self.indice_key)

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
        """Of a dense convolution, and without dilation one more where its last inputs would else be in no output."""
        out = []
        for n, size, stride, padding, dilation in zip(
            shape, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        ):
            reach = dilation * (size - 1) + 1
            dense = (n + 2 * padding - reach) // stride + 1
            all_read = max(-((reach - n - padding) // stride), 0) + 1 if dilation == 1 else 0
            begins_inside = (n - 1 + padding) // stride + 1
            out.append(max(dense, min(all_read, begins_inside)))
            if out[-1] < 1 <= n:
                least = reach - 2 * padding
                raise ValueError(f"extents must be at least {least} for a kernel that reaches {reach}, got {n}")
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
        self.in_channels = check_int("in_channels", in_channels, 0)
        self.out_channels = check_int("out_channels", out_channels, 0)
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
        check_sparse(x)
        if x.features.shape[1] != self.in_channels:
            raise ValueError(f"x must have {self.in_channels} channels, got {x.features.shape[1]}")
        check_device("x", x.features, "the weight", self.weight)
        dtype, wanted = x.features.dtype, self.weight.dtype
        fixed = torch.float64 in (dtype, wanted)  # autocast casts neither to nor from it
        if dtype != wanted and (fixed or not torch.is_autocast_enabled(x.features.device.type)):
            way_out = ", with autocast too" if fixed else "; or use autocast"
            raise TypeError(f"x must be {wanted} like the weight, got {dtype}{way_out}")

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
        rule, shared = (self.kernel_size, self.dilation), self._under_key(x)
        if shared is None:
            found = kernel_map(x.indices, self.kernel_size, dilation=self.dilation)
            centre = math.prod(self.kernel_size) // 2 if all(n % 2 for n in self.kernel_size) else None
            pairs = Pairs(found.ptr.tolist(), found.input, found.output, len(x.indices), len(x.indices), centre)
            shared = Shared(True, rule, pairs, x.indices, x.spatial_shape, x.indices, x.spatial_shape)
        elif not shared.submanifold or shared.rule != rule or not same_voxels(shared.indices, x.indices):
            kind = "submanifold" if shared.submanifold else "strided"
            raise ValueError(
                f"indice_key {self.indice_key!r} must be of a submanifold map of these voxels with kernel_size "
                f"{rule[0]} and dilation {rule[1]}, got a {kind} one of {len(shared.indices)} voxels with "
                f"{shared.rule[0]} and {shared.rule[1]}; x has {len(x.indices)} voxels"
            )
        new = {} if self.indice_key is None else {self.indice_key: shared}
        return x._with(self._convolved(x, shared.pairs), x.indices, x.spatial_shape, new)


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
        return x._with(self._convolved(x, shared.pairs), shared.out_indices, shared.out_shape, new)


class SparseInverseConv3d(_Convolution):
    """Back to the voxels that a strided convolution or a pool with this ``indice_key`` had: its pairs turned round."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Triple, indice_key: str, bias: bool = True):
        if not isinstance(indice_key, str):
            raise TypeError(f"indice_key must be that of a strided layer, got {indice_key!r}")
        super().__init__(in_channels, out_channels, kernel_size, 1, 0, 1, 1, bias, indice_key)

    @uncompiled
    def forward(self, x: SparseTensor) -> SparseTensor:
        self._check(x)
        shared = self._under_key(x)
        if shared is None:
            known = ", ".join(map(repr, x.indice_dict)) or "none"
            raise ValueError(f"indice_key must be one that x has seen, got {self.indice_key!r}; it has {known}")
        if shared.submanifold:
            raise ValueError(f"indice_key must be of a strided layer, got {self.indice_key!r} of a submanifold one")
        if shared.rule[0] != self.kernel_size:
            raise ValueError(f"kernel_size must be {shared.rule[0]} as under this key, got {self.kernel_size}")
        if not same_voxels(shared.out_indices, x.indices):
            raise ValueError(f"x must have the voxels that {self.indice_key!r} leads to, got others")
        return x._with(self._convolved(x, shared.pairs.turned()), shared.indices, shared.spatial_shape)


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
        check_sparse(x)
        shared, new = self._strided(x)
        return x._with(self.pool(x.features, shared.pairs), shared.out_indices, shared.out_shape, new)

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
        check_sparse(x)
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
