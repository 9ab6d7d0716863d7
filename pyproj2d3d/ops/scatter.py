"""What do the points of a voxel say together? Features reduced voxel by voxel, and their gradients handed back."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor

from ..results import Voxels
from ._check import FEATURES, check_bool, check_choice, check_device, check_tensor
from ._register import contiguous, empty, native, on, register

__all__ = ["scatter"]

LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@overload
def scatter(
    features: Tensor, voxels: Voxels, reduce: str = "mean", *, return_arg: Literal[False] = False
) -> Tensor: ...
@overload
def scatter(
    features: Tensor, voxels: Voxels, reduce: str = "mean", *, return_arg: Literal[True]
) -> tuple[Tensor, Tensor]: ...
def scatter(
    features: Tensor, voxels: Voxels, reduce: str = "mean", *, return_arg: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Features of points reduced to features of voxels.

    Args:
        features: (N, C) float16, bfloat16, float32 or float64, of the points that were voxelized. With "mode" (N,) or
            (N, C) integer labels instead; "first" takes floats and integers, (N,) or (N, C).
        voxels: what :func:`voxelize` returned, on the same device.
        reduce: "mean" or "sum", in float32 (float64 for float64) in the order of the points, 256 at a time; "max" or
            "min", of which a NaN is the result; "mode", the most frequent label that is not negative, the smallest of
            several, and -1 where there is none (a uint8 255 is an ordinary label); "first", that of the lowest point.
        return_arg: with "max", "min" and "first" return which point each value came from too: the lowest of several.

    Returns:
        (M, C) or (M,) like ``features``, a row for each voxel; with ``return_arg`` also (M, C) or, for "first", (M,)
        int64. Differentiable in floating features. A point that is in no voxel takes no part and gets gradient 0; of
        several equal maxima the lowest point gets all of it.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here, or ``return_arg`` with a
            reduction that has none.

    >>> voxels = voxelize(torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [1.5, 0.0, 0.0]]), 1.0)
    >>> scatter(torch.tensor([[1.0], [3.0], [7.0]]), voxels).tolist()
    [[2.0], [7.0]]
    >>> scatter(torch.tensor([4, 2, -1]), voxels, "mode").tolist()  # 2 and 4 are as frequent
    [2, -1]
    """
    check_choice("reduce", reduce, "mean", "sum", "max", "min", "mode", "first")
    _check_voxels(voxels)
    _check_features(features, voxels, reduce)
    if check_bool("return_arg", return_arg) and reduce not in ("max", "min", "first"):
        raise ValueError(f"return_arg must be False with {reduce!r}: only 'max', 'min' and 'first' have one")
    order, ptr, inverse = voxels.order, voxels.ptr, voxels.inverse
    if reduce == "first":
        if not torch.compiler.is_compiling():  # then torch's own indexing looks at them
            _check_each_index(order, ptr, inverse)
        first = order[ptr[:-1]]
        return (features[first], first) if return_arg else features[first]
    if reduce == "mode":
        labels = features.long()
        modes = _scatter_mode(labels if labels.ndim == 2 else labels[:, None], order, ptr, inverse)
        return modes.view(len(voxels), *labels.shape[1:]).to(features.dtype)
    if reduce in ("mean", "sum"):
        return _scatter_sum(features, order, ptr, inverse, reduce == "mean", True)
    track = return_arg or (torch.is_grad_enabled() and features.requires_grad)
    out, arg = _scatter_extreme(features, order, ptr, inverse, reduce == "max", track, True)
    return (out, arg) if return_arg else out


def _check_voxels(voxels: Voxels) -> None:
    if not isinstance(voxels, Voxels):
        raise TypeError(f"voxels must be Voxels, as voxelize returns them, got {type(voxels).__name__}")
    n, m = voxels.inverse.shape[0], voxels.coords.shape[0]
    for name, length in (("inverse", n), ("order", n), ("ptr", m + 1)):
        check_tensor(f"voxels.{name}", getattr(voxels, name), (torch.int64,), length)
        check_device(f"voxels.{name}", getattr(voxels, name), "voxels.coords", voxels.coords)


def _check_each_index(order: Tensor, ptr: Tensor, inverse: Tensor) -> None:
    """Of voxels, which may have been made by hand. Called where an operation runs, so that torch.compile calls it too;
    on the CPU alone, where it costs no synchronisation. Segments of our own, of which some are empty, go unlooked."""
    if ptr.device.type != "cpu":
        return
    n, m = len(order), len(ptr) - 1
    first, last = ptr[[0, -1]].tolist()
    if first != 0 or last > n or bool((ptr.diff() < 1).any()):
        raise ValueError(f"voxels.ptr must ascend from 0 to at most {n}, by at least 1, got {ptr.tolist()[:9]}")
    for name, index, lowest, highest in (("inverse", inverse, -1, m - 1), ("order", order, 0, n - 1)):
        low, high = (int(i) for i in index.aminmax()) if n else (lowest, highest)
        if low < lowest or high > highest:
            raise ValueError(f"voxels.{name} must be within {lowest} and {highest}, got {low} to {high}")


def _check_features(features: Tensor, voxels: Voxels, reduce: str) -> None:
    dtypes = {"mode": LABELS, "first": (*FEATURES, *LABELS, torch.bool)}.get(reduce, FEATURES)
    flat = reduce in ("mode", "first") and isinstance(features, Tensor) and features.ndim == 1
    check_tensor("features", features, dtypes, voxels.inverse.shape[0], *([] if flat else [None]))
    check_device("features", features, "voxels", voxels.inverse)


def _run_sum(features: Tensor, order: Tensor, ptr: Tensor, inverse: Tensor, mean: bool, look: bool) -> Tensor:
    if look:
        _check_each_index(order, ptr, inverse)
    out = empty(features, len(ptr) - 1, features.shape[1])
    native.scatter_sum(on(features), *contiguous(features, order, ptr), mean, out)
    return out


def _fake_sum(features: Tensor, order: Tensor, ptr: Tensor, inverse: Tensor, mean: bool, look: bool) -> Tensor:
    return features.new_empty(ptr.shape[0] - 1, features.shape[1])


def _run_grad(grad: Tensor, inverse: Tensor, ptr: Tensor, mean: bool, arg: Tensor | None) -> Tensor:
    out = empty(grad, len(inverse), grad.shape[1])
    native.scatter_grad(on(grad), *contiguous(grad, inverse, ptr), mean, *contiguous(arg), out)
    return out


def _fake_grad(grad: Tensor, inverse: Tensor, ptr: Tensor, mean: bool, arg: Tensor | None) -> Tensor:
    return grad.new_empty(inverse.shape[0], grad.shape[1])


_scatter_grad = register(
    "scatter_grad(Tensor grad, Tensor inverse, Tensor ptr, bool mean, Tensor? arg) -> Tensor", _run_grad, _fake_grad
)


def _save_sum(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, ptr, inverse, ctx.mean, _ = inputs
    ctx.save_for_backward(inverse, ptr)


def _backward_sum(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _scatter_grad(grad, *ctx.saved_tensors, ctx.mean, None), *(None,) * 5


_scatter_sum = register(
    "scatter_sum(Tensor features, Tensor order, Tensor ptr, Tensor inverse, bool mean, bool look) -> Tensor",
    _run_sum,
    _fake_sum,
    save=_save_sum,
    backward=_backward_sum,
)


def _run_extreme(
    features: Tensor, order: Tensor, ptr: Tensor, inverse: Tensor, maximum: bool, track: bool, look: bool
) -> tuple[Tensor, Tensor]:
    if look:
        _check_each_index(order, ptr, inverse)
    shape = (len(ptr) - 1, features.shape[1])
    out, arg = empty(features, *shape), empty(ptr, *shape) if track else None
    native.scatter_extreme(on(features), *contiguous(features, order, ptr), maximum, out, arg)
    return out, ptr.new_empty(0, 0) if arg is None else arg


def _fake_extreme(
    features: Tensor, order: Tensor, ptr: Tensor, inverse: Tensor, maximum: bool, track: bool, look: bool
) -> tuple[Tensor, Tensor]:
    shape = (ptr.shape[0] - 1, features.shape[1])
    return features.new_empty(shape), ptr.new_empty(shape if track else (0, 0))


def _save_extreme(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, ptr, inverse, _, ctx.track, _ = inputs
    ctx.save_for_backward(inverse, ptr, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward_extreme(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    if not ctx.track:
        raise RuntimeError("pyproj2d3d: scatter_extreme has a gradient only where track is True")
    inverse, ptr, arg = ctx.saved_tensors
    return _scatter_grad(grad, inverse, ptr, False, arg), *(None,) * 6


_scatter_extreme = register(
    "scatter_extreme(Tensor features, Tensor order, Tensor ptr, Tensor inverse, bool maximum, bool track, bool look)"
    " -> (Tensor, Tensor)",
    _run_extreme,
    _fake_extreme,
    save=_save_extreme,
    backward=_backward_extreme,
)


def _run_mode(labels: Tensor, order: Tensor, ptr: Tensor, inverse: Tensor) -> Tensor:
    _check_each_index(order, ptr, inverse)
    out, scratch = empty(labels, labels.shape[1], len(ptr) - 1), torch.empty_like(order)
    order, ptr = contiguous(order, ptr)
    for column, modes in zip(labels.T, out, strict=True):
        native.scatter_mode(on(labels), column.contiguous(), order, ptr, scratch, modes)
    return out.T.contiguous()


def _fake_mode(labels: Tensor, order: Tensor, ptr: Tensor, inverse: Tensor) -> Tensor:
    return labels.new_empty(ptr.shape[0] - 1, labels.shape[1])


_scatter_mode = register(
    "scatter_mode(Tensor labels, Tensor order, Tensor ptr, Tensor inverse) -> Tensor", _run_mode, _fake_mode
)
