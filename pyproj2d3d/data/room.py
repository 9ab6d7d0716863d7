"""What would a perfect sensor see? A furnished room of planes and boxes with exact depth, labels and visibility.

The room is 8 x 6 x 3 m, z up, a corner at the origin, seen from inside, with 12 boxes standing on its floor.
Everything is computed from its planes in float64: nothing is rasterised, so it can say how wrong anything else is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from .paint import lit, paint_surface
from .ply import write_ply

SIZE = (8.0, 6.0, 3.0)  # metres, along x, y and z
BOXES = 12
FOCAL, CENTRE, IMAGE = 577.870605, (319.5, 239.5), (480, 640)
WALL, FLOOR, CABINET, CHAIR, TABLE, BOOKSHELF, CEILING = 1, 2, 3, 5, 7, 10, 22  # NYU40 ids
_ROWS = 48  # of an image that are traced at a time, so that the work stays in cache
_GAP = 0.3  # metres that a camera keeps from walls and boxes
_SEAM = 1e-6  # metres by which a point may lie behind its own face: float32 rounds by 0.24e-6 m at 8 m

_NAMES = {
    "7scenes": {
        "color": "frame-{:06d}.color.png",
        "depth": "frame-{:06d}.depth.png",
        "pose": "frame-{:06d}.pose.txt",
        "label": "frame-{:06d}.label.png",
    },
    "scannet": {"color": "color/{}.jpg", "depth": "depth/{}.png", "pose": "pose/{}.txt", "label": "label/{}.png"},
}
_INTRINSICS = {
    "7scenes": {"color": "camera-intrinsics.txt", "depth": "camera-intrinsics.txt"},
    "scannet": {"color": "intrinsic/intrinsic_color.txt", "depth": "intrinsic/intrinsic_depth.txt"},
}


class Room:
    """A room with its own boxes for every ``seed``.

    Semantic ids are NYU40's, named in ``Room.LABELS``; what a box is follows from its height.

    >>> room = Room(seed=0)
    >>> room.depth(room.cameras(2)).shape
    torch.Size([2, 480, 640])
    """

    LABELS: ClassVar = {
        **{WALL: "wall", FLOOR: "floor", CEILING: "ceiling"},
        **{CHAIR: "chair", TABLE: "table", CABINET: "cabinet", BOOKSHELF: "bookshelf"},
    }

    low: np.ndarray  # (13, 3) lowest corners of the boxes and, last, of the room
    high: np.ndarray  # (13, 3)

    def __init__(self, seed: int = 0):
        random = np.random.default_rng(seed)
        low, high = np.zeros((0, 3)), np.zeros((0, 3))
        while len(low) < BOXES:
            width, depth, height = random.uniform((0.2, 0.2, 0.4), (0.7, 0.7, 1.6))
            x, y = random.uniform((0.05, 0.05), (SIZE[0] - width - 0.05, SIZE[1] - depth - 0.05))
            new_low, new_high = np.array([x, y, 0.0]), np.array([x + width, y + depth, height])
            if not ((new_low < high + 0.05) & (new_high > low - 0.05)).all(axis=1).any():  # at least 5 cm apart
                low, high = np.vstack([low, new_low]), np.vstack([high, new_high])
        self.low, self.high = np.vstack([low, np.zeros(3)]), np.vstack([high, SIZE])
        self._box_labels = np.array([CHAIR, TABLE, CABINET, BOOKSHELF])[np.searchsorted([0.6, 0.9, 1.25], high[:, 2])]

    def points(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Points drawn uniformly by area on all faces that can be seen, exactly on the face.

        Returns:
            points: (n, 3) float64.
            labels: (n,) int64.
            colors: (n, 3) uint8, as the images show them.
        """
        random = np.random.default_rng(seed)
        faces = [(b, axis, upper) for b in range(BOXES + 1) for axis in range(3) for upper in (False, True)]
        body, axis, upper = np.array(
            [f for f in faces if f[0] == BOXES or f[1:] != (2, False)]
        ).T  # a box's bottom is unseen
        extent = (self.high - self.low)[body]  # (faces, 3)
        area = np.where(np.arange(3) == axis[:, None], 1, extent).prod(axis=1)
        place, face = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
        while len(face) < n:
            f = random.choice(len(area), size=n, p=area / area.sum())
            xyz = self.low[body[f]] + random.uniform(size=(n, 3)) * extent[f]
            plane = np.where(upper[f, None], self.high[body[f]], self.low[body[f]])
            xyz = np.where(np.arange(3) == axis[f, None], plane, xyz)
            seen = (xyz[:, 2] > 0) | ~self._under_a_box(xyz)
            place, face = np.concatenate([place, xyz[seen]])[:n], np.concatenate([face, f[seen]])[:n]
        labels, colors = self._surface(place, body[face], axis[face], upper[face].astype(bool))
        return torch.from_numpy(place), torch.from_numpy(labels), torch.from_numpy(colors)

    def cameras(self, n: int, seed: int = 0) -> Camera:
        """n cameras anywhere: 1.1 to 1.8 m high, 30 cm clear of boxes and walls, any yaw, pitch -0.5 to 0.15 rad."""
        random = np.random.default_rng(seed)
        places: list[np.ndarray] = []
        while len(places) < n:
            place = random.uniform((_GAP, _GAP, 1.1), (SIZE[0] - _GAP, SIZE[1] - _GAP, 1.8))
            if not ((place > self.low[:-1] - _GAP) & (place < self.high[:-1] + _GAP)).all(axis=1).any():
                places.append(place)
        yaw, pitch = random.uniform(-math.pi, math.pi, n), random.uniform(-0.5, 0.15, n)
        return _camera(np.array(places).reshape(n, 3), yaw, pitch)

    def path(self, n: int, seed: int = 0) -> Camera:
        """n cameras on a walk once around the room, as if held in a hand, above the boxes and looking inwards."""
        random = np.random.default_rng(seed)
        turn = np.arange(n) / max(n, 1) * 2 * math.pi
        phase = random.uniform(0, 2 * math.pi, (5, 3, 1))
        waves = np.sin(np.array([2, 3, 5])[:, None] * turn + phase)  # (5, 3, n)
        x, y, z, yaw, pitch = 0.5 * waves[:, 0] + 0.3 * waves[:, 1] + 0.2 * waves[:, 2]  # each within -1 and 1
        around = turn + random.uniform(0, 2 * math.pi)
        place = [4 + 2.6 * np.cos(around) + 0.2 * x, 3 + 1.8 * np.sin(around) + 0.2 * y, 1.7 + 0.05 * z]
        across = np.arctan2(3 - place[1], 4 - place[0])
        return _camera(np.stack(place, axis=1), across + 0.35 * yaw, -0.35 + 0.12 * pitch)

    def depth(self, camera: Camera) -> Tensor:
        """(V, H, W) float64: z of what the ray through each pixel's centre hits first; 0 where there is nothing."""
        depth = torch.zeros(len(camera), *camera.size, dtype=torch.float64)
        for v, (intrinsics, pose) in enumerate(_views(camera)):
            depth[v] = torch.from_numpy(self._traced(intrinsics, pose, camera.size)[0])
        return depth

    def render(self, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """Depth as :meth:`depth`; labels (V, H, W) int64, -1 where there is nothing; colours (V, H, W, 3) uint8."""
        depth = torch.zeros(len(camera), *camera.size, dtype=torch.float64)
        labels = torch.full(depth.shape, -1)
        colors = torch.zeros(*depth.shape, 3, dtype=torch.uint8)
        for v, (intrinsics, pose) in enumerate(_views(camera)):
            z, body = self._traced(intrinsics, pose, camera.size)
            seen = body >= 0
            row, column = seen.nonzero()
            ray = np.stack(
                [(column - intrinsics[0, 2]) / intrinsics[0, 0], (row - intrinsics[1, 2]) / intrinsics[1, 1]]
            )
            xyz = (pose[:3, :2] @ ray + pose[:3, 2:3]).T * z[seen][:, None] + pose[:3, 3]
            surface = self._surface(xyz, body[seen], *self._face(xyz, body[seen]))
            depth[v] = torch.from_numpy(z)
            labels[v][torch.from_numpy(seen)], colors[v][torch.from_numpy(seen)] = map(torch.from_numpy, surface)
        return depth, labels, colors

    def visible(self, points: Tensor, camera: Camera) -> Tensor:
        """(V, N) bool, the truth: the nearest pixel is in the frame, the point in front, nothing on the way to it."""
        xyz = points.detach().cpu().double().numpy()
        height, width = camera.size
        visible = np.zeros((len(camera), len(xyz)), dtype=bool)
        for v, (intrinsics, pose) in enumerate(_views(camera)):
            x, y, z = np.linalg.inv(pose)[:3] @ np.vstack([xyz.T, np.ones(len(xyz))])
            with np.errstate(divide="ignore", invalid="ignore"):
                column = np.floor(intrinsics[0, 0] * x / z + intrinsics[0, 2] + 0.5)
                row = np.floor(intrinsics[1, 1] * y / z + intrinsics[1, 2] + 0.5)
            seen = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            seen[seen] = ~self._blocked(pose[:3, 3], xyz[seen])
            visible[v] = seen
        return torch.from_numpy(visible)

    def mesh(self) -> tuple[Tensor, Tensor]:
        """Vertices (104, 3) float64 and triangles (156, 3) int64 of the boxes and the room."""
        upper = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=bool)
        vertices = np.where(upper, self.high[:, None], self.low[:, None]).reshape(-1, 3)
        quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])  # of one body
        faces = (8 * np.arange(BOXES + 1)[:, None, None] + triangles).reshape(-1, 3)
        return torch.from_numpy(vertices), torch.from_numpy(faces)

    def _traced(self, intrinsics: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """z and the body of the first hit of every pixel, (H, W); 0 and -1 where there is none."""
        height, width = size
        across = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
        down = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
        right, below, ahead = pose[:3, :3].T[:, :, None, None]
        z, body = np.full(size, np.inf), np.full(size, -1)
        for top in range(0, height, _ROWS):
            rows = slice(top, top + _ROWS)
            rays = (
                right * across + below * down[rows, None] + ahead
            )  # (3, rows, W), whose z is 1 along the optical axis
            for b, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
                near, far = _slabs(low, high, pose[:3, 3], rays)
                hit = np.where(near > 0, near, far)  # from inside a body its far side is seen
                first = (near <= far) & (hit > 0) & (hit < z[rows])
                z[rows][first], body[rows][first] = hit[first], b
        return np.where(body < 0, 0, z), body

    def _blocked(self, origin: np.ndarray, xyz: np.ndarray) -> np.ndarray:
        """(n,) does the way from ``origin`` to each place cross a surface before it is there?"""
        blocked = np.zeros(len(xyz), dtype=bool)
        rays = (xyz - origin).T
        for b, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            inwards = (
                -_SEAM if b == BOXES else _SEAM
            )  # boxes a little smaller, the room larger: nothing hides its own points
            near, far = _slabs(low + inwards, high - inwards, origin, rays)
            blocked |= (near < far) & (((near > 0) & (near < 1)) | ((far > 0) & (far < 1)))
        return blocked

    def _under_a_box(self, xyz: np.ndarray) -> np.ndarray:
        x, y = xyz[:, 0, None], xyz[:, 1, None]
        (x0, y0, _), (x1, y1, _) = self.low[:-1].T, self.high[:-1].T
        return ((x > x0) & (x < x1) & (y > y0) & (y < y1)).any(axis=1)

    def _face(self, xyz: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The axis of the face of its body that each place is on, and whether it is that of higher coordinates."""
        to_low, to_high = np.abs(xyz - self.low[body]), np.abs(xyz - self.high[body])
        upper = to_high < to_low  # (n, 3)
        axis = np.minimum(to_low, to_high).argmin(axis=1)
        return axis, upper[np.arange(len(xyz)), axis]

    def _surface(
        self, xyz: np.ndarray, body: np.ndarray, axis: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) int64 and colours (n, 3) uint8 of places on the faces of bodies."""
        of_room = np.where(axis < 2, WALL, np.where(upper, CEILING, FLOOR))
        labels = np.where(body == BOXES, of_room, np.append(self._box_labels, 0)[body])
        outward = np.where(upper, 1.0, -1.0) * np.where(body == BOXES, -1.0, 1.0)  # the room is seen from inside
        normal = np.where(np.arange(3) == axis[:, None], outward[:, None], 0.0)
        colors = np.zeros(xyz.shape)
        for label, kind in self.LABELS.items():
            of = labels == label
            colors[of] = paint_surface(xyz[of], kind, axis[of], upper[of], body[of])
        return labels, lit(colors, xyz, normal)


def write_room(
    path: str | os.PathLike[str],
    *,
    frames: int = 24,
    seed: int = 0,
    points: int = 200_000,
    noise: float = 0.0,
    layout: str = "7scenes",
    size: tuple[int, int] = IMAGE,
) -> None:
    """A walk through a room and its point cloud, as a folder that :func:`read_posed_folder` reads.

    Args:
        path: the folder; made where there is none, otherwise it must be empty.
        frames: how many; the camera is ``Room(seed).path(frames, seed)``, resized to ``size``.
        points: how many there are in ``points.ply``; 0 leaves the file out.
        noise: the standard deviation of depth is noise * z^2, as a structured-light sensor's; a Kinect's is 0.003.
        layout: "7scenes", or "scannet": with colour and labels of a larger size than depth, as ScanNet's are.
        size: of the depth images, (H, W).

    Depth is in millimetres. In ScanNet's layout colour is JPEG, and so not exact.

    Raises:
        ValueError: an unknown layout.
        FileExistsError: the folder is not empty.
    """
    if layout not in _NAMES:
        raise ValueError(f'layout must be "7scenes" or "scannet", got {layout!r}')
    folder, room, random = Path(path), Room(seed), np.random.default_rng(seed)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: must be empty or not there yet, so that two scenes do not mix")
    camera = color_camera = room.path(frames, seed).resized(size)
    if layout == "scannet":
        color_camera = camera.resized((2 * size[0] + 8, 2 * size[1] + 16))  # 968 x 1296 for 480 x 640
    for name in (*_NAMES[layout].values(), *_INTRINSICS[layout].values()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for i in range(frames):
        file = {kind: folder / name.format(i) for kind, name in _NAMES[layout].items()}
        depth, labels, colors = room.render(camera[i])
        if layout == "scannet":
            _, labels, colors = room.render(color_camera[i])
        z = depth[0].numpy()
        z = z + random.standard_normal(z.shape) * noise * z**2
        _write_image(file["depth"], (1000 * z).round().clip(0, 65534).astype(np.uint16))
        _write_image(file["color"], colors[0].numpy())
        _write_image(file["label"], labels[0].clamp(min=0).numpy().astype(np.uint8))
        _write_matrix(file["pose"], camera.world_from_camera[i])
    for kind, of in (("depth", camera), ("color", color_camera)):
        _write_matrix(folder / _INTRINSICS[layout][kind], of.intrinsics[0])
    if points:
        xyz, ids, rgb = room.points(points, seed)
        write_ply(folder / "points.ply", xyz.numpy(), rgb.numpy(), ids.numpy())


def _write_image(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, quality=95)  # which only JPEG minds


def _write_matrix(path: Path, matrix: Tensor) -> None:
    """As text that reads back to the same bits."""
    path.write_text("".join(" ".join(map(repr, row)) + "\n" for row in matrix.tolist()))


def _camera(place: np.ndarray, yaw: np.ndarray, pitch: np.ndarray) -> Camera:
    """Upright cameras at places (n, 3); yaw of the optical axis is about z and from x, pitch is positive upwards."""
    ahead = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], axis=1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=1)
    pose = np.tile(np.eye(4), (len(place), 1, 1))
    pose[:, :3] = np.stack([right, np.cross(ahead, right), ahead, place], axis=2)
    intrinsics = torch.tensor([[FOCAL, 0, CENTRE[0]], [0, FOCAL, CENTRE[1]], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, torch.from_numpy(pose), IMAGE)


def _views(camera: Camera) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Intrinsics and pose of each view, float64."""
    one = camera.to("cpu").to(torch.float64)
    return zip(one.intrinsics.detach().numpy(), one.world_from_camera.detach().numpy(), strict=True)


def _slabs(low: np.ndarray, high: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays (3, ...) enter and leave a box, in multiples of the ray; they miss it where near > far."""
    near, far = np.full(rays.shape[1:], -np.inf), np.full(rays.shape[1:], np.inf)
    for axis in range(3):
        inverse = 1 / np.where(rays[axis] == 0, 1e-300, rays[axis])  # a ray along a face's plane counts as inside it
        a, b = (low[axis] - origin[axis]) * inverse, (high[axis] - origin[axis]) * inverse
        np.maximum(near, np.minimum(a, b), out=near)
        np.minimum(far, np.maximum(a, b), out=far)
    return near, far
