"""project: points into many cameras, and the gradients back."""

from __future__ import annotations

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import Camera, reference

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender
from .workloads import features, seen_room

FULL = {"points": 200_000, "views": 8}
TINY = {"points": 500, "views": 2}


def forward(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """project."""
    cloud, camera, _ = seen_room(device, points, views)
    compiled = peers.compiled(reference.project)
    return {
        OURS: lambda: pyproj2d3d.project(cloud, camera),
        "plain torch": lambda: reference.project(cloud, camera),
        "torch best": lambda: peers.matrix_project(cloud, camera),
        "torch.compile": lambda: compiled(cloud, camera),
        "kornia": peers.if_installed("kornia", lambda: peers.kornia_project(cloud, camera)),
    }


def bench_project(timed: Timed) -> None:
    results = timed(forward, full=FULL, tiny=TINY, moved=lambda uvz, size: 12 * size["points"] + uvz.nbytes)
    ours = results[OURS]
    in_front = ours[..., 2] > 0.1
    for name, theirs in results.items():
        channels = 2 if name == "kornia" else 3
        torch.testing.assert_close(
            theirs[in_front], ours[in_front][:, :channels], rtol=1e-3, atol=1e-2, msg=lambda m, n=name: f"{n}: {m}"
        )


def forward_and_backward(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """project and its gradients to points, poses and intrinsics."""
    cloud, camera, _ = seen_room(device, points, views)
    front = (reference.project(cloud, camera)[..., 2:] > 0.1).float()
    grad = features(device, views, points, 3) * front  # near the camera plane gradients grow beyond any comparison
    cloud.requires_grad_()
    intrinsics = camera.intrinsics.clone().requires_grad_()
    poses = camera.world_from_camera.clone().requires_grad_()
    moved = Camera(intrinsics, poses, camera.size)

    def gradients(project) -> Contender:  # type: ignore[no-untyped-def]
        return lambda: torch.autograd.grad(project(cloud, moved), (cloud, intrinsics, poses), grad)

    return {
        OURS: gradients(pyproj2d3d.project),
        "plain torch": gradients(reference.project),
        "torch best": gradients(peers.matrix_project),
        "torch.compile": gradients(peers.compiled(reference.project)),
    }


def moved_by_gradients(gradients: tuple[Tensor, ...], size: dict[str, int]) -> int:
    """Points in, u, v, z out; then points and the gradient to u, v, z in, that to points out."""
    return (3 + 2 * size["views"]) * 12 * size["points"]


def bench_project_and_gradients(timed: Timed) -> None:
    results = timed(forward_and_backward, full=FULL, tiny=TINY, moved=moved_by_gradients)
    for name, theirs in results.items():
        for mine, other in zip(_varying(results[OURS]), _varying(theirs), strict=True):
            assert (mine - other).norm() <= 1e-3 * mine.norm(), name


def _varying(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Without those to the last rows of the poses, which are constants: the contenders differ on them."""
    to_points, to_intrinsics, to_poses = gradients
    return to_points, to_intrinsics, to_poses[:, :3]
