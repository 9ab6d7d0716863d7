"""Which points does each view see, and at which pixel? Frame test and occlusion test, compacted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..camera import Camera, Matches
from ._check import (
    GEOMETRY,
    check_camera,
    check_depth_scale,
    check_device,
    check_fewer,
    check_int,
    check_number,
    check_tensor,
    check_tolerance,
)
from ._register import contiguous, native, on, register
from .project import views_of
from .zbuffer import zbuffer_depth

__all__ = ["DEFAULT_TOLERANCE", "visibility"]

DEFAULT_TOLERANCE = (0.015, 0.0075, 0.0005)  # |d - z| <= a + b z + c z^2, metres; chosen on data: docs/tolerance.md


def visibility(
    points: Tensor,
    camera: Camera,
    depth: Tensor | str | None = None,
    *,
    depth_scale: float | None = None,
    tolerance: float | Sequence[float] | None = None,
    border: int = 0,
    z_min: float = 0.01,
    z_max: float = math.inf,
    radius: int = 0,
) -> Matches:
    """The points that each view sees, with their pixels.

    A point is seen iff z_min < z < z_max, its nearest pixel lies in the frame less ``border``, and the depth d at that
    pixel says that the point lies on the surface seen there: \\|d - z\\| <= a + b z + c z^2.

    Args:
        points: (N, 3) float32 or float64, metres, world.
        camera: V views on the same device; cast to the points' dtype.
        depth: what each view sees at each pixel. (V, H, W) of exactly the camera's size: float32 or float64 metres
            (cast to the points' dtype), or uint16, decoded in the kernel. ``"zbuffer"``: the points' own z-buffer,
            as :func:`zbuffer` makes it with ``radius``. None: the frame test alone, nothing is occluded. For depth
            rendered from a mesh see :func:`render_depth`.
        depth_scale: metres = value / depth_scale, for uint16 depth and required there.
        tolerance: a in metres, or (a, b, c). None is ``DEFAULT_TOLERANCE``, chosen on data: see docs/tolerance.md.
        border: pixels at the edge of the image that see nothing.
        z_min, z_max: range of z in metres, both exclusive.
        radius: footprint of a point in its own z-buffer, in pixels; for ``depth="zbuffer"`` alone.

    Returns:
        Matches: ``ptr`` (V + 1) int64; ``point`` and ``pixel`` (M) int32, ascending points within a view. A point whose
        pixel has no valid depth is not seen. Not differentiable: pass the matches, or what :func:`project` returns, on.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here; uint16 depth without
            ``depth_scale``, or ``depth_scale`` with any other.

    Memory beyond the result: one bit for each point and view. On CUDA it synchronises once, for M.

    >>> camera = Camera(torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), torch.eye(4), (80, 100))
    >>> points = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 4.0], [9.0, 0.0, 1.0]])
    >>> seen = visibility(points, camera, torch.full((1, 80, 100), 2.0))
    >>> seen.point.tolist(), seen.pixel.tolist()  # the first; the second stands behind it, the third outside the image
    ([0], [4050])
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    check_camera("camera", camera)
    check_device("points", points, "camera", camera)
    border = min(check_int("border", border, 0), max(camera.size))  # more than the image is the whole image
    radius = min(check_int("radius", radius, 0), max(camera.size))
    z_min, z_max = check_number("z_min", z_min), check_number("z_max", z_max)
    if z_min < 0:
        raise ValueError(f"z_min must not be negative, got {z_min}")
    a, b, c = DEFAULT_TOLERANCE if tolerance is None else check_tolerance(tolerance)
    scale = _check_depth(depth, depth_scale, radius, points, camera)
    points = points.detach()
    camera_from_world, intrinsics = (t.detach() for t in views_of(camera, points.dtype))
    views = (points, camera_from_world, intrinsics)
    if isinstance(depth, str):
        depth = zbuffer_depth(*views, camera.size, radius)
    elif depth is not None and depth.dtype != torch.uint16:
        depth = depth.detach().to(points.dtype)
    ptr, point, pixel = _visibility(*views, depth, scale, a, b, c, *camera.size, border, z_min, z_max)
    return Matches(ptr, point, pixel, len(points), camera.size)


def _check_depth(
    depth: Tensor | str | None, depth_scale: float | None, radius: int, points: Tensor, camera: Camera
) -> float:
    """The scale to decode depth with."""
    if isinstance(depth, str) and depth != "zbuffer":
        raise ValueError(f"depth must be a tensor, 'zbuffer' or None, got {depth!r}")
    if radius > 0 and not isinstance(depth, str):
        raise ValueError(f"radius must be 0 unless depth is 'zbuffer', got {radius}")
    if isinstance(depth, str) or depth is None:
        if depth_scale is not None:
            raise ValueError(f"depth_scale must be None unless depth is uint16, got {depth_scale}")
        return 1.0
    check_tensor("depth", depth, (*GEOMETRY, torch.uint16), len(camera), *camera.size)
    check_device("depth", depth, "points", points)
    return check_depth_scale(depth, depth_scale, points.dtype)


def _run(
    points: Tensor,
    camera_from_world: Tensor,
    intrinsics: Tensor,
    depth: Tensor | None,
    depth_scale: float,
    a: float,
    b: float,
    c: float,
    height: int,
    width: int,
    border: int,
    z_min: float,
    z_max: float,
) -> tuple[Tensor, Tensor, Tensor]:
    check_fewer("points", len(points))
    views, tiles = len(camera_from_world), -(-len(points) // native.TILE)
    inputs = contiguous(points, camera_from_world, intrinsics)
    depth = None if depth is None else depth.contiguous().view(views, height * width)
    rule = native.SeenRule(height, width, border, z_min, z_max, depth_scale, a, b, c)
    bits = torch.empty(views, tiles, native.TILE // 32, dtype=torch.int32, device=points.device)
    count = torch.empty(views, tiles, dtype=torch.int64, device=points.device)
    native.visibility_test(on(points), *inputs, depth, rule, bits, count)

    # Where each tile's matches begin and end.
    end = torch.zeros(views * tiles + 1, dtype=torch.int64, device=points.device)
    torch.cumsum(count.flatten(), 0, out=end[1:])
    ptr = end[::tiles].clone() if tiles else end.new_zeros(views + 1)
    found = int(end[-1])  # the one synchronisation
    point, pixel = (torch.empty(found, dtype=torch.int32, device=points.device) for _ in range(2))
    native.visibility_fill(on(points), *inputs, rule, bits, end[1:].view(views, tiles), point, pixel)
    return ptr, point, pixel


def _fake(points: Tensor, camera_from_world: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    found = torch.library.get_ctx().new_dynamic_size()
    ptr = points.new_empty(len(camera_from_world) + 1, dtype=torch.int64)
    return ptr, points.new_empty(found, dtype=torch.int32), points.new_empty(found, dtype=torch.int32)


_visibility = register(
    "visibility(Tensor points, Tensor camera_from_world, Tensor intrinsics, Tensor? depth, float depth_scale, float a,"
    " float b, float c, int height, int width, int border, float z_min, float z_max) -> (Tensor, Tensor, Tensor)",
    _run,
    _fake,
)
