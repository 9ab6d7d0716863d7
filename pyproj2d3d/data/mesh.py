"""How deep is a mesh at every pixel? Depth rendered on the host by Open3D's ray casting."""

from __future__ import annotations

import contextlib
import ctypes
from types import ModuleType

import torch
from torch import Tensor

from ..camera import Camera
from ..ops._check import check_camera


def render_depth(vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    """z of the first triangle that the ray through each pixel's centre hits, for :func:`visibility`.

    Host only: tensors elsewhere are an error. Needs Open3D: ``pip install "pyproj2d3d[open3d]"``.

    Args:
        vertices: (N, 3) float32 or float64, in the world of the camera's poses, metres.
        faces: (F, 3) int64, three vertices each, in either order.
        camera: V views; the pose is taken as it stands, orthonormal or not, focal lengths may be negative.

    Returns:
        (V, H, W) like ``vertices``: z, not the length of the ray; 0 where nothing is hit. The rays are cast in float32.

    Raises:
        ImportError: Open3D is not installed.
        TypeError: vertices that are not floating, faces that are not int64, no Camera.
        ValueError: a wrong shape, vertices that are not finite, a face of a vertex that is not there, a device other
            than the host.

    Both sides of a triangle are seen. A mesh without faces is 0 everywhere. Not differentiable.
    """
    _check(vertices, faces, camera)
    height, width = camera.size
    depth = torch.zeros(len(camera), height, width, dtype=vertices.dtype)
    if not len(faces):
        return depth
    o3d = _open3d()
    used = torch.zeros(len(vertices), dtype=torch.bool).index_fill(0, faces.flatten(), True)
    corners = torch.where(used[:, None], vertices.detach().double(), 0)  # what no face uses may be anywhere
    middle = corners.sum(dim=0) / used.sum()  # float32 is finest about the origin
    caster = o3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
    near = (corners - middle).float()
    caster.add_triangles(o3d.core.Tensor(near.numpy()), o3d.core.Tensor(faces.numpy().astype("uint32")))
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for view in range(len(camera)):
        k = camera.intrinsics[view].detach().double()
        pose = camera.world_from_camera[view].detach().double()
        ray = torch.stack(
            [(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], torch.ones_like(u)], dim=-1
        )  # (H, W, 3), z = 1
        origin = (pose[:3, 3] - middle).expand(height, width, 3)
        rays = torch.cat([origin, ray @ pose[:3, :3].T], dim=-1).float()  # (H, W, 6), whose length is then z
        hit = caster.cast_rays(o3d.core.Tensor(rays.numpy()), nthreads=torch.get_num_threads())["t_hit"]
        z = torch.from_numpy(hit.numpy())
        depth[view] = torch.where(torch.isfinite(z), z, 0)
    return depth


def _check(vertices: Tensor, faces: Tensor, camera: Camera) -> None:
    check_camera("camera", camera)
    if not isinstance(vertices, Tensor) or vertices.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"vertices must be a float32 or float64 tensor, got {_kind(vertices)}")
    if not isinstance(faces, Tensor) or faces.dtype != torch.int64:
        raise TypeError(f"faces must be an int64 tensor, got {_kind(faces)}")
    for name, tensor in (("vertices", vertices), ("faces", faces)):
        if tensor.ndim != 2 or tensor.shape[1] != 3:
            raise ValueError(f"{name} must have shape (*, 3), got {tuple(tensor.shape)}")
    for name, device in (("vertices", vertices.device), ("faces", faces.device), ("camera", camera.device)):
        if device.type != "cpu":
            raise ValueError(f"{name} must be on the host: render_depth runs on the CPU only, got {device}")
    if not bool(torch.isfinite(vertices).all()):
        raise ValueError("vertices must be finite")
    if len(faces) and not 0 <= int(faces.min()) <= int(faces.max()) < len(vertices):
        raise ValueError(f"faces must index {len(vertices)} vertices, got {int(faces.min())} to {int(faces.max())}")


def _kind(argument: object) -> str:
    return str(argument.dtype) if isinstance(argument, Tensor) else type(argument).__name__


def _open3d() -> ModuleType:
    """Open3D 0.20 is linked to libusb-1.0, which a bare machine has not: the pip package of it is loaded beforehand."""
    with contextlib.suppress(ImportError):
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise ImportError(f'render_depth needs Open3D: pip install "pyproj2d3d[open3d]" ({error})') from error
    return open3d
