"""On what are the operations measured? Inputs that every contender of a group gets alike."""

from __future__ import annotations

import torch
from torch import Tensor

from pyproj2d3d import Camera, Matches, reference
from pyproj2d3d.data import Room

IMAGE = (480, 640)
FIVE_CENTIMETRES = (0.05, 0.0, 0.0)  # the rule that every contender can be given
CLASSES = 41  # NYU40 and its 0
FAR = 10_000.0  # metres
ROOM = 3  # here 6.6 % of all pairs of a point and one of 8 cameras are visible, about the average of rooms


def seen_room(device: torch.device, points: int, views: int) -> tuple[Tensor, Camera, Tensor]:
    """Points (N, 3), cameras and depth (V, 480, 640) of the analytic room, float32."""
    room = Room(ROOM)
    camera = room.cameras(views, ROOM)
    depth = room.depth(camera)
    return room.points(points, ROOM)[0].float().to(device), camera.to(device, torch.float32), depth.float().to(device)


def room_depth(device: torch.device, views: int) -> tuple[Camera, Tensor]:
    """Cameras and depth (V, 480, 640) of the analytic room, float32; every pixel sees something."""
    _, camera, depth = seen_room(device, 1, views)
    return camera, depth


def room_cloud(device: torch.device, points: int) -> tuple[Tensor, Tensor]:
    """Points (N, 3) float32 on the faces of the analytic room, in no order, and their labels, a fifth of them wrong."""
    cloud, labels, _ = Room(ROOM).points(points, ROOM)
    random = torch.Generator().manual_seed(2)
    wrong = torch.randint(0, CLASSES, (points,), generator=random)
    labels = torch.where(torch.rand(points, generator=random) < 0.2, wrong, labels)
    return cloud.float().to(device), labels.to(device)


def far_rooms(device: torch.device, points: int, rooms: int) -> tuple[Tensor, Tensor]:
    """(N, 3) float64, the points of rooms up to 10 km from the origin along each axis, and the room of each (N,)."""
    random = torch.Generator().manual_seed(3)
    corner = FAR * (2 * torch.rand(rooms, 3, generator=random, dtype=torch.float64) - 1)
    corner[0], corner[-1] = -FAR, FAR
    batch = torch.randint(0, rooms, (points,), generator=random)
    return (Room(ROOM).points(points, ROOM)[0] + corner[batch]).to(device), batch.to(device)


def room_matches(device: torch.device, points: int, views: int) -> Matches:
    """Of that room, by its depth."""
    cloud, camera, depth = seen_room(device, points, views)
    return reference.visibility(cloud, camera, depth, tolerance=FIVE_CENTIMETRES)


def points_in_frame(device: torch.device, points: int, views: int) -> Tensor:
    """(V, N, 3) u, v, z anywhere in the image, 0.5 to 8 m away; nearly every pixel gets a point."""
    random = torch.Generator().manual_seed(0)
    unit = torch.rand(views, points, 3, generator=random)
    low, high = torch.tensor([-0.5, -0.5, 0.5]), torch.tensor([639.4, 479.4, 8.0])
    return (low + unit * (high - low)).to(device)


def features(device: torch.device, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(device)


def feature_maps(device: torch.device, views: int, channels: int, height: int, width: int) -> Tensor:
    """(V, C, h, w) in memory as a network with channels_last leaves it."""
    return features(device, views, channels, height, width).to(memory_format=torch.channels_last)
