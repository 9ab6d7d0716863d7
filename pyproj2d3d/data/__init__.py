"""Where do images, poses and clouds come from? Readers, the analytic room, and depth rendered from a mesh."""

from .graph import knn_edges, mesh_edges, vertex_normals
from .mesh import render_depth
from .posed_folder import PosedFolders, read_posed_folder
from .room import Room, write_room
from .scene import Boxes, Cloud, Frame, Frames, Scene, SceneDataset

__all__ = [
    "Boxes",
    "Cloud",
    "Frame",
    "Frames",
    "PosedFolders",
    "Room",
    "Scene",
    "SceneDataset",
    "knn_edges",
    "mesh_edges",
    "read_posed_folder",
    "render_depth",
    "vertex_normals",
    "write_room",
]
