"""Which engine multiplies along a kernel map? Our own, or on CUDA spconv's kernels, which get our pairs.

So voxels, their order, keys and errors are the same on either, and so are results but for rounding. Of spconv's
algorithms it is Native: a product for each offset, which gathers and adds as it goes. The default of spconv's own
layers, implicit GEMM, reads other tables, and nothing of it can run without a GPU.

Not yet run on a GPU. These very calls run on the CPU, in the wheel for CUDA too, and are tested there against our own
engine: the layout of the pairs, values, both gradients.
"""

from __future__ import annotations

import warnings
from functools import cache
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops._check import check_choice
from . import _pairs
from ._pairs import Pairs

__all__ = ["convolve", "use_engine"]

_chosen = "auto"


class use_engine:
    """Which engine the convolutions of this module use: from now on, or inside a ``with`` block.

    Args:
        name: "own": gathering, products and sums of this package, right and deterministic everywhere. "spconv": its
            kernels over our kernel maps, for float32 and float16 on CUDA. "auto", the default: spconv where it can do
            the work, else our own.

    Raises:
        ValueError: another name.
        ImportError: "spconv" is asked for, and is not installed or built without CUDA.

    Asked for by name, spconv raises ValueError at a layer whose features it cannot take: on the CPU, float64 or
    bfloat16, or under ``torch.use_deterministic_algorithms``: it chooses its kernels by timing them, so that the last
    bits may differ from run to run. "auto" is our own engine there. In float16 spconv sums in float16 too, ours
    in float32. Pools, and kernels of size 1 and stride 1, are ours or torch's in any case.

    The choice holds for all threads of the process; a gradient is computed by the engine of its forward pass.

    >>> with use_engine("own"):
    ...     out = SubMConv3d(1, 2, 3)(SparseTensor(torch.ones(1, 1), torch.zeros(1, 4).int(), [1, 1, 1], 1))
    >>> out
    SparseTensor(M=1, C=2, B=1, shape=[1, 1, 1], torch.float32, cpu)
    """

    def __init__(self, name: str):
        global _chosen
        check_choice("name", name, "auto", "own", "spconv")
        if name == "spconv" and (why := _library()[1]):
            raise ImportError(f'engine "spconv" needs spconv built for CUDA: pip install "pyproj2d3d[spconv]" ({why})')
        self._name, self._before = name, _chosen
        _chosen = name

    def __enter__(self) -> None:
        global _chosen
        if _chosen != self._name:  # used again
            self._before, _chosen = _chosen, self._name

    def __exit__(self, *_: object) -> None:
        global _chosen
        _chosen = self._before


def convolve(features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
    """:func:`pyproj2d3d.nn._pairs.convolve`, on the engine that is chosen."""
    if _chosen == "own":
        return _pairs.convolve(features, weight, pairs)
    device, dtype = features.device, features.dtype
    if torch.is_autocast_enabled(device.type) and torch.float64 not in (dtype, weight.dtype):
        dtype = torch.get_autocast_dtype(device.type)
    lacks = _lacks(device, dtype)
    if lacks and _chosen == "spconv":
        raise ValueError(f'engine "spconv" needs {lacks}; "auto" takes our own engine there')
    if lacks or len(pairs.source) == 0 or weight.numel() == 0:  # spconv has no kernel for nothing
        return _pairs.convolve(features, weight, pairs)
    return _Native.apply(features.to(dtype), weight.to(dtype), pairs)


def _lacks(device: torch.device, dtype: torch.dtype) -> str | None:
    """What spconv would need to compute these."""
    if device.type != "cuda":
        return f"features on CUDA, got {device}"
    if dtype not in (torch.float32, torch.float16):
        return f"features in float32 or float16, got {str(dtype).removeprefix('torch.')}"
    if torch.are_deterministic_algorithms_enabled():
        return "torch.use_deterministic_algorithms to be off"
    return _library()[1]


@cache
def _library() -> tuple[Any, str | None]:
    """spconv's operations, and why they are not those for CUDA. Looked for once, and not before it is needed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own use of what Python deprecates
            from spconv.cppconstants import CPU_ONLY_BUILD
            from spconv.pytorch import ops
    except (ImportError, OSError) as error:
        return None, str(error)
    return ops, "this one is built for the CPU alone" if CPU_ONLY_BUILD else None


class _Native(torch.autograd.Function):
    """Features and weight of one dtype, float32 or float16, and at least one pair."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
        features, weight = features.contiguous(), weight.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.rule = (*_table(pairs), False, pairs.centre is not None)  # not inverse; submanifold
        table, counts, *rule = ctx.rule
        with torch.cuda.device_of(features):  # spconv asks torch for the current device and its stream
            return _library()[0].indice_conv(features, weight, table, counts, pairs.n_targets, *rule)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.cuda.device_of(grad), torch.autocast(grad.device.type, enabled=False):
            return *_library()[0].indice_conv_backward(*ctx.saved_tensors, grad, *ctx.rule), None


_tables: WeakKeyDictionary[Pairs, tuple[Tensor, Tensor]] = WeakKeyDictionary()  # as long as the map is kept


def _table(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(2, K, M) int32, the sources and targets of each offset and then -1, and (K,) int32 on the host, how many.

    M is the most of any offset. The centre has none: there spconv multiplies the features as they are, and as it reads
    the later half of the counts from the earlier half, offset K - 1 - k must have as many pairs as k.
    """
    if pairs not in _tables:
        counts = [end - begin for begin, end in pairwise(pairs.ptr)]
        if pairs.centre is not None:
            counts[pairs.centre] = 0
        table = pairs.source.new_full((2, len(counts), max(*counts, 1)), -1)
        for k, (begin, count) in enumerate(zip(pairs.ptr, counts, strict=False)):
            table[0, k, :count] = pairs.source[begin : begin + count]
            table[1, k, :count] = pairs.target[begin : begin + count]
        _tables[pairs] = table, torch.tensor(counts, dtype=torch.int32)
    return _tables[pairs]
