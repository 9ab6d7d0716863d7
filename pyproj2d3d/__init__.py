"""Moving knowledge between images and 3D: which pixels see which points, and what each can tell the other.

Conventions: :mod:`pyproj2d3d.camera`. Every operation again in plain torch: :mod:`pyproj2d3d.reference`.
"""

from importlib.metadata import version as _version

from .boxes import box_iou_3d, nms_3d
from .cache import CachedFrame, FeatureCache, build_caches
from .camera import Camera, Matches
from .data.mesh import render_depth
from .ops.back_project import back_project
from .ops.ball_query import ball_query
from .ops.cluster import cluster
from .ops.farthest_point_sample import farthest_point_sample
from .ops.fuse_views import ViewFuser, fuse_views
from .ops.kernel_map import kernel_map
from .ops.project import project
from .ops.sample import sample
from .ops.scatter import scatter
from .ops.splat import splat
from .ops.superpoints import superpoints
from .ops.three_nn import three_nn
from .ops.visibility import visibility
from .ops.voxelize import voxelize
from .ops.zbuffer import zbuffer
from .results import KernelMap, PointCloud, Voxels

__version__ = _version("pyproj2d3d")
__all__ = [
    "CachedFrame",
    "Camera",
    "FeatureCache",
    "KernelMap",
    "Matches",
    "PointCloud",
    "ViewFuser",
    "Voxels",
    "back_project",
    "ball_query",
    "box_iou_3d",
    "build_caches",
    "cluster",
    "farthest_point_sample",
    "fuse_views",
    "kernel_map",
    "nms_3d",
    "project",
    "render_depth",
    "sample",
    "scatter",
    "splat",
    "superpoints",
    "three_nn",
    "visibility",
    "voxelize",
    "zbuffer",
]
