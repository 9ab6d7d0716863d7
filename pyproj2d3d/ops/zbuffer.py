"""Which point does each pixel see? Nearest-point index and depth, deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..camera import Matches
from ._check import (
    GEOMETRY,
    check_device,
    check_each_match,
    check_fewer,
    check_int,
    check_matches,
    check_tensor,
    image_size,
)
from ._register import contiguous, empty, native, on, register

__all__ = ["zbuffer", "zbuffer_depth"]


def zbuffer(
    uvz: Tensor, size: Sequence[int], *, radius: int = 0, stride: int = 1, matches: Matches | None = None
) -> tuple[Tensor, Tensor]:
    """The nearest projected point in every pixel of every view.

    Args:
        uvz: (V, N, 3) float32 or float64: u, v in pixels and z in metres, as :func:`project` returns them. Points with
            z <= 0, not finite, or whose own nearest pixel is outside the image are ignored.
        size: image height and width (H, W).
        radius: each point covers a square of 2 radius + 1 pixels.
        stride: keep only every stride-th row and column: exactly ``[..., ::stride, ::stride]`` of the full result, at
            the cost of the kept pixels.
        matches: if given, only these points take part (those that passed a depth test, say).

    Returns:
        index: (V, h, w) int64 with h = ceil(H / stride): the point seen there; -1 where nothing projects.
        depth: (V, h, w) like ``uvz``, its z; 0 where nothing projects. Differentiable in ``uvz[..., 2]``.

    Raises:
        TypeError, ValueError: ``uvz`` is not (V, N, 3) float32 or float64, ``size``, ``radius`` or ``stride`` is out of
            range, or ``matches`` do not fit ``uvz`` and ``size``.

    Two points at exactly the same depth resolve to the lower index, on every device. The minimum is taken over packed
    (depth bits, index) in float32 (Schuetz et al. 2021, Rendering Point Clouds with Compute Shaders), and over the
    depth bits, then the index, in float64.

    >>> uvz = torch.tensor([[[1.0, 0.0, 2.0], [1.2, 0.1, 1.0]]])
    >>> zbuffer(uvz, (1, 3))[0]
    tensor([[[-1,  1, -1]]])
    """
    check_tensor("uvz", uvz, GEOMETRY, None, None, 3)
    size = image_size("size", size)
    radius = min(check_int("radius", radius, 0), max(size))  # more than the image is the whole image
    stride = min(check_int("stride", stride, 1), max(size))
    if matches is None:
        depth, index = _zbuffer(uvz, None, None, None, *size, radius, stride)
        return index, depth
    check_matches("matches", matches, n_points=uvz.shape[1], size=size)
    check_device("matches", matches.ptr, "uvz", uvz)
    if len(matches) != len(uvz):
        raise ValueError(f"matches must have the {len(uvz)} views of uvz, got {len(matches)}")
    depth, index = _zbuffer(uvz, matches.ptr, matches.point, matches.pixel, *size, radius, stride)
    return index, depth


def _run(
    uvz: Tensor,
    ptr: Tensor | None,
    point: Tensor | None,
    pixel: Tensor | None,
    height: int,
    width: int,
    radius: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    check_fewer("points of uvz", uvz.shape[1])
    if ptr is not None and point is not None and pixel is not None:
        check_each_match("matches", ptr, point, pixel, points=uvz.shape[1], pixels=height * width)
    depth, index = _outputs(uvz, uvz.shape[0], height, width, stride)
    grid = native.ZbufferGrid(height, width, radius, stride)
    native.zbuffer(on(uvz), *contiguous(uvz, ptr, point), grid, index, depth)
    return depth, index


def _outputs(like: Tensor, views: int, height: int, width: int, stride: int) -> tuple[Tensor, Tensor]:
    shape = (views, -(-height // stride), -(-width // stride))
    return empty(like, *shape), empty(like, *shape, dtype=torch.int64).fill_(-1)


def _fake(
    uvz: Tensor,
    ptr: Tensor | None,
    point: Tensor | None,
    pixel: Tensor | None,
    height: int,
    width: int,
    radius: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    shape = (uvz.shape[0], -(-height // stride), -(-width // stride))
    return uvz.new_empty(shape), uvz.new_empty(shape, dtype=torch.int64)


def _run_grad(uvz: Tensor, index: Tensor, grad: Tensor, height: int, width: int, radius: int, stride: int) -> Tensor:
    out = empty(uvz, *uvz.shape)
    uvz, index, grad = contiguous(uvz, index, grad)
    native.zbuffer_grad(on(uvz), uvz, native.ZbufferGrid(height, width, radius, stride), index, grad, out)
    return out


def _fake_grad(uvz: Tensor, index: Tensor, grad: Tensor, height: int, width: int, radius: int, stride: int) -> Tensor:
    return torch.empty_like(uvz, memory_format=torch.contiguous_format)


_zbuffer_grad = register(
    "zbuffer_grad(Tensor uvz, Tensor index, Tensor grad, int height, int width, int radius, int stride) -> Tensor",
    _run_grad,
    _fake_grad,
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    uvz, _, _, _, *ctx.grid = inputs
    ctx.save_for_backward(uvz, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    uvz, index = ctx.saved_tensors
    return _zbuffer_grad(uvz, index, grad, *ctx.grid), *(None,) * 7


_zbuffer = register(
    "zbuffer(Tensor uvz, Tensor? ptr, Tensor? point, Tensor? pixel, int height, int width, int radius, int stride)"
    " -> (Tensor, Tensor)",
    _run,
    _fake,
    save=_save,
    backward=_backward,
)


def zbuffer_depth(
    points: Tensor, camera_from_world: Tensor, intrinsics: Tensor, size: tuple[int, int], radius: int
) -> Tensor:
    """The depth of ``zbuffer(project(points, camera), size, radius=radius)``, without the (V, N, 3) between."""
    return _zbuffer_points(points, camera_from_world, intrinsics, *size, radius)


def _run_points(
    points: Tensor, camera_from_world: Tensor, intrinsics: Tensor, height: int, width: int, radius: int
) -> Tensor:
    check_fewer("points", len(points))
    depth, index = _outputs(points, len(camera_from_world), height, width, 1)
    grid = native.ZbufferGrid(height, width, radius, 1)
    native.zbuffer_points(on(points), *contiguous(points, camera_from_world, intrinsics), grid, index, depth)
    return depth


def _fake_points(
    points: Tensor, camera_from_world: Tensor, intrinsics: Tensor, height: int, width: int, radius: int
) -> Tensor:
    return points.new_empty(camera_from_world.shape[0], height, width)


_zbuffer_points = register(
    "zbuffer_points(Tensor points, Tensor camera_from_world, Tensor intrinsics, int height, int width, int radius)"
    " -> Tensor",
    _run_points,
    _fake_points,
)
