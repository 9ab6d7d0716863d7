"""What does a feature map say at these pixels? Maps of any resolution read at matches or at float pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..camera import Matches
from ._check import (
    FEATURES,
    GEOMETRY,
    check_bool,
    check_choice,
    check_device,
    check_each_match,
    check_matches,
    check_tensor,
    image_size,
)
from ._register import contiguous, empty, native, on, register, sort_keys

__all__ = ["acc_empty", "channels_last", "check_cells", "check_maps", "sample", "sample_grad", "sample_rows"]


def sample(
    maps: Tensor,
    matches_or_uv: Matches | Tensor,
    size: Sequence[int],
    *,
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> Tensor:
    """Feature maps read at the matched pixels, or at float pixels.

    Pixel u of an image W wide lies at x = (u + 0.5) w / W - 0.5 of a map w wide, or, with ``align_corners``, at
    x = u (w - 1) / (W - 1); x is held to [0, w - 1]. That is what upsampling the map to the image by
    ``torch.nn.functional.interpolate`` and reading the pixel gives, without the upsampled map.

    Args:
        maps: (V, C, h, w) float16, bfloat16, float32 or float64; channels_last memory saves a copy.
        matches_or_uv: Matches of V views, or (V, N, 2) float32 or float64 pixels u, v.
        size: height and width (H, W) of the images, not of the maps.
        mode: "bilinear", or "nearest": the cell whose centre is nearest.
        align_corners: which of the two conventions of bilinear upsampling, see above.
        normalize: divide each row by max(\\|row\\|, 1e-12).

    Returns:
        (M, C) for matches, (V, N, C) for pixels; like ``maps``. Differentiable in ``maps`` and, with "bilinear", in the
        pixels. A pixel that is not finite, or whose nearest pixel lies outside the image, reads 0 without gradient.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here, or matches that do not fit.

    >>> sample(torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[[1.0, 0.0], [1.5, 0.0], [9.0, 0.0]]]), (2, 4))
    tensor([[[1.],
             [2.],
             [0.]]])
    """
    how = check_maps("maps", maps, size, mode, align_corners, normalize)
    if isinstance(matches_or_uv, Matches):
        matches = matches_or_uv
        check_matches("matches", matches, size=how[:2])
        check_device("matches", matches.ptr, "maps", maps)
        if len(matches) != len(maps):
            raise ValueError(f"matches must have the {len(maps)} views of maps, got {len(matches)}")
        return _sample(maps, None, matches.ptr, matches.point, matches.pixel, *how)
    check_tensor("uv", matches_or_uv, GEOMETRY, len(maps), None, 2)
    check_device("uv", matches_or_uv, "maps", maps)
    rows = _sample(maps, matches_or_uv, None, None, None, *how)
    return rows.view(*matches_or_uv.shape[:2], maps.shape[1])


def check_maps(
    name: str, maps: Tensor, size: Sequence[int], mode: str, align_corners: bool, normalize: bool
) -> tuple[int, int, bool, bool, bool]:
    """How the maps are read, as the operations take it: H and W of the images, whether bilinearly, and the two last."""
    check_cells(name, maps)
    check_choice("mode", mode, "bilinear", "nearest")
    align_corners, normalize = check_bool("align_corners", align_corners), check_bool("normalize", normalize)
    return *image_size("size", size), mode == "bilinear", align_corners, normalize


def check_cells(name: str, maps: Tensor, views: int | None = None) -> None:
    check_tensor(name, maps, FEATURES, views, None, None, None)
    if 0 in maps.shape[2:]:
        raise ValueError(f"{name} must have at least one cell, got {tuple(maps.shape)}")


def sample_rows(
    maps: Tensor, ptr: Tensor | None, pixel: Tensor, size: tuple[int, int], *, align_corners: bool, normalize: bool
) -> Tensor:
    """Maps (V, C, h, w) read bilinearly at pixels, (L, C): those of matches, or, with ``ptr`` None, int64 ones into the
    flattened (V, H, W). For callers that have checked."""
    return _sample(maps, None, ptr, None, pixel, *size, True, align_corners, normalize)


def channels_last(maps: Tensor) -> Tensor:
    """(V, C, h, w) to a dense (V, h, w, C)."""
    return contiguous(maps.permute(0, 2, 3, 1))[0]


def acc_empty(rows: int, like: Tensor) -> Tensor:
    return like.new_empty(rows, dtype=torch.float64 if like.dtype == torch.float64 else torch.float32)


def _run(
    maps: Tensor,
    uv: Tensor | None,
    ptr: Tensor | None,
    point: Tensor | None,
    pixel: Tensor | None,
    height: int,
    width: int,
    bilinear: bool,
    align_corners: bool,
    normalize: bool,
) -> Tensor:
    if ptr is not None and point is not None and pixel is not None:  # no point: an operation of ours made them
        check_each_match("matches", ptr, point, pixel, pixels=height * width)
    out = empty(maps, _places(uv, pixel), maps.shape[1])
    norm = acc_empty(len(out), maps) if normalize else None
    rule = native.MapRule(height, width, bilinear, align_corners)
    native.sample(on(maps), channels_last(maps), *contiguous(uv, ptr, pixel), rule, norm, out)
    return out


def _fake(
    maps: Tensor, uv: Tensor | None, ptr: Tensor | None, point: Tensor | None, pixel: Tensor | None, *_: Any
) -> Tensor:
    return maps.new_empty(_places(uv, pixel), maps.shape[1])


def _places(uv: Tensor | None, pixel: Tensor | None) -> int:
    if uv is not None:
        return uv.shape[0] * uv.shape[1]
    assert pixel is not None
    return pixel.shape[0]  # not len(): under torch.compile it may be symbolic


def _run_grad(
    maps: Tensor,
    uv: Tensor | None,
    ptr: Tensor | None,
    pixel: Tensor | None,
    grad: Tensor,
    point: Tensor | None,
    count: Tensor | None,
    arg: Tensor | None,
    height: int,
    width: int,
    bilinear: bool,
    align_corners: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    rule = native.MapRule(height, width, bilinear, align_corners)
    rows_first, places = channels_last(maps), contiguous(uv, ptr, pixel)
    incoming = contiguous(grad, point, count, arg)
    views, channels, h, w = maps.shape
    rows, cells = _places(uv, pixel), views * h * w
    cell = torch.empty(rows, dtype=torch.int64, device=maps.device)
    weight, scale = acc_empty(4 * rows, maps).view(rows, 4), acc_empty(rows, maps)
    pull = acc_empty(rows, maps) if normalize else None
    native.sample_prepare(on(maps), rows_first, *places, rule, *incoming, cell, weight, scale, pull)

    # Sorted by map cell, each cell has one worker that gathers what was read from it.
    cell, order = sort_keys(cell.int() if cells < 2**31 - 1 else cell, cells + 1)
    start = torch.searchsorted(cell, torch.arange(cells + 1, dtype=cell.dtype, device=maps.device))
    crowded = maps.device.type == "cpu" and bilinear and rows >= 4 * cells
    partial = acc_empty(2 * cells * channels, maps).view(views * h, 2, w * channels) if crowded else None
    grad_maps = empty(maps, views, h, w, channels)
    prepared = (weight, scale, pull, order, start)
    native.sample_grad_maps(on(maps), rows_first, bilinear, *incoming, *prepared, partial, grad_maps)
    grad_uv = maps.new_empty(0)
    if uv is not None:
        grad_uv = empty(uv, *uv.shape)
        native.sample_grad_uv(on(maps), rows_first, places[0], rule, incoming[0], scale, pull, grad_uv)
    return grad_maps.permute(0, 3, 1, 2), grad_uv


def _fake_grad(maps: Tensor, uv: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    views, channels, h, w = maps.shape
    grad_uv = maps.new_empty(0) if uv is None else torch.empty_like(uv, memory_format=torch.contiguous_format)
    return maps.new_empty(views, h, w, channels).permute(0, 3, 1, 2), grad_uv


_HOW = "int height, int width, bool bilinear, bool align_corners, bool normalize"

sample_grad = register(
    "sample_grad(Tensor maps, Tensor? uv, Tensor? ptr, Tensor? pixel, Tensor grad, Tensor? point, Tensor? count,"
    f" Tensor? arg, {_HOW}) -> (Tensor, Tensor)",
    _run_grad,
    _fake_grad,
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    maps, uv, ptr, _, pixel, *ctx.how = inputs
    ctx.save_for_backward(maps, uv, ptr, pixel)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    maps, uv, ptr, pixel = ctx.saved_tensors
    grad_maps, grad_uv = sample_grad(maps, uv, ptr, pixel, grad, None, None, None, *ctx.how)
    return grad_maps, None if uv is None else grad_uv, *(None,) * 8


_sample = register(
    f"sample(Tensor maps, Tensor? uv, Tensor? ptr, Tensor? point, Tensor? pixel, {_HOW}) -> Tensor",
    _run,
    _fake,
    save=_save,
    backward=_backward,
)
