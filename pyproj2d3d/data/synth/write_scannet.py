"""How does ScanNet v2 keep a scene? A recording, a mesh with labels, segments and objects, and label images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...camera import Camera
from ...ops.superpoints import superpoints
from ..graph import vertex_normals
from ..nyu40 import NYU40
from ..ply import write_mesh_ply
from ..scannet_labels import LABEL_MAP
from ..sens import write_sens
from .files import number_within, write_image, write_matrix
from .furniture_scenes import NYU40_OF_NAME
from .options import RoomOptions
from .room import SynthRoom
from .split import is_validation

# Of scannetv2-labels.combined.tsv: ScanNet's own id of each raw category that rooms have.
SCANNET_IDS = {
    **{"wall": 1, "chair": 2, "floor": 3, "table": 4, "door": 5, "couch": 6, "cabinet": 7, "shelf": 8, "desk": 9},
    **{"office chair": 10, "bed": 11, "pillow": 13, "sink": 14, "picture": 15, "window": 16, "toilet": 17},
    **{"bookshelf": 18, "monitor": 19, "curtain": 21, "books": 22, "armchair": 23, "coffee table": 24, "box": 26},
    **{"refrigerator": 27, "lamp": 28, "kitchen cabinet": 29, "towel": 31, "clothes": 32, "tv": 33, "nightstand": 34},
    **{"counter": 35, "bottle": 65, "laptop": 77, "paper": 79, "cup": 130},
    **{"dresser": 36, "stool": 38, "plant": 40, "ceiling": 41, "bathtub": 42, "end table": 44, "keyboard": 46},
    **{"bag": 47, "backpack": 48, "tv stand": 51, "whiteboard": 52, "shower curtain": 55, "trash can": 56},
    **{"microwave": 59, "stove": 62, "ottoman": 67, "bench": 68, "mirror": 71, "file cabinet": 75, "blinds": 86},
    **{"radiator": 96, "wardrobe closet": 99, "light": 105, "mat": 140, "bathroom vanity": 1164},
}
# From scene tags to the scene types of ScanNet (scene_types.txt of its benchmark); others are "Misc.".
SCENE_TYPES = {
    **{"bedroom": "Bedroom / Hotel", "living room": "Living room / Lounge", "kitchen": "Kitchen", "office": "Office"},
    **{"bathroom": "Bathroom", "dining room": "Dining Room", "library": "Bookstore / Library"},
    **{"conference room": "Conference Room", "apartment": "Apartment"},
}
# Cosine and sine of the turn from the world of the poses to the room; they have few digits and length 1.
_TURNS = ((0.96, 0.28), (0.8, -0.6), (0.936, 0.352), (0.8, 0.6), (0.96, -0.28), (0.936, -0.352))
_COLUMNS = (
    *("id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyuClass", "nyu40class", "eigen13class"),
    *("ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid", "wnsynsetkey"),
    *("mpcat40", "mpcat40index"),
)
_VERTEX = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), *((name, "u1") for name in ("red", "green", "blue", "alpha"))]
_INTRINSICS = {
    "export": ("intrinsic/intrinsic_depth.txt", "intrinsic/intrinsic_color.txt"),
    "frames_25k": ("intrinsics_depth.txt", "intrinsics_color.txt"),
}


_MOST = 1_000_000


def check(scenes: int, options: RoomOptions) -> None:
    """Raises ValueError where so many rooms, or such ones, cannot be written; before any is made."""
    if scenes > _MOST:
        raise ValueError(f"scenes must be at most {_MOST:,}, scene names have six digits, got {scenes}")


def scene_name(number: int) -> str:
    """Four digits and two, as ScanNet's names have them: the 10,000th room is another scan of the place of the first.

    Raises:
        ValueError: a million rooms or more.
    """
    if not 0 <= number < _MOST:
        raise ValueError(f"number must be from 0 to 999,999, scene names have six digits, got {number}")
    return f"scene{number % 10_000:04d}_{number // 10_000:02d}"


def aligned_from_world(room: SynthRoom, number: int) -> np.ndarray:
    """(4, 4): the world of the poses has its origin in the middle of the floor and is turned about z, differently in
    every scene; aligned is what the room calls its coordinates. The numbers have three decimals."""
    cos, sin = _TURNS[number % len(_TURNS)]
    matrix = np.eye(4)
    matrix[:2, :2] = [[cos, -sin], [sin, cos]]
    matrix[:2, 3] = np.round(room.extent[:2] / 2, 3)
    return matrix


def world_from_camera(room: SynthRoom, number: int, pose: np.ndarray) -> np.ndarray:
    """(4, 4): a camera of the room in the world of the scene, to nine decimals."""
    aligned = aligned_from_world(room, number)
    world = np.eye(4)
    world[:3] = _turned_back(aligned, pose[:3])
    world[:3, 3] = _turned_back(aligned, pose[:3, 3] - aligned[:3, 3])
    return world.round(9)


def _turned_back(aligned: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The transposed 3x3 part times (3, ...), elementwise, so that the bits are the same everywhere."""
    turn = aligned[:3, :3]
    return np.stack([(turn[0, i] * rows[0] + turn[1, i] * rows[1]) + turn[2, i] * rows[2] for i in range(3)])


def write(root: Path, room: SynthRoom, number: int, *, frames: str = "sens") -> None:
    """A room as ``scans/SCENE/``, as downloaded and with its archives of label images unpacked.

    Colour is larger than depth, as in ScanNet. Segments are superpoints with the parameters of ScanNet's, cut where
    objects meet, so that labels and instances are exact. ``frames``: "sens"; "export": a folder of images instead;
    "frames_25k": images and 8-bit labels in ``scannet_frames_25k/SCENE/`` instead.

    Raises:
        ValueError: another kind of ``frames``, or more rooms or objects than ScanNet's names and images have room for.
    """
    if frames not in ("sens", *_INTRINSICS):
        raise ValueError(f'frames must be "sens", "export" or "frames_25k", got {frames!r}')
    if len(room.nyu40) > 254:
        raise ValueError(f"room must have at most 254 objects, instances have 8 bits, got {len(room.nyu40)}")
    name = scene_name(number)
    folder = root / "scans" / name
    folder.mkdir(parents=True)
    camera = room.camera()
    height, width = camera.size
    color_camera = camera.resized((2 * height + 8, 2 * width + 16))  # 968 x 1296 for 480 x 640
    _write_mesh(folder, name, room, number)
    _write_info(folder / f"{name}.txt", room, number, camera, color_camera)
    views = _views(room, number, camera, color_camera)
    if frames == "sens":
        label, instance = folder / "label-filt", folder / "instance-filt"
        label.mkdir()
        instance.mkdir()
        if len(camera):
            write_sens(
                folder / f"{name}.sens",
                (_with_labels(view, label, instance, room) for view in views),
                color_intrinsics=color_camera.intrinsics[0].numpy(),
                depth_intrinsics=camera.intrinsics[0].numpy(),
                color_size=color_camera.size,
                depth_size=camera.size,
            )
        return
    place = folder if frames == "export" else root / "scannet_frames_25k" / name
    _write_images(place, views, room, frames)
    if not len(camera):
        return
    for path, of in zip(_INTRINSICS[frames], (camera, color_camera), strict=True):
        matrix = np.eye(4)
        matrix[:3, :3] = of.intrinsics[0].numpy()
        (place / path).parent.mkdir(exist_ok=True)
        write_matrix(place / path, matrix)


def finish(root: Path, scenes: int) -> None:
    """What the scenes share: the label map, and the lists of the splits."""
    lines = ["\t".join(_COLUMNS)]
    for name, own in sorted(SCANNET_IDS.items(), key=lambda item: item[1]):
        nyu40 = NYU40_OF_NAME[name]
        row = {"id": own, "raw_category": name, "category": name, "count": 0, "nyu40id": nyu40}
        row["nyu40class"] = NYU40[nyu40 - 1]
        lines.append("\t".join(str(row.get(column, "")) for column in _COLUMNS))
    (root / LABEL_MAP).write_text("\n".join([*lines, ""]))
    for split, wanted in (("train", False), ("val", True)):
        names = sorted(scene_name(i) for i in range(scenes) if is_validation(i) == wanted)
        (root / f"scannetv2_{split}.txt").write_text("".join(f"{name}\n" for name in names))


@dataclass(frozen=True, eq=False)
class _View:
    name: str
    pose: np.ndarray  # (4, 4), in the world of the scene
    color: np.ndarray
    depth: np.ndarray  # uint16 millimetres
    object: np.ndarray  # of the colour image


def _views(room: SynthRoom, number: int, camera: Camera, color_camera: Camera) -> Iterator[_View]:
    for i in range(len(camera)):
        pose = world_from_camera(room, number, camera.world_from_camera[i].numpy())
        seen = room.render(color_camera, i)
        yield _View(str(i), pose, seen.color, room.measured_view(camera, i), seen.object)


def _with_labels(
    view: _View, label: Path, instance: Path, room: SynthRoom
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What goes into the recording; the label images are written on the way, as the released archives have them."""
    ids = np.array([SCANNET_IDS[name] for name in room.categories], np.uint16)
    write_image(label / f"{view.name}.png", ids[view.object])
    write_image(instance / f"{view.name}.png", (view.object + 1).astype(np.uint8))
    return view.pose, view.color, view.depth


def _write_images(folder: Path, views: Iterator[_View], room: SynthRoom, kind: str) -> None:
    subset = kind == "frames_25k"
    label, instance = ("label", "instance") if subset else ("label-filt", "instance-filt")
    for name in ("color", "depth", "pose", label, instance):
        (folder / name).mkdir(parents=True)
    no_object = np.isin(room.nyu40, (1, 2, 22))  # walls, floors and ceilings
    counted = 1000 * room.nyu40 + np.where(no_object, 0, number_within(room.nyu40.tolist()))
    for view in views:
        stem = f"{int(view.name):06d}" if subset else view.name
        write_image(folder / "color" / f"{stem}.jpg", view.color)
        write_image(folder / "depth" / f"{stem}.png", view.depth)
        write_matrix(folder / "pose" / f"{stem}.txt", view.pose)
        if subset:
            write_image(folder / label / f"{stem}.png", room.nyu40[view.object].astype(np.uint8))
            write_image(folder / instance / f"{stem}.png", counted[view.object].astype(np.uint16))
        else:
            _with_labels(view, folder / label, folder / instance, room)


def _write_mesh(folder: Path, name: str, room: SynthRoom, number: int) -> None:
    mesh, aligned = room.mesh(), aligned_from_world(room, number)
    world = _turned_back(aligned, (mesh.vertices - aligned[:3, 3]).T)
    vertices = np.empty(len(mesh.vertices), _VERTEX)
    for axis, values in zip("xyz", world, strict=True):
        vertices[axis] = values
    for channel, values in zip(("red", "green", "blue"), mesh.colors.T, strict=True):
        vertices[channel] = values
    vertices["alpha"] = 255
    write_mesh_ply(folder / f"{name}_vh_clean_2.ply", vertices, mesh.faces)

    labels = np.empty(len(vertices), [*_VERTEX, ("label", "<u2")])
    for field in vertices.dtype.names or ():
        labels[field] = vertices[field]
    labels["label"] = room.nyu40[mesh.object]
    for channel, step in (("red", 67), ("green", 101), ("blue", 151)):  # a colour for each id
        labels[channel] = labels["label"] * step % 256
    write_mesh_ply(folder / f"{name}_vh_clean_2.labels.ply", labels, mesh.faces)

    points, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    sides = faces[:, [0, 1, 0, 2, 2, 1]].reshape(-1, 2)  # as ScanNet's Segmentator has them, see mesh_edges
    flat = superpoints(points, vertex_normals(points, faces, mean=True), sides, k=0.01, min_size=20)
    _, first, segment = np.unique(
        flat.numpy() * len(room.nyu40) + mesh.object, return_index=True, return_inverse=True
    )  # a segment goes by its first vertex, so ids have gaps, as ScanNet's have
    segments = f"{name}_vh_clean_2.0.010000.segs.json"
    params = {"kThresh": "0.01", "segMinVerts": "20", "colorWeight": "0", "maxPoints": "0"}
    _write_json(folder / segments, {"params": params, "sceneId": name, "segIndices": first[segment].tolist()})
    groups = []
    for i, category in enumerate(room.categories):
        held = first[mesh.object[first] == i].tolist()
        if held:
            groups.append({"id": i, "objectId": i, "segments": held, "label": category})
    aggregation = {"sceneId": f"scannet.{name}", "appId": "pyproj2d3d", "segGroups": groups}
    _write_json(folder / f"{name}.aggregation.json", {**aggregation, "segmentsFile": f"scannet.{segments}"})


def _write_info(path: Path, room: SynthRoom, number: int, camera: Camera, color_camera: Camera) -> None:
    info: dict[str, Any] = {"axisAlignment": aligned_from_world(room, number)}
    for kind, of in (("color", color_camera), ("depth", camera)):
        info[f"{kind}Height"], info[f"{kind}Width"] = of.size
        if len(of):
            (fx, _, mx), (_, fy, my), _ = of.intrinsics[0].tolist()
            info |= {f"fx_{kind}": fx, f"fy_{kind}": fy, f"mx_{kind}": mx, f"my_{kind}": my}
        info[f"num{kind.title()}Frames"] = len(of)
    info |= {"colorToDepthExtrinsics": np.eye(4), "numIMUmeasurements": 0}
    info["sceneType"] = SCENE_TYPES.get(room.scene_type, "Misc.")
    path.write_text("".join(f"{key} = {_worded(info[key])}\n" for key in sorted(info)))


def _worded(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return " ".join(f"{number:.6f}" for number in value.ravel().tolist())
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value))
