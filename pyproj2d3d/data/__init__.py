"""Where do images, poses and clouds come from? Readers, the analytic room, and depth rendered from a mesh."""

from .mesh import render_depth
from .posed_folder import read_posed_folder
from .room import Room, write_room
from .scene import Boxes, Cloud, Frame, Frames, Scene, SceneDataset

__all__ = [
    "Boxes",
    "Cloud",
    "Frame",
    "Frames",
    "Room",
    "Scene",
    "SceneDataset",
    "read_posed_folder",
    "render_depth",
    "write_room",
]
