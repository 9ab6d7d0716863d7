"""Where do images, poses and clouds come from? Readers, the analytic room, and depth rendered from a mesh."""

from .mesh import render_depth
from .posed_folder import read_posed_folder
from .room import Room, write_room
from .scene import Frame, Scene

__all__ = ["Frame", "Room", "Scene", "read_posed_folder", "render_depth", "write_room"]
