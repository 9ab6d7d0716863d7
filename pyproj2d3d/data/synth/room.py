"""What does a synthetic room look like, from where, and as a mesh? One seed, one room, equal on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...camera import Camera
from .layout import furnish
from .options import RoomOptions
from .parts import Parts
from .path import walk
from .sensor import measured_depth
from .trace import Hits, surface, trace


@dataclass(frozen=True, eq=False)
class Images:
    """What a perfect sensor sees in one view."""

    depth: np.ndarray  # (H, W) float64 metres along the optical axis; every pixel hits something
    color: np.ndarray  # (H, W, 3) uint8
    object: np.ndarray  # (H, W) int64, which object; ``room.nyu40[object]`` is the semantic map
    material: np.ndarray  # (H, W) int64, see materials.py; 0 on the shell


@dataclass(frozen=True, eq=False)
class Mesh:
    """The surfaces of a room that can be seen, as labelled triangles."""

    vertices: np.ndarray  # (N, 3) float64, metres
    faces: np.ndarray  # (F, 3) int64
    normals: np.ndarray  # (N, 3) float64, unit, into free space
    colors: np.ndarray  # (N, 3) uint8
    object: np.ndarray  # (N,) int64


class SynthRoom:
    """A furnished room of convex parts with exact depth, labels and instances.

    The world has z up, the floor at z = 0 and the corner of the room at the origin. Layout, labels, depth and poses
    follow from integer draws and elementwise arithmetic, so that they have the same bits everywhere; colours may
    differ in the last place.

    Raises:
        TypeError: ``seed`` is no integer.
        ValueError: ``seed`` is negative.

    >>> room = SynthRoom(seed=3, options=RoomOptions(frames=2, size=(60, 80)))
    >>> room.render(room.camera(), 1).depth.shape
    (60, 80)
    """

    seed: int
    options: RoomOptions
    extent: np.ndarray  # (3,) of the shell
    parts: Parts  # the shell is not among them
    categories: tuple[str, ...]  # per object (O), raw category names as ScanNet's label table has them
    nyu40: np.ndarray  # (O,) int64, NYU40 ids
    scene_type: str
    boxes: np.ndarray  # (O, 7) centre, full sizes, heading about z (ccw): the way its front faces; tight

    def __init__(self, seed: int = 0, options: RoomOptions | None = None):
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"seed must be an integer, got {seed!r}")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        self.seed, self.options = int(seed), options or RoomOptions()
        made = furnish(self.seed, self.options)
        self.extent, self.parts, self.boxes = made.extent, made.parts, made.boxes
        self.categories, self.nyu40, self.scene_type = made.categories, made.nyu40, made.scene_type

    def __repr__(self) -> str:
        return f"SynthRoom({self.scene_type}, seed={self.seed}, {len(self.nyu40)} objects of {len(self.parts)} parts)"

    def camera(self) -> Camera:
        """The depth cameras of a walk through the room, V = ``options.frames``."""
        return walk(self.seed, self.options, self.extent, self.parts, self.boxes)

    def render(self, camera: Camera, view: int) -> Images:
        """One view of any camera that stands inside the room.

        Raises:
            ValueError: the camera is outside of the room.
            IndexError: it has no such view.
        """
        from .paint import paint

        hits, material, intrinsics, pose = self._traced(camera, view)
        points = lifted(hits.z, intrinsics, pose)
        part = hits.part.reshape(-1)
        local, normals, object = surface(self.parts, self.extent, points, part)
        footprint = (hits.z / abs(intrinsics[0, 0])).reshape(-1)  # of a pixel, metres
        color = paint(self, points, part, local, normals, footprint)
        return Images(hits.z, color.reshape(*camera.size, 3), object.reshape(camera.size), material)

    def measured(self, images: Images, camera: Camera, view: int) -> np.ndarray:
        """(H, W) uint16 millimetres: what a sensor makes of one rendered view; 0 where it has no reading.

        With ``options.noise`` and ``options.holes`` off the exact depth, rounded.
        """
        intrinsics = camera.intrinsics[view].detach().double().cpu().numpy()
        return self._measured(images.depth, images.material, intrinsics, len(camera), view)

    def measured_view(self, camera: Camera, view: int) -> np.ndarray:
        """The same of a view that is not rendered, which costs less: nothing is painted."""
        hits, material, intrinsics, _ = self._traced(camera, view)
        return self._measured(hits.z, material, intrinsics, len(camera), view)

    def _traced(self, camera: Camera, view: int) -> tuple[Hits, np.ndarray, np.ndarray, np.ndarray]:
        """What the pixels hit, its material (H, W), intrinsics (3, 3) and ``world_from_camera`` (4, 4)."""
        one = camera[view].to("cpu")
        intrinsics, pose = (of[0].detach().double().numpy() for of in (one.intrinsics, one.world_from_camera))
        hits = trace(self.parts, self.extent, intrinsics, pose, one.size)
        return hits, np.append(self.parts.material, 0)[hits.part], intrinsics, pose  # the shell comes last

    def _measured(
        self, depth: np.ndarray, material: np.ndarray, intrinsics: np.ndarray, views: int, view: int
    ) -> np.ndarray:
        return measured_depth(depth, material, intrinsics, self.seed * views + view, self.options)

    def mesh(self) -> Mesh:
        """The surfaces that can be seen, with a vertex about every ``options.spacing`` metres."""
        from .surface import mesh_of

        return mesh_of(self)


def lifted(z: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(H W, 3) the places in the world that the pixel centres see at depth z (H, W)."""
    x = z * ((np.arange(z.shape[1]) - intrinsics[0, 2]) / intrinsics[0, 0])
    y = z * ((np.arange(z.shape[0]) - intrinsics[1, 2]) / intrinsics[1, 1])[:, None]
    return np.stack([((r[0] * x + r[1] * y) + r[2] * z) + r[3] for r in pose[:3]], axis=-1).reshape(-1, 3)
