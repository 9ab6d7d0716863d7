"""Where are the surfaces that the frames saw? Depth lifted to points, and all frames brought together in voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import Voxels, back_project, scatter, visibility, voxelize

if TYPE_CHECKING:
    from .data import Frame

MOST_POINTS = 200_000  # of a thinned cloud, and in the report's 3D view
MOST_VOXELS = 60_000  # in the report's 3D view


@dataclass
class Cloud:
    """Points and what is known of each."""

    points: Tensor  # (N, 3) float32, world
    colors: Tensor | None  # (N, 3) uint8
    labels: Tensor | None  # (N,) int64, -1 where there is none
    origin: str  # a sentence for the report


@dataclass
class Lifted:
    """Pixels of one frame as points."""

    points: Tensor  # (N, 3) float32, world
    colors: Tensor  # (N, 3) uint8
    labels: Tensor  # (N,) int64, -1 where there is none
    seen_from: Tensor  # (3,) float32, where the camera was


def share_camera(frame: Frame) -> bool:
    """Whether the pixels of depth and colour are the same: then what is found for one holds for the other."""
    depth, color = frame.camera, frame.color_camera
    parts = ("intrinsics", "world_from_camera")
    return depth.size == color.size and all(torch.equal(getattr(depth, p), getattr(color, p)) for p in parts)


def lift(frame: Frame, depth: Tensor, image: Tensor, labels: Tensor | None) -> Lifted:
    """Every pixel of a depth image (H, W) with a reading, as far as the colour image (H, W, 3) has it too."""
    cloud = back_project(depth[None], frame.camera, depth_scale=frame.depth_scale)
    points, pixel = cloud.points, cloud.pixel.long()
    if not share_camera(frame):
        at = visibility(points, frame.color_camera)
        points, pixel = points[at.point.long()], at.pixel.long()
    known = torch.full_like(pixel, -1) if labels is None else labels.flatten()[pixel]
    seen_from = frame.camera.world_from_camera[0, :3, 3].float()
    return Lifted(points.float(), image.flatten(0, 1)[pixel], known, seen_from)


def thin(points: Tensor, size: float, most: int) -> tuple[Tensor, float]:
    """The lowest point of every voxel, which are made as large as it takes to have ``most``; and their size."""
    while len(voxels := voxelize(points, size)) > most:
        size *= 1.1
    return scatter(torch.arange(len(points)), voxels, "first"), size


def spacing(points: Tensor) -> float:
    """Metres from a point to its neighbours, about, on surfaces that the points cover evenly."""
    if len(points) < 2:
        return 0.01
    coarse = float((points.amax(0) - points.amin(0)).norm()) / 100 or 0.01
    return coarse * math.sqrt(len(voxelize(points, coarse)) / len(points))


class ThinnedCloud:
    """One point for each small voxel that any frame saw: of the first frame that saw it, as that one has it."""

    def __init__(self, size: float = 0.01, most: int = MOST_POINTS):
        self._size, self._most = size, most
        self._points, self._colors = torch.empty(0, 3), torch.empty(0, 3, dtype=torch.uint8)
        self._labels = torch.empty(0, dtype=torch.int64)

    def add(self, lifted: Lifted) -> None:
        new, self._size = thin(lifted.points, self._size, self._most)
        points = torch.cat((self._points, lifted.points[new]))
        keep, self._size = thin(points, self._size, self._most)
        self._points = points[keep]
        self._colors = torch.cat((self._colors, lifted.colors[new]))[keep]
        self._labels = torch.cat((self._labels, lifted.labels[new]))[keep]

    def result(self) -> Cloud:
        origin = f"The depth images lifted to points, one point kept in each voxel of {100 * self._size:.1f} cm."
        labelled = bool((self._labels >= 0).any())
        return Cloud(self._points, self._colors, self._labels if labelled else None, origin)


class VoxelGrid:
    """Means over all points in each voxel, frame after frame: what is kept does not grow with the frames.

    Past ``most`` voxels their size doubles. A voxel then holds eight whole ones, so that no point changes its voxel.
    """

    def __init__(self, size: float = 0.05, most: int = MOST_VOXELS):
        self.size, self._most = size, most
        self.centers = torch.empty(0, 3)  # (M, 3) world
        self._sums = torch.empty(0, 7, dtype=torch.float64)  # of colour, camera position and 1

    def add(self, lifted: Lifted) -> None:
        voxels = voxelize(lifted.points, self.size)
        colors = scatter(lifted.colors.float(), voxels, "sum")
        n = voxels.counts[:, None].double()
        self._add(self._centers(voxels), torch.cat((colors, n * lifted.seen_from, n), dim=1))

    def _add(self, points: Tensor, sums: Tensor) -> None:
        points, sums = torch.cat((self.centers, points)), torch.cat((self._sums, sums))
        while len(voxels := voxelize(points, self.size)) > self._most:
            self.size *= 2
        self.centers, self._sums = self._centers(voxels), scatter(sums, voxels, "sum")

    def _centers(self, voxels: Voxels) -> Tensor:
        return (voxels.coords[:, 1:] + 0.5) * self.size

    @property
    def colors(self) -> Tensor:
        """(M, 3) float32, 0 to 255."""
        return (self._sums[:, :3] / self._sums[:, 6:]).float()

    @property
    def seen_from(self) -> Tensor:
        """(M, 3) float32, mean position of the cameras that see a voxel, by points."""
        return (self._sums[:, 3:6] / self._sums[:, 6:]).float()

    @property
    def counts(self) -> Tensor:
        """(M,) int64, points in each voxel."""
        return self._sums[:, 6].long()
