"""Every operation again in plain torch: the specification, the oracle of the tests, the baseline of the benchmarks.

Same signatures and results as the operations of the same names, which document them; no checks of the arguments.
Where floats decide an integer (a pixel, a match) the elementwise operations and their order are the library's one
written arithmetic, so that integers agree to the bit.
"""

from .back_project import back_project
from .ball_query import ball_query
from .cluster import cluster
from .farthest_point_sample import farthest_point_sample
from .fuse_views import fuse_views
from .kernel_map import kernel_map
from .project import camera_from_world, nearest_pixel, project
from .sample import sample
from .scatter import scatter
from .splat import splat
from .superpoints import superpoints
from .three_nn import three_nn
from .visibility import metres, visibility
from .voxelize import voxelize
from .zbuffer import zbuffer

__all__ = [
    "back_project",
    "ball_query",
    "camera_from_world",
    "cluster",
    "farthest_point_sample",
    "fuse_views",
    "kernel_map",
    "metres",
    "nearest_pixel",
    "project",
    "sample",
    "scatter",
    "splat",
    "superpoints",
    "three_nn",
    "visibility",
    "voxelize",
    "zbuffer",
]
