"""How would one do it without this library? Other libraries, the copied NumPy mapper, and good compositions in torch.

Each function says where its result is not quite ours. All were written for these benchmarks, from descriptions.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyproj2d3d import Camera, Matches

NearestPoint = tuple[Tensor, Tensor]  # index (V, H, W), -1 where empty, and depth (V, H, W)


def if_installed(module: str, call: Callable[[], Any]) -> Callable[[], Any] | str:
    """The call, or why it is left out."""
    return call if importlib.util.find_spec(module) is not None else f"skipped: {module} is not installed"


def on_cpu(device: torch.device, call: Callable[[], Any]) -> Callable[[], Any] | str:
    return call if device.type == "cpu" else "skipped: runs on the CPU alone here"


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


# The mapper that goes round between repositories since OpenScene: NumPy, float64, one view at a time. It rounds half to
# even, and its own tolerance is a quarter of the depth; here it gets the tolerance of the others.


def numpy_mapping(
    points: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray, depth: np.ndarray, tolerance: float, border: int = 0
) -> np.ndarray:
    """(N, 3) int64 rows v, u, seen; zeros where a point is not seen."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    x, y, z, _ = np.linalg.inv(pose) @ homogeneous.T
    with np.errstate(all="ignore"):  # a point on the camera plane divides by zero, and casts to any integer
        u = np.round(x * intrinsics[0, 0] / z + intrinsics[0, 2]).astype(np.int64)
        v = np.round(y * intrinsics[1, 1] / z + intrinsics[1, 2]).astype(np.int64)
    height, width = depth.shape
    seen = (u >= border) & (v >= border) & (u < width - border) & (v < height - border)
    seen[seen] = np.abs(depth[v[seen], u[seen]] - z[seen]) <= tolerance
    mapping = np.zeros((len(points), 3), dtype=np.int64)
    mapping[seen, 0], mapping[seen, 1], mapping[seen, 2] = v[seen], u[seen], 1
    return mapping


def numpy_mappings(
    points: np.ndarray, intrinsics: np.ndarray, poses: np.ndarray, depth: np.ndarray, tolerance: float
) -> list[np.ndarray]:
    return [numpy_mapping(points, k, pose, d, tolerance) for k, pose, d in zip(intrinsics, poses, depth, strict=True)]


def mappings_as_matches(mappings: list[np.ndarray], size: tuple[int, int]) -> Matches:
    """For the comparison of answers; not part of what is timed."""
    points = [np.flatnonzero(m[:, 2]) for m in mappings]
    pixels = [m[p, 0] * size[1] + m[p, 1] for m, p in zip(mappings, points, strict=True)]
    ptr = torch.from_numpy(np.cumsum([0, *map(len, points)]))
    point, pixel = (torch.from_numpy(np.concatenate(a)).int() for a in (points, pixels))
    return Matches(ptr, point, pixel, len(mappings[0]), size)


def numpy_fusion(maps: np.ndarray, mappings: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean that goes with it: full-size maps (V, H, W, C), every view gathers all N rows, seen or not."""
    fused = np.zeros((len(mappings[0]), maps.shape[-1]), dtype=maps.dtype)
    count = np.zeros((len(fused), 1), dtype=maps.dtype)
    for features, mapping in zip(maps, mappings, strict=True):
        rows = features[mapping[:, 0], mapping[:, 1]]
        seen = mapping[:, 2:].astype(maps.dtype)
        fused += rows * seen
        count += seen
    return fused / np.maximum(count, 1), count[:, 0]


# Open3D: a cloud projects to depth and colour through its own z-buffer, one view at a time, in float32. It rounds half
# away from zero, gives no index of the point, and takes no depth to compare with.


def import_open3d() -> Any:
    try:
        import ctypes

        import libusb_package

        ctypes.CDLL(
            str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL
        )  # the wheel wants it and has it not
    except ImportError:
        pass
    import open3d

    return open3d


def open3d_projection(points: Tensor, camera: Camera, colors: Tensor | None = None) -> Callable[[], list[Any]] | str:
    """A call that gives a depth image for each view, or RGB-D where there are colours; or why there is none."""
    for reason in (if_installed("open3d", list), on_cpu(points.device, list)):
        if isinstance(reason, str):
            return reason
    o3d = import_open3d()
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor.from_numpy(points.numpy()))
    if colors is not None:
        cloud.point.colors = o3d.core.Tensor.from_numpy(colors.numpy())
    height, width = camera.size
    intrinsics = [o3d.core.Tensor(k.double().numpy()) for k in camera.intrinsics]
    extrinsics = [o3d.core.Tensor(t.double().inverse().numpy()) for t in camera.world_from_camera]
    project = cloud.project_to_depth_image if colors is None else cloud.project_to_rgbd_image

    def call() -> list[Any]:
        return [project(width, height, k, t, 1.0, 100.0) for k, t in zip(intrinsics, extrinsics, strict=True)]

    return call


# Compositions in torch: what one writes who knows torch well.


def matrix_project(points: Tensor, camera: Camera) -> Tensor:
    """As project; one matrix product, so that the last bits differ."""
    camera_from_world = torch.linalg.inv(camera.world_from_camera)
    xyz = torch.baddbmm(
        camera_from_world[:, None, :3, 3], points.expand(len(camera), -1, -1), camera_from_world[:, :3, :3].mT
    )
    uv = xyz[..., :2] / xyz[..., 2:] * camera.intrinsics[:, [0, 1], [0, 1]][:, None] + camera.intrinsics[:, None, :2, 2]
    return torch.cat((uv, xyz[..., 2:]), dim=-1)


def kornia_project(points: Tensor, camera: Camera) -> Tensor:
    """(V, N, 2) without z; a point behind the camera gets coordinates like any other."""
    from kornia.geometry import project_points, transform_points

    in_camera = transform_points(torch.linalg.inv(camera.world_from_camera), points.expand(len(camera), -1, -1))
    return project_points(in_camera, camera.intrinsics[:, None])


def batched_visibility(
    points: Tensor, camera: Camera, depth: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """View, point and pixel of each match; the projection as in matrix_project."""
    uvz = matrix_project(points, camera)
    return _seen(uvz, camera, depth.flatten(1), tolerance)


def zbuffer_visibility(points: Tensor, camera: Camera, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the points' own z-buffer, by one scatter_reduce."""
    uvz = matrix_project(points, camera)
    cell = _cells(uvz, camera.size)
    nearest = uvz.new_full((len(uvz), camera.size[0] * camera.size[1] + 1), torch.inf)
    nearest.scatter_reduce_(1, cell, uvz[..., 2], "amin")
    return _seen(uvz, camera, nearest, tolerance)


def kornia_visibility(points: Tensor, camera: Camera, depth: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """kornia projects; z and the test, which it has not, in torch."""
    from kornia.geometry import project_points, transform_points

    in_camera = transform_points(torch.linalg.inv(camera.world_from_camera), points.expand(len(camera), -1, -1))
    uv = project_points(in_camera, camera.intrinsics[:, None])
    return _seen(torch.cat((uv, in_camera[..., 2:]), dim=-1), camera, depth.flatten(1), tolerance)


def _seen(uvz: Tensor, camera: Camera, depth: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    cell = _cells(uvz, camera.size)
    height, width = camera.size
    at = depth.gather(1, cell.clamp(max=height * width - 1))
    seen = (cell < height * width) & (at > 0) & ((at - uvz[..., 2]).abs() <= tolerance)
    view, point = seen.nonzero(as_tuple=True)
    return view, point, cell[seen]


def _cells(uvz: Tensor, size: tuple[int, int]) -> Tensor:
    """(V, N) flat pixels; H W for points outside."""
    height, width = size
    u, v, z = uvz.unbind(-1)
    u, v = torch.floor(u + 0.5), torch.floor(v + 0.5)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (z > 0)
    return torch.where(inside, v * width + u, height * width).long()  # exact in float32 up to 2**24 pixels


def two_minima_zbuffer(uvz: Tensor, size: tuple[int, int]) -> NearestPoint:
    """scatter_reduce of z, then of the index among the points at that z."""
    cell, z = _cells(uvz, size), uvz[..., 2]
    views, n = z.shape
    pixels = size[0] * size[1]
    nearest = z.new_full((views, pixels + 1), torch.inf).scatter_reduce_(1, cell, z, "amin")
    view, point = ((z == nearest.gather(1, cell)) & (cell < pixels)).nonzero(as_tuple=True)
    index = torch.full((views * pixels,), n, device=z.device)
    index.scatter_reduce_(0, view * pixels + cell[view, point], point, "amin")
    index = index.view(views, *size)
    depth = nearest[:, :-1].view(views, *size)
    return torch.where(index == n, -1, index), torch.where(index == n, 0, depth)


def packed_zbuffer(uvz: Tensor, size: tuple[int, int]) -> NearestPoint:
    """One scatter_reduce of int64 keys: the bits of z, which for z > 0 order like z, above the index."""
    cell, z = _cells(uvz, size), uvz[..., 2]
    views, n = z.shape
    pixels = size[0] * size[1]
    key = (z.contiguous().view(torch.int32).long() << 32) | torch.arange(n, device=z.device)
    empty = torch.iinfo(torch.int64).max
    nearest = torch.full((views, pixels + 1), empty, device=z.device).scatter_reduce_(1, cell, key, "amin")
    nearest = nearest[:, :-1].reshape(views, *size)
    depth = (nearest >> 32).int().view(torch.float32)
    return torch.where(nearest == empty, -1, nearest & 0xFFFFFFFF), torch.where(nearest == empty, 0, depth)


def splat_by_index(features: Tensor, index: Tensor) -> Tensor:
    """(V, C, H, W), channels last: winners' rows alone are gathered."""
    full = (index >= 0).flatten().nonzero()[:, 0]
    rows = features.new_zeros(index.numel(), features.shape[1]).index_copy(0, full, features[index.flatten()[full]])
    return rows.view(*index.shape, -1).permute(0, 3, 1, 2)


def grid_sampled(maps: Tensor, matches: Matches, size: tuple[int, int]) -> list[Tensor]:
    """A (M_v, C) for each view; F.grid_sample with its border held is exactly our reading with align_corners False."""
    found = []
    bounds = matches.ptr.tolist()
    for view, (begin, end) in enumerate(itertools.pairwise(bounds)):
        pixel = matches.pixel[begin:end]
        u, v = pixel % size[1], pixel // size[1]
        grid = torch.stack(((2 * u + 1) / size[1] - 1, (2 * v + 1) / size[0] - 1), dim=-1)[None, None]
        sampled = F.grid_sample(maps[view : view + 1], grid.to(maps.dtype), padding_mode="border", align_corners=False)
        found.append(sampled[0, :, 0].T)
    return found


def grid_fused(maps: Tensor, matches: Matches, n_points: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean over views, a view at a time, so that no (M, C) is made either."""
    fused = maps.new_zeros(n_points, maps.shape[1])
    bounds = matches.ptr.tolist()
    for begin, end, found in zip(bounds[:-1], bounds[1:], grid_sampled(maps, matches, size), strict=True):
        fused.index_add_(0, matches.point[begin:end], found)
    count = torch.bincount(matches.point, minlength=n_points)
    return fused / count.clamp(min=1)[:, None], count
