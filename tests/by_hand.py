"""What must come out? The operations once more, as loops over NumPy numbers that share nothing with the library."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pyproj2d3d import Camera

Array = NDArray[np.generic]


def project(points: Array, camera: Camera) -> Array:
    """(N, 3) to (V, N, 3), every operation rounded to the dtype of ``points``."""
    poses = np.linalg.inv(camera.world_from_camera.double().numpy()).astype(points.dtype)
    intrinsics = camera.intrinsics.numpy().astype(points.dtype)
    x, y, z = points.T
    uvz = np.empty((len(poses), len(points), 3), points.dtype)
    with np.errstate(all="ignore"):
        for out, r, k in zip(uvz, poses, intrinsics, strict=True):
            x_c = ((r[0, 0] * x + r[0, 1] * y) + r[0, 2] * z) + r[0, 3]
            y_c = ((r[1, 0] * x + r[1, 1] * y) + r[1, 2] * z) + r[1, 3]
            z_c = ((r[2, 0] * x + r[2, 1] * y) + r[2, 2] * z) + r[2, 3]
            out[:] = np.stack((k[0, 0] * (x_c / z_c) + k[0, 2], k[1, 1] * (y_c / z_c) + k[1, 2], z_c), axis=-1)
    return uvz


def nearest_pixel(u: float, v: float, size: tuple[int, int], border: int = 0) -> tuple[int, int] | None:
    """(row, column), or None outside the frame."""
    if not (math.isfinite(u) and math.isfinite(v)):
        return None
    half = type(u)(0.5)  # so that a float32 stays one
    column, row = math.floor(u + half), math.floor(v + half)
    inside = border <= row < size[0] - border and border <= column < size[1] - border
    return (row, column) if inside else None


def visible(
    points: Array,
    camera: Camera,
    depth: Array | None = None,
    tolerance: tuple[float, float, float] = (0.0, 0.0, 0.0),
    border: int = 0,
    z_min: float = 0.01,
    z_max: float = math.inf,
) -> list[list[tuple[int, int]]]:
    """(point, pixel) of what each view sees; depth in metres, 0 where there is no reading."""
    real = points.dtype.type
    a, b, c = (real(t) for t in tolerance)
    seen = []
    for view, uvz in enumerate(project(points, camera)):
        seen.append([])
        for n, (u, v, z) in enumerate(uvz):
            pixel = nearest_pixel(u, v, camera.size, border)
            if pixel is None or not real(z_min) < z < real(z_max):
                continue
            if depth is not None:
                d = real(depth[view][pixel])
                if not 0 < d < math.inf or not abs(d - z) <= (a + b * z) + (c * z) * z:
                    continue
            seen[-1].append((n, pixel[0] * camera.size[1] + pixel[1]))
    return seen


def zbuffer(
    uvz: Array, size: tuple[int, int], radius: int = 0, stride: int = 1, chosen: list[set[int]] | None = None
) -> tuple[Array, Array]:
    """Index and depth of the nearest point; ``chosen``: the points of each view that take part."""
    index = np.full((len(uvz), *size), -1)
    depth = np.zeros((len(uvz), *size), uvz.dtype)
    for view, in_view in enumerate(uvz):
        for n, (u, v, z) in enumerate(in_view):
            pixel = nearest_pixel(u, v, size)
            if pixel is None or not 0 < z < math.inf or (chosen is not None and n not in chosen[view]):
                continue
            for row in range(max(pixel[0] - radius, 0), min(pixel[0] + radius + 1, size[0])):
                for column in range(max(pixel[1] - radius, 0), min(pixel[1] + radius + 1, size[1])):
                    if index[view, row, column] < 0 or z < depth[view, row, column]:  # a later twin does not win
                        index[view, row, column], depth[view, row, column] = n, z
    return index[:, ::stride, ::stride], depth[:, ::stride, ::stride]


def sample(
    cells: Array,
    u: float,
    v: float,
    size: tuple[int, int],
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> Array:
    """One view's map (C, h, w), float64, read at one pixel coordinate: (C,)."""
    if nearest_pixel(u, v, size) is None:
        return np.zeros(len(cells))
    x, y = (
        min(max(at * (n - 1) / max(full - 1, 1) if align_corners else (at + 0.5) * n / full - 0.5, 0.0), n - 1.0)
        for at, n, full in ((u, cells.shape[2], size[1]), (v, cells.shape[1], size[0]))
    )
    if mode == "nearest":
        found = cells[:, math.floor(y + 0.5), math.floor(x + 0.5)]
    else:
        rows, columns = np.arange(cells.shape[1]), np.arange(cells.shape[2])
        weight = np.maximum(1 - abs(rows - y), 0)[:, None] * np.maximum(1 - abs(columns - x), 0)  # a tent on each cell
        found = (cells * weight).sum(axis=(1, 2))
    return found / max(float(np.sqrt((found**2).sum())), 1e-12) if normalize else found
