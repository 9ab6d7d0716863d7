"""Moving knowledge between images and 3D: which pixels see which points, and what each can tell the other."""

from .camera import Camera, Matches
from .reference import fuse_views, project, sample, splat, visibility, zbuffer

__all__ = ["Camera", "Matches", "fuse_views", "project", "sample", "splat", "visibility", "zbuffer"]
