"""What do the points look like from here? Point features written to the pixels that see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..camera import Matches
from ._check import FEATURES, check_choice, check_device, check_each_match, check_matches, check_tensor, image_size
from ._register import contiguous, empty, native, on, register, sum_by_key

__all__ = ["splat"]


def splat(features: Tensor, index: Tensor | Matches, size: Sequence[int] | None = None, reduce: str = "mean") -> Tensor:
    """Point features as images: of the point that each pixel sees, or of all points that fall into it.

    Args:
        features: (N, C) float16, bfloat16, float32 or float64.
        index: (V, H, W) int64, the point seen at each pixel and -1 where there is none, as :func:`zbuffer` returns it;
            or Matches: then every pixel reduces all points matched to it.
        size: image height and width (H, W), with Matches alone.
        reduce: "mean" or "sum", with Matches alone.

    Returns:
        (V, C, H, W) like ``features``, in channels_last memory; 0 where no point is. Differentiable in ``features``.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here; matches that do not fit; an
            index that is no row of ``features`` (on CUDA, as in torch's own indexing, that stops the kernel and torch
            reports a failed launch at the next synchronisation).

    Sums are made in float32 (float64 for float64) in the order of the matches, 256 at a time: the same
    every time.

    >>> splat(torch.tensor([[1.0], [2.0]]), torch.tensor([[[1, -1, 0, 1]]]))
    tensor([[[[2., 0., 1., 2.]]]])
    """
    check_tensor("features", features, FEATURES, None, None)
    check_choice("reduce", reduce, "mean", "sum")
    if isinstance(index, Matches):
        if size is None:
            raise ValueError("size must be given with matches, got None")
        size = image_size("size", size)
        check_matches("matches", index, n_points=len(features), size=size)
        check_device("matches", index.ptr, "features", features)
        out = _splat_matches(features, index.ptr, index.point, index.pixel, *size, reduce == "mean")[0]
        return out.view(len(index), *size, features.shape[1]).permute(0, 3, 1, 2)
    if size is not None:
        raise ValueError(f"size must be None with an index, whose shape says it, got {size}")
    check_tensor("index", index, (torch.int64,), None, None, None)
    check_device("index", index, "features", features)
    return _splat(features, index.flatten()).view(*index.shape, features.shape[1]).permute(0, 3, 1, 2)


def _run(features: Tensor, index: Tensor) -> Tensor:
    _check_rows(index, len(features))
    out = empty(features, len(index), features.shape[1])
    native.take_rows(on(features), *contiguous(features, index), out)
    return out


def _check_rows(index: Tensor, n: int) -> None:
    """Here, where torch.compile calls it too: memory that is not ours would be read and written."""
    if index.device.type == "cpu" and len(index):
        low, high = (int(i) for i in index.aminmax())
        if low < -1 or high >= n:
            raise ValueError(f"index must be within -1 and {n - 1}, got {low} to {high}")


def _fake(features: Tensor, index: Tensor) -> Tensor:
    return features.new_empty(index.shape[0], features.shape[1])


def _run_grad(grad: Tensor, index: Tensor, n: int) -> Tensor:
    row = torch.arange(len(index), device=grad.device)
    return sum_by_key(grad.contiguous(), row, index, n)


def _fake_grad(grad: Tensor, index: Tensor, n: int) -> Tensor:
    return grad.new_empty(n, grad.shape[1])


_splat_grad = register("splat_grad(Tensor grad, Tensor index, SymInt n) -> Tensor", _run_grad, _fake_grad)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.n = inputs[0].shape[0]
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _splat_grad(grad, *ctx.saved_tensors, ctx.n), None


_splat = register("splat(Tensor features, Tensor index) -> Tensor", _run, _fake, save=_save, backward=_backward)


def _run_matches(
    features: Tensor, ptr: Tensor, point: Tensor, pixel: Tensor, height: int, width: int, mean: bool
) -> tuple[Tensor, Tensor]:
    check_each_match("matches", ptr, point, pixel, points=len(features), pixels=height * width)
    cell = Matches(ptr, point, pixel).view.long() * (height * width) + pixel
    cells = (len(ptr) - 1) * height * width
    count = ptr.new_zeros(cells)
    return sum_by_key(features.contiguous(), point.long(), cell, cells, mean=mean, count=count), count


def _fake_matches(
    features: Tensor, ptr: Tensor, point: Tensor, pixel: Tensor, height: int, width: int, mean: bool
) -> tuple[Tensor, Tensor]:
    cells = (ptr.shape[0] - 1) * height * width
    return features.new_empty(cells, features.shape[1]), features.new_empty(cells, dtype=torch.int64)


def _run_matches_grad(
    grad: Tensor, count: Tensor, ptr: Tensor, point: Tensor, pixel: Tensor, height: int, width: int, mean: bool, n: int
) -> Tensor:
    cell = Matches(ptr, point, pixel).view.long() * (height * width) + pixel
    weight = None
    if mean:
        weight = 1 / count.clamp(min=1).to(torch.float64 if grad.dtype == torch.float64 else torch.float32)
    return sum_by_key(grad.contiguous(), cell, point.long(), n, weight=weight)


def _fake_matches_grad(
    grad: Tensor, count: Tensor, ptr: Tensor, point: Tensor, pixel: Tensor, height: int, width: int, mean: bool, n: int
) -> Tensor:
    return grad.new_empty(n, grad.shape[1])


_splat_matches_grad = register(
    "splat_matches_grad(Tensor grad, Tensor count, Tensor ptr, Tensor point, Tensor pixel, int height, int width,"
    " bool mean, SymInt n) -> Tensor",
    _run_matches_grad,
    _fake_matches_grad,
)


def _save_matches(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, ptr, point, pixel, *ctx.how = inputs
    ctx.n = features.shape[0]
    ctx.save_for_backward(output[1], ptr, point, pixel)
    ctx.mark_non_differentiable(output[1])


def _backward_matches(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    count, ptr, point, pixel = ctx.saved_tensors
    return _splat_matches_grad(grad, count, ptr, point, pixel, *ctx.how, ctx.n), None, None, None, None, None, None


_splat_matches = register(
    "splat_matches(Tensor features, Tensor ptr, Tensor point, Tensor pixel, int height, int width, bool mean)"
    " -> (Tensor, Tensor)",
    _run_matches,
    _fake_matches,
    save=_save_matches,
    backward=_backward_matches,
)
