"""What do all views together say of each point? Mean or maximum of map features over the views that see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..camera import Matches
from ._check import check_choice, check_device, check_each_match, check_fewer, check_int, check_matches
from ._register import contiguous, empty, native, on, register
from .sample import acc_empty, channels_last, check_maps, sample_grad

__all__ = ["ViewFuser", "fuse_views"]


def fuse_views(
    maps: Tensor,
    matches: Matches,
    n_points: int,
    size: Sequence[int],
    *,
    reduce: str = "mean",
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """Per point, the mean or maximum of what :func:`sample` reads in the views that see it.

    Args:
        maps: (V, C, h, w) float16, bfloat16, float32 or float64; channels_last memory saves a copy.
        matches: which view sees which point where, for V views and ``n_points`` points.
        n_points: N.
        size: height and width (H, W) of the images, not of the maps.
        reduce: "mean" or "max".
        mode, align_corners, normalize: as of :func:`sample`; rows are normalized before they are fused.

    Returns:
        features: (N, C) like ``maps``; 0 for a point that no view sees. Differentiable in ``maps``; of equal maxima the
            one of the lower view gets the gradient.
        count: (N,) int32, how many views see each point.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here, or matches that do not fit.

    Sums are made in float32 (float64 for float64) in the order of the views. Nothing of size (M, C) is ever built.

    >>> matches = Matches(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]).int(), torch.tensor([0, 1, 0]).int())
    >>> features, count = fuse_views(torch.tensor([[[[1.0, 2.0]]], [[[4.0, 8.0]]]]), matches, 3, (1, 2))
    >>> features[:, 0].tolist(), count.tolist()
    ([1.0, 3.0, 0.0], [1, 2, 0])
    """
    how = check_maps("maps", maps, size, mode, align_corners, normalize)
    n_points = check_int("n_points", n_points, 0)
    if not torch.compiler.is_compiling():  # which may not know it
        check_fewer("n_points", n_points)
    check_choice("reduce", reduce, "mean", "max")
    check_matches("matches", matches, n_points=n_points, size=how[:2])
    check_device("matches", matches.ptr, "maps", maps)
    if len(matches) != len(maps):
        raise ValueError(f"matches must have the {len(maps)} views of maps, got {len(matches)}")
    maximum, track = reduce == "max", torch.is_grad_enabled() and maps.requires_grad
    features, count, _ = _fuse_views(maps, matches.ptr, matches.point, matches.pixel, n_points, maximum, track, *how)
    return features, count


class ViewFuser:
    """:func:`fuse_views` one view at a time, for more views than fit in memory; the same bits as all at once.

    Args:
        n_points: N.
        channels: C of the maps to come.
        reduce: "mean" or "max".

    It carries no gradient: a map that requires one is an error where gradients are enabled. It is nothing for
    torch.compile, which takes :func:`fuse_views`.

    >>> fuser = ViewFuser(2, channels=1)
    >>> matches = Matches(torch.tensor([0, 1]), torch.tensor([1]).int(), torch.tensor([0]).int())
    >>> for value in (2.0, 4.0):
    ...     fuser.add(torch.full((1, 1, 1), value), matches, (1, 1))
    >>> features, count = fuser.result()
    >>> features[:, 0].tolist(), count.tolist()
    ([0.0, 3.0], [0, 2])
    """

    def __init__(self, n_points: int, channels: int, reduce: str = "mean"):
        check_choice("reduce", reduce, "mean", "max")
        self.n_points, self.channels = check_int("n_points", n_points, 0), check_int("channels", channels, 1)
        check_fewer("n_points", self.n_points)
        self.reduce = reduce
        self._dtype: torch.dtype = torch.float32
        self._fused: Tensor | None = None  # sums or maxima so far; made with the first map, on its device
        self._count = torch.zeros(self.n_points, dtype=torch.int32)

    def add(
        self,
        map: Tensor,
        matches: Matches,
        size: Sequence[int],
        *,
        mode: str = "bilinear",
        align_corners: bool = False,
        normalize: bool = False,
    ) -> None:
        """One view more: its map (C, h, w) or (1, C, h, w), and its matches with V = 1 (``matches[v]``)."""
        maps = map[None] if isinstance(map, Tensor) and map.ndim == 3 else map
        how = check_maps("map", maps, size, mode, align_corners, normalize)
        check_matches("matches", matches, n_points=self.n_points, size=how[:2])
        ptr, point, pixel = matches.ptr, matches.point, matches.pixel
        check_each_match("matches", ptr, point, pixel, points=self.n_points, pixels=how[0] * how[1])
        check_device("matches", matches.ptr, "map", maps)
        if maps.shape[:2] != (1, self.channels) or len(matches) != 1:
            wanted = f"map and matches must be of one view with {self.channels} channels"
            raise ValueError(f"{wanted}, got a map of shape {tuple(map.shape)} and matches of {len(matches)} views")
        if torch.is_grad_enabled() and maps.requires_grad:
            raise ValueError(
                "map must not require a gradient: ViewFuser carries none (use fuse_views, or torch.no_grad)"
            )
        if self._fused is None:
            self._fused, self._count = _accumulators(maps, self.n_points)
            self._fused.zero_()
            self._dtype = maps.dtype
        if maps.dtype != self._dtype or maps.device != self._fused.device:
            raise ValueError(
                f"map must be {self._dtype} on {self._fused.device} like the first, got {maps.dtype} on {maps.device}"
            )
        state = (self._fused, self._count, None)
        _add(maps.detach(), ptr, point, pixel, self.reduce == "max", False, *how, *state)

    def result(self) -> tuple[Tensor, Tensor]:
        """Features (N, C) and count (N,) of all views added so far, as :func:`fuse_views` returns them."""
        if self._fused is None:
            return torch.zeros(self.n_points, self.channels, dtype=self._dtype), self._count.clone()
        count = self._count.clone()
        if self.reduce == "max":
            return self._fused.to(self._dtype, copy=True), count
        return (self._fused / count.clamp(min=1)[:, None]).to(self._dtype), count


def _accumulators(maps: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
    wide = torch.float64 if maps.dtype == torch.float64 else torch.float32
    fused = empty(maps, n_points, maps.shape[1], dtype=wide)
    return fused, maps.new_zeros(n_points, dtype=torch.int32)


def _add(
    maps: Tensor,
    ptr: Tensor,
    point: Tensor,
    pixel: Tensor,
    maximum: bool,
    finish: bool,
    height: int,
    width: int,
    bilinear: bool,
    align_corners: bool,
    normalize: bool,
    fused: Tensor,
    count: Tensor,
    arg: Tensor | None,
) -> None:
    rule = native.MapRule(height, width, bilinear, align_corners)
    norm = acc_empty(len(point), maps) if normalize else None
    matches = contiguous(ptr, point, pixel)
    native.fuse_views(on(maps), channels_last(maps), *matches, rule, norm, maximum, finish, fused, count, arg)


def _run(
    maps: Tensor,
    ptr: Tensor,
    point: Tensor,
    pixel: Tensor,
    n_points: int,
    maximum: bool,
    track: bool,
    height: int,
    width: int,
    bilinear: bool,
    align_corners: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    check_each_match("matches", ptr, point, pixel, points=n_points, pixels=height * width)
    fused, count = _accumulators(maps, n_points)
    arg = maps.new_full((n_points if maximum and track else 0, maps.shape[1]), -1, dtype=torch.int32)
    how = (height, width, bilinear, align_corners, normalize)
    _add(maps, ptr, point, pixel, maximum, True, *how, fused, count, arg if maximum and track else None)
    return fused.to(maps.dtype), count, arg


def _fake(
    maps: Tensor, ptr: Tensor, point: Tensor, pixel: Tensor, n_points: int, maximum: bool, track: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    count = maps.new_empty(n_points, dtype=torch.int32)
    arg = maps.new_empty(n_points if maximum and track else 0, maps.shape[1], dtype=torch.int32)
    return maps.new_empty(n_points, maps.shape[1]), count, arg


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    maps, ptr, point, pixel, _, ctx.maximum, ctx.track, *ctx.how = inputs
    ctx.save_for_backward(maps, ptr, point, pixel, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if ctx.maximum and not ctx.track:
        raise RuntimeError("pyproj2d3d: the maximum of fuse_views has a gradient only where track is True")
    maps, ptr, point, pixel, count, arg = ctx.saved_tensors
    of_row = (point, None, arg) if ctx.maximum else (point, count, None)
    return sample_grad(maps, None, ptr, pixel, grad, *of_row, *ctx.how)[0], *(None,) * 11


_fuse_views = register(
    "fuse_views(Tensor maps, Tensor ptr, Tensor point, Tensor pixel, SymInt n_points, bool maximum, bool track,"
    " int height, int width, bool bilinear, bool align_corners, bool normalize) -> (Tensor, Tensor, Tensor)",
    _run,
    _fake,
    save=_save,
    backward=_backward,
)
