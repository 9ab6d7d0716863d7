"""How do the cloud and its voxels get into the page: packed for the 3D view, and as pictures from where it begins?"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from . import Camera, project, splat, zbuffer
from .report_colors import scale_colors

PICTURE_SIZE = (720, 1280)  # of the cloud's picture; the 3D view has the same shape
SMALL_SIZE = (540, 960)  # of the pictures of voxels
VIEW_ANGLE = math.radians(45)  # vertical
ELEVATION = math.radians(35)  # of the first viewpoint
LIGHT, AMBIENT = (-0.36, -0.48, 0.8), 0.7  # where it comes from, in the axes of a Viewpoint; what is everywhere


@dataclass
class CloudView:
    """The fused cloud, thin enough to be looked at."""

    points: Tensor  # (N, 3) float32, world
    seen_from: Tensor  # (N, 3) float32, mean position of the cameras that see the point
    colorings: dict[str, Tensor]  # each (N, 3), 0 to 255; the first is shown first
    world_from_camera: Tensor  # (V, 4, 4) float32, of all frames: they say where up is
    spacing: float  # metres between neighbours, about


@dataclass
class VoxelView:
    """What all frames saw, as cubes along the axes of the world."""

    size: float  # metres
    centers: Tensor  # (M, 3) float32, world
    seen_from: Tensor  # (M, 3) float32, as of a cloud
    colors: Tensor  # (M, 3), 0 to 255
    counts: Tensor  # (M,) int64, points in each


@dataclass
class Viewpoint:
    """Where the 3D view begins. Its axes: x right, y away, z up."""

    view_from_world: Tensor  # (3, 3), a rotation
    target: Tensor  # (3,) in its axes
    distance: float  # metres, from the target

    @property
    def eye(self) -> Tensor:
        """(3,) in its axes."""
        return self.target + self.distance * torch.tensor([0, -math.cos(ELEVATION), math.sin(ELEVATION)])

    def camera(self, size: tuple[int, int]) -> tuple[Camera, float]:
        """In its axes, for pictures of PICTURE_SIZE's shape; and the focal length in pixels."""
        cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
        world_from_camera = torch.eye(4)
        world_from_camera[:3, :3] = torch.tensor([[1, 0, 0], [0, -sin, cos], [0, -cos, -sin]])
        world_from_camera[:3, 3] = self.eye
        height, width = size
        focal = 0.5 * height / math.tan(VIEW_ANGLE / 2)
        intrinsics = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        return Camera(intrinsics, world_from_camera, size), focal


def viewpoint_of(cloud: CloudView) -> Viewpoint:
    view_from_world = _view_from_world(cloud.world_from_camera)
    return Viewpoint(view_from_world, *first_viewpoint(cloud.points @ view_from_world.T))


def _view_from_world(world_from_camera: Tensor) -> Tensor:
    """(3, 3) rotation to x right, y away, z up, as the cameras saw it on average: people hold them upright."""
    down, forward = world_from_camera[:, :3, 1].mean(0), world_from_camera[:, :3, 2].mean(0)
    if down.norm() < 0.1:
        down = world_from_camera[0, :3, 1]
    up = -down / down.norm()
    away = forward - (forward @ up) * up
    if away.norm() < 0.1:  # they looked all around, or straight down
        away = torch.linalg.cross(up, world_from_camera[0, :3, 0])
    away = away / away.norm()
    return torch.stack((torch.linalg.cross(away, up), away, up))


def first_viewpoint(points: Tensor) -> tuple[Tensor, float]:
    """What to look at, and from how far, for 98 points of 100 to be in the picture."""
    if len(points) == 0:
        return torch.zeros(3), 1.0
    some = points[:: max(1, len(points) // 50_000)]
    target = torch.quantile(some, torch.tensor([0.02, 0.98]), dim=0).mean(0)
    cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
    x, y, z = (some - target).T
    up, nearer = sin * y + cos * z, sin * z - cos * y
    across = torch.maximum(x.abs() * PICTURE_SIZE[0] / PICTURE_SIZE[1], up.abs())
    distance = torch.quantile(nearer + across / math.tan(VIEW_ANGLE / 2), 0.98)
    return target, max(float(distance), 0.1)


# For the page's script -----------------------------------------------------------------------------------------------


def packed_cloud(cloud: CloudView, viewpoint: Viewpoint) -> tuple[str, dict[str, object]]:
    """The points as base64 of deflated bytes, and what the page needs to read and to show them."""
    points, facing = _in_view(cloud.points, cloud.seen_from, viewpoint)
    low = points.amin(0) if len(points) else torch.zeros(3)
    extent = (points.amax(0) - low).clamp(min=1e-6) if len(points) else torch.ones(3)
    places = ((points - low) / extent * 65535).round()
    begin = {"target": viewpoint.target.tolist(), "distance": viewpoint.distance, "elevation": ELEVATION}
    shape = {"n": len(points), "low": low.tolist(), "extent": extent.tolist(), "spacing": cloud.spacing}
    return _packed(places, facing, list(cloud.colorings.values())), {**shape, **begin, "angle": VIEW_ANGLE}


def packed_voxels(voxels: VoxelView, viewpoint: Viewpoint) -> tuple[str, dict[str, object]]:
    """The same of voxels: their places are whole numbers of cubes from the lowest one, for neighbours to meet.

    ``edges`` are half the edges of a cube, one after the other. Behind the colours: for each axis 1 where there is no
    neighbour below, and 2 where there is none above.
    """
    _, facing = _in_view(voxels.centers, voxels.seen_from, viewpoint)
    lowest = voxels.centers.amin(0) if len(voxels.centers) else torch.zeros(3)
    places = ((voxels.centers - lowest) / voxels.size).round().clamp(max=65535)  # kilometres, of centimetres
    low, edges = viewpoint.view_from_world @ lowest, 0.5 * voxels.size * viewpoint.view_from_world.T
    shape = {"n": len(voxels.centers), "low": low.tolist(), "edges": edges.flatten().tolist()}
    bare = ((_neighbours(voxels) < 0) * torch.tensor([1, 2])).sum(2)
    return _packed(places, facing, [voxels.colors, bare]), {**shape, "light": LIGHT, "ambient": AMBIENT}


def _packed(places: Tensor, facing: Tensor, colorings: Sequence[Tensor]) -> str:
    """(N, 3) each: places from 0 to 65535, directions of unit length, colours from 0 to 255."""
    parts = [places.to(torch.uint16), (facing * 127).round().to(torch.int8), *(c.to(torch.uint8) for c in colorings)]
    return base64.b64encode(zlib.compress(b"".join(p.contiguous().numpy().tobytes() for p in parts))).decode()


def _neighbours(voxels: VoxelView) -> Tensor:
    """(M, 3, 2) int64: for each axis the voxel below and the one above, -1 where there is none."""
    if len(voxels.centers) == 0:
        return torch.empty(0, 3, 2, dtype=torch.int64)
    cells = (voxels.centers / voxels.size).floor().long()
    cells = cells - cells.amin(0) + 1  # with an empty layer around
    _, y, z = (cells.amax(0) + 2).tolist()
    steps = torch.tensor([y * z, z, 1])
    key = (cells * steps).sum(1)
    wanted = key[:, None, None] + steps[:, None] * torch.tensor([-1, 1])
    ascending, order = key.sort()
    found = torch.searchsorted(ascending, wanted).clamp(max=len(key) - 1)
    return torch.where(ascending[found] == wanted, order[found], -1)


def _in_view(points: Tensor, seen_from: Tensor, viewpoint: Viewpoint) -> tuple[Tensor, Tensor]:
    """Points in the viewpoint's axes, and the directions in which they were seen from, of unit length."""
    points, seen_from = points @ viewpoint.view_from_world.T, seen_from @ viewpoint.view_from_world.T
    return points, normalize(seen_from - points)


# Pictures ------------------------------------------------------------------------------------------------------------


def cloud_picture(cloud: CloudView, viewpoint: Viewpoint) -> Tensor:
    """(H, W, 4) uint8: the cloud from the viewpoint in its first colours, transparent where there is none of it."""
    points, facing = _in_view(cloud.points, cloud.seen_from, viewpoint)
    front = (facing * (viewpoint.eye - points)).sum(1) > 0  # a wall from behind would hide the room
    camera, focal = viewpoint.camera(PICTURE_SIZE)
    radius = max(1, round(0.7 * cloud.spacing * focal / viewpoint.distance))
    index, _ = zbuffer(project(points[front], camera), camera.size, radius=radius)
    return _drawn(next(iter(cloud.colorings.values()))[front], index)


def voxel_pictures(voxels: VoxelView, colorings: Sequence[Tensor], viewpoint: Viewpoint) -> list[Tensor]:
    """(H, W, 4) uint8 for each coloring (M, 3), 0 to 255: the voxels as cubes from the viewpoint, lit from LIGHT."""
    centers, facing = _in_view(voxels.centers, voxels.seen_from, viewpoint)
    camera, focal = viewpoint.camera(SMALL_SIZE)
    z = project(centers, camera)[0, :, 2] - voxels.size  # no part of a cube is nearer
    shown = ((facing * (viewpoint.eye - centers)).sum(1) > 0) & (z > 0)
    bare = ~torch.cat((shown, torch.tensor([False])))[_neighbours(voxels)]  # faces that no shown cube covers
    steps = (1.5 * voxels.size * focal / z).ceil().long()  # along an edge: no pixel of a face remains between two
    edges = voxels.size * viewpoint.view_from_world.T  # (3, 3), a row for each edge of a cube
    samples, face_of_sample = [torch.empty(0, 3)], [torch.empty(0, dtype=torch.int64)]
    cube_of_face, lit = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, 1)]
    faces = 0
    for n in steps[shown].unique().tolist():
        along = ((torch.arange(n) + 0.5) / n - 0.5)[:, None]
        for axis in range(3):
            off = (viewpoint.eye - centers) @ edges[axis] / voxels.size**2  # in cubes; nobody sees both faces
            visible = torch.where(off > 0.5, bare[:, axis, 1], (off < -0.5) & bare[:, axis, 0])
            cubes = (shown & (steps == n) & visible).nonzero()[:, 0]
            outward = off[cubes, None].sign() * edges[axis]  # (m, 3)
            u, v = along * edges[axis - 1], along * edges[axis - 2]  # (n, 3)
            face = (centers[cubes] + 0.5 * outward)[:, None] + (u[:, None] + v).view(-1, 3)  # (m, n n, 3)
            samples.append(face.view(-1, 3))
            face_of_sample.append((faces + torch.arange(len(cubes))).repeat_interleave(n * n))
            cube_of_face.append(cubes)
            lit.append((outward @ torch.tensor(LIGHT) / voxels.size).clamp(min=0)[:, None])
            faces += len(cubes)
    index, _ = zbuffer(project(torch.cat(samples), camera), camera.size)  # (1, H, W)
    face = torch.cat((*face_of_sample, torch.tensor([-1])))[index]  # -1 where there is no sample
    cube, shade = torch.cat(cube_of_face), AMBIENT + (1 - AMBIENT) * torch.cat(lit)
    return [_drawn(shade * colors[cube], face) for colors in colorings]


def _drawn(colors: Tensor, index: Tensor) -> Tensor:
    """(H, W, 4) uint8: colours (N, 3) where an index (1, H, W) is not -1."""
    rgb = splat(colors.float(), index)[0].permute(1, 2, 0)
    return torch.cat((rgb, 255.0 * (index[0, ..., None] >= 0)), dim=-1).to(torch.uint8)


def count_colors(counts: Tensor) -> Tensor:
    """(M,) to (M, 3) uint8: by the logarithm, many are light."""
    most = counts.max().clamp(min=2).log() if len(counts) else 1.0
    return scale_colors(1 - counts.float().log() / most)
