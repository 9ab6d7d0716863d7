"""Rooms of a few parts whose places one knows, in place of furnished ones."""

import numpy as np
import torch

from pyproj2d3d import Camera
from pyproj2d3d.data.synth import RoomOptions, SynthRoom
from pyproj2d3d.data.synth.parts import Parts

EXTENT = (4.0, 5.0, 2.5)


def room_of(*parts, options=None, seed=0, scene_type="living room", extent=EXTENT):
    """A room of parts (shape, center, half, material) or with a rotation (3, 3) as a fifth; each is an object."""
    rotation = [np.array(p[4]) if len(p) > 4 else np.eye(3) for p in parts]
    room = SynthRoom.__new__(SynthRoom)
    room.seed, room.options, room.extent = seed, options or RoomOptions(), np.array(extent)
    room.parts = Parts(
        np.array([p[0] for p in parts], dtype=np.int64),
        np.array([p[1] for p in parts], dtype=np.float64).reshape(-1, 3),
        np.array([p[2] for p in parts], dtype=np.float64).reshape(-1, 3),
        np.array(rotation, dtype=np.float64).reshape(-1, 3, 3),
        3 + np.arange(len(parts)),
        np.array([p[3] for p in parts], dtype=np.int64),
    )
    room.categories = ("floor", "wall", "ceiling", *["table"] * len(parts))
    room.nyu40 = np.array([2, 1, 22, *[7] * len(parts)])
    room.scene_type, room.boxes = scene_type, np.zeros((3 + len(parts), 7))
    return room


def camera_at(place, ahead, size=(120, 160), focal=120.0):
    """One upright camera at a place, that looks ahead."""
    ahead = np.array(ahead) / np.linalg.norm(ahead)
    right = np.cross(ahead, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(ahead, right), ahead, place], axis=1)
    intrinsics = np.array([[focal, 0, size[1] / 2 - 0.5], [0, focal, size[0] / 2 - 0.5], [0, 0, 1]])
    return Camera(torch.from_numpy(intrinsics), torch.from_numpy(pose), size)
