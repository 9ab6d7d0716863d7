"""How does S3DIS keep a room? Its points as text, an object per file, and beside them the images of 2D-3D-S."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from ...camera import Camera
from ..s3dis import IMAGES, TEST_AREA
from ..stanford2d3ds import CLASSES, area_folders, labels_file
from .files import number_within, write_image
from .options import RoomOptions
from .room import Images, SynthRoom
from .split import is_validation

CLASS_OF_NYU40 = {
    **{1: "wall", 2: "floor", 22: "ceiling", 8: "door", 9: "window"},
    **{7: "table", 14: "table", 5: "chair", 6: "sofa", 10: "bookcase", 15: "bookcase", 30: "board"},
}  # desks are tables and shelves bookcases; whatever else there is, cabinets and beds too, is clutter
ROOM_TYPES = {
    **{"office": "office", "conference room": "conferenceRoom", "hallway": "hallway", "lobby": "lobby"},
    **{"bathroom": "WC", "kitchen": "pantry", "living room": "lounge", "classroom": "auditorium"},
}  # from scene tags to the types of rooms of S3DIS; any other room is an office
BLOCK = 256  # indices of semantic_labels.json for the objects of one room
MAX_ROOMS = 3341  # the next one's block would hold the colour of missing pixels
_NO_OBJECT = "<UNK>_0_<UNK>_0_0"


def room_name(number: int, scene_type: str) -> tuple[int, str]:
    """The area of a room and what it is called there.

    Every fifth room, from number 4 on, is in Area 5, which is the validation split; the others are spread over the
    other areas. The number behind the type is counted over all types of an area.
    """
    if is_validation(number):
        area, place = TEST_AREA, number // 5
    else:
        before = number - number // 5
        area, place = (1, 2, 3, 4, 6)[before % 5], before // 5
    return area, f"{ROOM_TYPES.get(scene_type, 'office')}_{place + 1}"


def check(scenes: int, options: RoomOptions) -> None:
    """Raises ValueError where so many rooms, or such ones, cannot be written; before any is made."""
    if scenes > MAX_ROOMS:
        raise ValueError(
            f"scenes must be at most {MAX_ROOMS}, there is no more room in 2D-3D-S's colours, got {scenes}"
        )


def write(out: Path, room: SynthRoom, number: int) -> None:
    """A room as ``Area_N/TYPE_M/``, as in Stanford3dDataset_v1.2, and its views below ``2D-3D-S/area_N/data/``.

    ``semantic_labels.json`` is written by :func:`finish`, but which index an object has there follows from ``number``.
    An object that has no vertex has no annotation file, and its pixels no label. ``semantic_pretty``, ``normal``,
    ``global_xyz``, ``pano`` and ``3d`` are not written. Each room is in a world of its own: those of an area overlap.

    Raises:
        ValueError: there are more rooms, or more objects in the room, than indices.
    """
    check(number + 1, room.options)
    area, name = room_name(number, room.scene_type)
    place = _write_points(out / f"Area_{area}" / name, room)
    index = np.where(place < 0, 0, 1 + BLOCK * number + place)
    _write_views(area_folders(out / IMAGES, area)[0], room, area, name, index)


def finish(out: Path, scenes: int) -> None:
    """What the rooms share: ``semantic_labels.json``, and the angles of their alignment, all 0."""
    labels = [_NO_OBJECT] * (1 + BLOCK * scenes)
    rooms: dict[int, list[str]] = {}
    for number in range(scenes):
        area, any_type = room_name(number, "")
        (folder,) = (out / f"Area_{area}").glob(f"*_{any_type.partition('_')[2]}")
        rooms.setdefault(area, []).append(folder.name)
        objects = sorted(path.name for path in (folder / "Annotations").iterdir())
        first = 1 + BLOCK * number
        labels[first : first + len(objects)] = [f"{o.removesuffix('.txt')}_{folder.name}_{area}" for o in objects]
    path = labels_file(out / IMAGES)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(labels))
    for area, names in rooms.items():
        lines = [f"## Global alignment angle per disjoint space in Area_{area} ##"]
        lines += ["## Disjoint Space Name Global Alignment Angle ##", *(f"{name} 0" for name in names)]
        (out / f"Area_{area}" / f"Area_{area}_alignmentAngle.txt").write_text("\n".join([*lines, ""]))


def _write_points(folder: Path, room: SynthRoom) -> np.ndarray:
    """The text files; (O,) int64, the place of each object's file among the sorted ones, -1 where it has none."""
    mesh = room.mesh()
    table = zip(mesh.vertices.astype(np.float32).tolist(), mesh.colors.tolist(), strict=True)
    lines = [b"%.9g %.9g %.9g %d %d %d\n" % (*point, *color) for point, color in table]  # 9 digits keep a float32
    annotations = folder / "Annotations"
    annotations.mkdir(parents=True)
    (folder / f"{folder.name}.txt").write_bytes(b"".join(lines))
    vertices = np.argsort(mesh.object, kind="stable")  # of one object after the other
    ends = np.searchsorted(mesh.object[vertices], np.arange(len(room.nyu40) + 1))
    with_points = np.flatnonzero(ends[1:] > ends[:-1]).tolist()
    kinds = [CLASS_OF_NYU40.get(int(room.nyu40[i]), CLASSES[-1]) for i in with_points]
    files: dict[str, int] = {}
    for i, kind, number in zip(with_points, kinds, number_within(kinds), strict=True):
        file = f"{kind}_{number}.txt"
        (annotations / file).write_bytes(b"".join(lines[v] for v in vertices[ends[i] : ends[i + 1]].tolist()))
        files[file] = i
    if len(files) > BLOCK:
        raise ValueError(f"room must have at most {BLOCK} objects, got {len(files)}")
    place = np.full(len(room.nyu40), -1, dtype=np.int64)
    for at, file in enumerate(sorted(files)):
        place[files[file]] = at
    return place


def _write_views(data: Path, room: SynthRoom, area: int, name: str, index: np.ndarray) -> None:
    """The four images or files of each view. The cameras are called by room and view, so that they sort in order."""
    camera = room.camera()
    prefix = hashlib.md5(f"{area} {name}".encode(), usedforsecurity=False).hexdigest()[:24]
    for kind in ("rgb", "depth", "pose", "semantic"):
        (data / kind).mkdir(parents=True, exist_ok=True)
    for view in range(len(camera)):
        seen = room.render(camera, view)
        intrinsics, pose = camera.intrinsics[view].numpy(), camera.world_from_camera[view].numpy()
        uuid = f"{prefix}{view:08x}"
        stem = f"camera_{uuid}_{name}_frame_0_domain"
        labels = index[seen.object]
        color = np.stack([labels >> 16, labels >> 8 & 255, labels & 255], axis=-1).astype(np.uint8)
        depth = _depth(room, seen, camera, view)
        for kind, pixels in (("rgb", seen.color), ("depth", depth), ("semantic", color)):
            write_image(data / kind / f"{stem}_{kind}.png", pixels)
        camera_json = _camera_json(intrinsics, pose, uuid, f"{name}_{area}")
        (data / "pose" / f"{stem}_pose.json").write_text(json.dumps(camera_json))


def _depth(room: SynthRoom, seen: Images, camera: Camera, view: int) -> np.ndarray:
    """(H, W) uint16 in 1/512 m, 65535 where there is none. Only a sensor goes by way of millimetres."""
    if not (room.options.noise or room.options.holes):
        return np.floor(512 * seen.depth + 0.5).astype(np.uint16)
    millimetres = room.measured(seen, camera, view).astype(np.int64)
    return np.where(millimetres == 0, 65535, (millimetres * 512 + 500) // 1000).astype(np.uint16)


def _camera_json(intrinsics: np.ndarray, pose: np.ndarray, uuid: str, room: str) -> dict[str, object]:
    """What a file of ``pose/`` holds. The Euler angles are of Blender's camera, whose y is up and whose z is behind."""
    rotation, place = pose[:3, :3], pose[:3, 3]
    shift = -((rotation[0] * place[0] + rotation[1] * place[1]) + rotation[2] * place[2])  # -R^T c
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
    blender = rotation * [1, -1, -1]
    euler = [
        math.atan2(blender[2, 1], blender[2, 2]),
        -math.asin(min(max(blender[2, 0], -1), 1)),
        math.atan2(blender[1, 0], blender[0, 0]),
    ]
    return {
        "camera_k_matrix": [[fx, 0.0, cx + 0.5], [0.0, fy, cy + 0.5], [0.0, 0.0, 1.0]],
        "field_of_view_rads": 2 * math.atan((cx + 0.5) / fx),
        "camera_original_rotation": euler,
        "rotation_from_original_to_point": [0.0, 0.0, 0.0],
        "point_uuid": uuid,
        "camera_location": place.tolist(),
        "frame_num": 0,
        "camera_rt_matrix": np.column_stack([rotation.T, shift]).tolist(),
        "final_camera_rotation": euler,
        "camera_uuid": uuid,
        "room": room,
    }
