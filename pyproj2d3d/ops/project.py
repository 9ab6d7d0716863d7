"""Where does each point land in each image? Pinhole projection, differentiable in points and cameras."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..camera import Camera
from ._check import GEOMETRY, check_camera, check_device, check_tensor
from ._register import contiguous, empty, native, on, register

__all__ = ["pinhole_of", "project", "views_of"]


def project(points: Tensor, camera: Camera) -> Tensor:
    """Pixel coordinates and depth of every point in every view.

    x_c = ((r0 x + r1 y) + r2 z) + t; u = fx (x_c / z_c) + cx; v likewise: pinhole projection in the one arithmetic
    that all operations share (Hartley and Zisserman, Multiple View Geometry, 6.1).

    Args:
        points: (N, 3) float32 or float64, metres, world.
        camera: V views on the same device; cast to the points' dtype.

    Returns:
        (V, N, 3) in the points' dtype: u and v in pixels, z in metres. Differentiable in the points, the poses and
        the intrinsics. A point behind the camera keeps its negative z and the pixel of its mirror image: look at z.
        At z = 0, u and v are infinite or NaN.

    Raises:
        TypeError, ValueError: ``points`` is not (N, 3) float32 or float64, or on another device than ``camera``.

    >>> camera = Camera(torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), torch.eye(4), (80, 100))
    >>> project(torch.tensor([[0.0, 0.0, 2.0], [1.0, -0.5, 4.0]]), camera)
    tensor([[[50.0000, 40.0000,  2.0000],
             [75.0000, 27.5000,  4.0000]]])
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    check_camera("camera", camera)
    check_device("points", points, "camera", camera)
    return _project(points, *views_of(camera, points.dtype))


def views_of(camera: Camera, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """camera_from_world (V, 3, 4) and fx, fy, cx, cy (V, 4) of a camera, in the geometry's dtype."""
    return _camera_from_world(camera.world_from_camera).to(dtype), pinhole_of(camera, dtype)


def pinhole_of(camera: Camera, dtype: torch.dtype) -> Tensor:
    """fx, fy, cx, cy (V, 4)."""
    k = camera.intrinsics.to(dtype)
    return torch.stack((k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]), 1)


def _run_inverse(world_from_camera: Tensor) -> Tensor:
    out = world_from_camera.new_empty(len(world_from_camera), 3, 4, dtype=torch.float64)
    native.camera_from_world(on(out), world_from_camera.contiguous(), out)
    return out


def _fake_inverse(world_from_camera: Tensor) -> Tensor:
    return world_from_camera.new_empty(len(world_from_camera), 3, 4, dtype=torch.float64)


def _save_inverse(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)
    ctx.dtype = inputs[0].dtype


def _backward_inverse(ctx: Any, grad: Tensor) -> Tensor:
    (inverse,) = ctx.saved_tensors  # (V, 3, 4) = [R | t]; d(A^-1) = -A^-1 dA A^-1
    of_rotation = grad @ inverse.mT  # (V, 3, 3): of [R | t] to [R | t] in the homogeneous product, first three columns
    of_pose = -(inverse[:, :, :3].mT @ torch.cat((of_rotation, grad[:, :, 3:]), 2))  # (V, 3, 4)
    return torch.nn.functional.pad(of_pose, (0, 0, 0, 1)).to(ctx.dtype)  # the last row of a pose is no parameter


_camera_from_world = register(
    "camera_from_world(Tensor world_from_camera) -> Tensor",
    _run_inverse,
    _fake_inverse,
    save=_save_inverse,
    backward=_backward_inverse,
)


def _run(points: Tensor, camera_from_world: Tensor, intrinsics: Tensor) -> Tensor:
    uvz = empty(points, len(camera_from_world), len(points), 3)
    native.project(on(points), *contiguous(points, camera_from_world, intrinsics), uvz)
    return uvz


def _fake(points: Tensor, camera_from_world: Tensor, intrinsics: Tensor) -> Tensor:
    return points.new_empty(camera_from_world.shape[0], points.shape[0], 3)


def _run_grad(
    points: Tensor, camera_from_world: Tensor, intrinsics: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    views, n = len(camera_from_world), len(points)
    grad_points, grad_camera = empty(points, n, 3), points.new_empty(views, 16)
    partial = points.new_empty(views, -(-n // native.GRAD_BLOCK), 16, dtype=torch.float64)
    inputs = contiguous(points, camera_from_world, intrinsics, grad)
    native.project_grad(on(points), *inputs, grad_points, partial, grad_camera)
    return grad_points, grad_camera[:, :12].clone().view(views, 3, 4), grad_camera[:, 12:].clone()


def _fake_grad(
    points: Tensor, camera_from_world: Tensor, intrinsics: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    views = camera_from_world.shape[0]
    return points.new_empty(points.shape[0], 3), points.new_empty(views, 3, 4), points.new_empty(views, 4)


_project_grad = register(
    "project_grad(Tensor points, Tensor camera_from_world, Tensor intrinsics, Tensor grad) -> (Tensor, Tensor, Tensor)",
    _run_grad,
    _fake_grad,
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _project_grad(*ctx.saved_tensors, grad)


_project = register(
    "project(Tensor points, Tensor camera_from_world, Tensor intrinsics) -> Tensor",
    _run,
    _fake,
    save=_save,
    backward=_backward,
)
