"""What do the tests look at? Seeded cameras, points, depth and features, with everything that is odd mixed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyproj2d3d import Camera, KernelMap, Matches, PointCloud, Voxels, reference

SIZE = (48, 64)  # H, W of the images
CPU = torch.device("cpu")

TOLERANCE = {  # (relative, absolute): a few roundings of the dtype; sums are made in float32 for everything shorter
    torch.float16: (2e-3, 1e-3),
    torch.bfloat16: (1.6e-2, 8e-3),
    torch.float32: (2e-5, 2e-5),
    torch.float64: (1e-11, 1e-11),
}


def assert_close(actual: Any, expected: Any) -> None:
    """Integers and shapes equal, floats within :data:`TOLERANCE`; for all that operations return, and tuples of it."""
    actual, expected = tensors_of(actual), tensors_of(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        relative, absolute = TOLERANCE.get(a.dtype, (0.0, 0.0))
        torch.testing.assert_close(a, e, rtol=relative, atol=absolute, equal_nan=True)


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Equal shapes, dtypes and values; NaN equals NaN."""
    actual, expected = tensors_of(actual), tensors_of(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=0, equal_nan=True)


def tensors_of(result: Any) -> tuple[Tensor, ...]:
    """The tensors of whatever an operation takes or returns."""
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, Matches):
        return result.ptr, result.point, result.pixel
    if isinstance(result, PointCloud):
        parts = (result.points, result.features, result.pixel, result.ptr, result.valid)
        return tuple(t for t in parts if t is not None)
    if isinstance(result, Voxels):
        return result.coords, result.inverse, result.counts, result.ptr, result.order
    if isinstance(result, KernelMap):
        return result.ptr, result.input, result.output, result.coords
    if isinstance(result, Camera):
        return result.intrinsics, result.world_from_camera
    if isinstance(result, tuple | list):
        return tuple(t for part in result for t in tensors_of(part))
    return ()


@dataclass(frozen=True)
class Scene:
    points: Tensor  # (N, 3)
    camera: Camera  # V views of SIZE
    depth: Tensor  # (V, H, W) metres, like points; a fifth of it is no reading
    depth_mm: Tensor  # (V, H, W) uint16
    features: Tensor  # (N, C)
    maps: Tensor  # (V, C, h, w)

    @cached_property
    def uvz(self) -> Tensor:
        return reference.project(self.points, self.camera)

    @cached_property
    def matches(self) -> Matches:
        """All points in the frame, whatever is before them."""
        return reference.visibility(self.points, self.camera, tolerance=(0.0, 0.0, 0.0))


def make_scene(
    n: int = 600,
    views: int = 3,
    dtype: torch.dtype = torch.float32,
    feature_dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
    channels: int = 5,
    cells: tuple[int, int] = (12, 16),
    seed: int = 0,
    finite: bool = False,
) -> Scene:
    """Points in front of, behind and beside the cameras, on pixel borders, twice in one place, and, unless ``finite``,
    some that are not finite or have no finite pixel.

    Made on the CPU in float64 and moved, so that every device and dtype sees the same scene.
    """
    rng = torch.Generator().manual_seed(seed)
    camera = make_camera(views, rng)
    points = make_points(n, rng, finite)
    uvz = reference.project(points, camera)
    surface = reference.zbuffer(uvz, SIZE, radius=1)[1]  # (V, H, W)
    wall = 2 + 2 * torch.rand(surface.shape, generator=rng, dtype=torch.float64)
    depth = torch.where(surface > 0, surface, wall) + 0.02 * torch.randn(
        surface.shape, generator=rng, dtype=torch.float64
    )
    odd = torch.tensor([0.0, -1.0, torch.nan, torch.inf], dtype=torch.float64)
    odd = odd[torch.randint(4, depth.shape, generator=rng)]
    missing = torch.rand(depth.shape, generator=rng) < 0.2
    millimetres = torch.where(missing, torch.where(odd > 0, 65535, 0), (depth * 1000).round().clamp(0, 65534))
    return Scene(
        points.to(device, dtype),
        camera.to(device, dtype),
        torch.where(missing, odd, depth).to(device, dtype),
        millimetres.to(torch.int32).to(torch.uint16).to(device),
        torch.randn(n, channels, generator=rng, dtype=torch.float64).to(device, feature_dtype),
        torch.randn(views, channels, *cells, generator=rng, dtype=torch.float64).to(device, feature_dtype),
    )


def make_points(n: int, rng: torch.Generator, finite: bool = False) -> Tensor:
    """(N, 3) float64."""
    points = 6 * torch.rand(n, 3, generator=rng, dtype=torch.float64) - 3
    quarter = n // 4
    z = 2.0 ** torch.randint(-1, 3, (quarter,), generator=rng)
    u, v = (
        torch.randint(-2, SIZE[1] + 1, (quarter,), generator=rng),
        torch.randint(-2, SIZE[0] + 1, (quarter,), generator=rng),
    )
    points[:quarter] = torch.stack(
        ((u - 31) / 64 * z, (v - 23) / 64 * z, z), dim=-1
    )  # u + 0.5, v + 0.5 of view 0, exactly
    twins = n // 8
    points[n - twins :] = points[:twins]
    if n >= 64 and not finite:
        odd = [
            [math.nan, 0, 1],
            [0, 0, math.nan],
            [math.inf, 0, 1],
            [0, 0, math.inf],
            [0, 0, -math.inf],
            [0, 0, 0],
            [1, 1, 0],
        ]
        points[quarter : quarter + len(odd)] = torch.tensor(odd, dtype=torch.float64)
    return points


def make_camera(views: int, rng: torch.Generator) -> Camera:
    """View 0 is exact in every dtype; the others are anywhere, sheared a little, with focal lengths of either sign."""
    height, width = SIZE
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(views, 1, 1)
    focal = 30 + 50 * torch.rand(views, 2, generator=rng, dtype=torch.float64)
    view = torch.arange(views)
    sign = 1 - 2.0 * torch.stack((view % 2, view // 2 % 2), dim=1)  # ++, -+, +-, --
    centre = torch.tensor([width / 2, height / 2]) + 10 * torch.randn(views, 2, generator=rng, dtype=torch.float64)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = (focal * sign).T
    intrinsics[:, :2, 2] = centre
    pose = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    rotation = torch.linalg.qr(torch.randn(views, 3, 3, generator=rng, dtype=torch.float64))[0]
    pose[:, :3, :3] = rotation + 0.05 * torch.randn(views, 3, 3, generator=rng, dtype=torch.float64)
    pose[:, :3, 3] = torch.randn(views, 3, generator=rng, dtype=torch.float64)
    if views:
        intrinsics[0], pose[0] = simple_camera().intrinsics[0], torch.eye(4)
    return Camera(intrinsics, pose, SIZE)


def simple_camera(
    size: tuple[int, int] = SIZE,
    focal: float = 64.0,
    centre: tuple[float, float] = (31.5, 23.5),
    dtype: torch.dtype = torch.float64,
    device: torch.device = CPU,
) -> Camera:
    """At the origin, looking along z; with powers of two for z everything it computes is exact."""
    intrinsics = torch.tensor([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]], dtype=dtype, device=device)
    return Camera(intrinsics, torch.eye(4, dtype=dtype, device=device), size)


def unit_camera(width: int, height: int = 1, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Camera:
    """A point (x, y, 1) lands on u = x, v = y."""
    return simple_camera((height, width), 1.0, (0.0, 0.0), dtype, device)


def make_matches(
    per_view: Sequence[Sequence[tuple[int, int]]],
    n_points: int | None = None,
    size: tuple[int, int] | None = None,
    device: torch.device = CPU,
) -> Matches:
    """From lists of (point, pixel), one list per view."""
    ptr = torch.tensor([0, *(len(pairs) for pairs in per_view)]).cumsum(0)
    pairs = torch.tensor([p for view in per_view for p in view], dtype=torch.int32).reshape(-1, 2)
    return Matches(ptr.to(device), pairs[:, 0].to(device), pairs[:, 1].to(device), n_points, size)


def strided(value: Any) -> Any:
    """The same values with every second element of memory in between; for tensors, Cameras and Matches."""
    if isinstance(value, Tensor) and value.ndim:
        wide = torch.zeros(*value.shape[:-1], 2 * value.shape[-1], dtype=value.dtype, device=value.device)
        wide[..., ::2] = value
        return wide[..., ::2]
    if isinstance(value, Matches):
        return Matches(strided(value.ptr), strided(value.point), strided(value.pixel), value.n_points, value.size)
    if isinstance(value, Camera):
        return Camera(strided(value.intrinsics), strided(value.world_from_camera), value.size)
    return value


def transposed(value: Any) -> Any:
    """The same values with memory running along the first axis; for tensors, Cameras and Matches."""
    if isinstance(value, Tensor) and value.ndim > 1:
        return value.transpose(0, -1).contiguous().transpose(0, -1)
    if isinstance(value, Camera):
        return Camera(transposed(value.intrinsics), transposed(value.world_from_camera), value.size)
    return value
