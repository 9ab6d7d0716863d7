"""Where do images, poses and clouds come from? Readers, synthetic rooms in their layouts, and samples to train on."""

from .graph import knn_edges, mesh_edges, vertex_normals
from .mesh import render_depth
from .nyuv2 import NYUv2
from .open_dataset import open_dataset
from .points import Points
from .posed_folder import PosedFolders, read_posed_folder
from .room import Room, write_room
from .s3dis import S3DIS
from .sampler import SeededSampler
from .samples import Batch, FrameSamples, Sample, SceneSamples, collate
from .scannet import ScanNet
from .scene import Boxes, Cloud, Frame, Frames, Scene, SceneDataset
from .sunrgbd import SUNRGBD
from .sunrgbd_votenet import SUNRGBDVoteNet
from .synth import RoomOptions, SynthRoom
from .transforms import Compose
from .views import View

__all__ = [
    "S3DIS",
    "SUNRGBD",
    "Batch",
    "Boxes",
    "Cloud",
    "Compose",
    "Frame",
    "FrameSamples",
    "Frames",
    "NYUv2",
    "Points",
    "PosedFolders",
    "Room",
    "RoomOptions",
    "SUNRGBDVoteNet",
    "Sample",
    "ScanNet",
    "Scene",
    "SceneDataset",
    "SceneSamples",
    "SeededSampler",
    "SynthRoom",
    "View",
    "collate",
    "knn_edges",
    "mesh_edges",
    "open_dataset",
    "read_posed_folder",
    "render_depth",
    "vertex_normals",
    "write_room",
]
