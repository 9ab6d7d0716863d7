"""How do rooms become SUN RGB-D? A folder per image of four sensors, and the toolbox's metadata."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...camera import Camera
from ..images import ENCODINGS, encoded_depth
from ..mat import create_mat73, write_mat
from ..sunrgbd import CLASSES, SENSORS, UPRIGHT_FROM_CAMERA
from .files import matlab_cell, number_within, write_image
from .options import RoomOptions
from .parts import CEILING, FLOOR, WALLS
from .room import SynthRoom
from .split import is_validation

_SIZES = {"kv1": (427, 561), "kv2": (530, 730), "realsense": (531, 681), "xtion": (441, 591)}  # of the dataset
_PRINCETON = "/n/fs/sun3d/data/SUNRGBD/"
_FROM_ONE = np.array([[0.0, 0, 1], [0, 0, 1], [0, 0, 0]])  # to intrinsics that count pixels from 1
_LEAST = 1000  # an object is annotated where it fills one of so many pixels


def check(scenes: int, options: RoomOptions) -> None:
    """Raises ValueError where so many rooms, or such ones, cannot be written; before any is made."""
    if not options.frames:
        raise ValueError("frames must be 1 or more, a scene of SUN RGB-D is one, got 0")


def write(root: Path, room: SynthRoom, number: int) -> None:
    """The images of one room, each in a folder as SUN RGB-D has it, and a file for :func:`finish`.

    The rooms take turns with the sensors. A sensor's images are larger or smaller than the options say by as much as
    the dataset's are larger or smaller than 640x480. ``depth`` is what the sensor measured, ``depth_bfx`` the same with
    its holes filled. Of the camera's pose only the tilt is kept, by the smallest turn that makes it upright. A box is
    annotated where its object fills a thousandth of the image; ``annotation2Dfinal``, ``annotation3Dlayout`` and
    ``fullres`` are not written.

    ``seg.mat`` has the raw categories of the room, of kv1 as NYU's images have it: a name per category and
    ``seginstances``; of the others a name per object.

    Raises:
        ValueError: a room without frames.
    """
    check(number + 1, room.options)
    sensor = SENSORS[number % len(SENSORS)]
    camera, matlab = _camera_of(room, sensor)
    class_of = np.where(room.nyu40 <= len(CLASSES), room.nyu40, 0)
    names = [CLASSES[c - 1] if c else room.categories[o].replace(" ", "_") for o, c in enumerate(class_of)]
    files, segmentation, tilts, counts, kept, boxes = [], [], [], [], [], []
    for view in range(len(camera)):
        folder, stem = _place_of(sensor, number, view)
        place, images, pose = root / folder, room.render(camera, view), camera.world_from_camera[view].numpy()
        measured = room.measured(images, camera, view)
        exact = np.floor(1000 * images.depth + 0.5).astype(np.uint16)
        tilt = _tilt_of(pose[:3, :3])
        stored = np.round(UPRIGHT_FROM_CAMERA.T @ tilt @ UPRIGHT_FROM_CAMERA, 6) + 0.0  # no -0
        pixels = np.bincount(images.object.ravel(), minlength=len(names))
        pixels[[FLOOR, WALLS, CEILING]] = 0
        seen = np.flatnonzero(_LEAST * pixels >= images.object.size)
        upright = [_upright_box(room.boxes[o], pose, tilt) for o in seen]

        for inner in ("image", "depth", "depth_bfx", "extrinsics", "annotation3Dfinal"):
            (place / inner).mkdir(parents=True)
        for inner, depth in (("depth", measured), ("depth_bfx", np.where(measured == 0, exact, measured))):
            write_image(place / inner / f"{stem}.png", encoded_depth(depth, ENCODINGS["sunrgbd"]))
        write_image(place / "image" / f"{stem}.jpg", images.color, quality=95)
        _write_numbers(place / "extrinsics" / "20150101000000.txt", np.pad(stored, ((0, 0), (0, 1))))
        _write_numbers(place / "intrinsics.txt", matlab)
        (place / "scene.txt").write_text(room.scene_type.replace(" ", "_"))
        annotation = [_annotated(names[o], box) for o, box in zip(seen, upright, strict=True)]
        (place / "annotation3Dfinal" / "index.json").write_text(json.dumps({"name": folder, "objects": annotation}))
        write_mat(place / "seg.mat", _seg_of(room, images.object, sensor))

        files.append((folder, stem))
        segmentation.append(class_of[images.object])
        tilts.append(UPRIGHT_FROM_CAMERA @ stored @ UPRIGHT_FROM_CAMERA.T)
        counts.append(len(seen))
        kept += [names[o] for o in seen]
        boxes += [[*box, *_flat_box(images.object == o)] for o, box in zip(seen, upright, strict=True)]
    np.savez(
        part_of(root, number),
        files=np.array(files),
        segmentation=np.array(segmentation, dtype=np.uint8),
        tilt=np.array(tilts),
        intrinsics=matlab,
        count=np.array(counts),
        name=np.array(kept, dtype=str),
        box=np.array(boxes, dtype=np.float64).reshape(-1, 11),
    )


def finish(root: Path, scenes: int) -> None:
    """``SUNRGBDMeta3DBB_v2.mat`` and, below ``SUNRGBDtoolbox/``, the split and the 37 classes of all images.

    Every fifth room is in the test split. Images are in the toolbox's order: those of the test split come first.
    """
    numbers = sorted(range(scenes), key=lambda number: not is_validation(number))
    records: list[dict[str, Any]] = []
    rows: list[Any] = []
    tests = 0
    toolbox = root / "SUNRGBDtoolbox"
    (toolbox / "Metadata").mkdir(parents=True)
    (toolbox / "traintestSUNRGBD").mkdir()
    with create_mat73(toolbox / "Metadata" / "SUNRGBD2Dseg.mat") as file:
        for number in numbers:
            with np.load(part_of(root, number), allow_pickle=False) as part:
                records += records_of(part)
                tests += is_validation(number) * len(part["files"])
                rows += [_segmentation_row(file, image, len(rows) + i) for i, image in enumerate(part["segmentation"])]
        _write_struct73(file, rows)
    for number in numbers:
        part_of(root, number).unlink()
    write_mat(toolbox / "Metadata" / "seg37list.mat", {"seg37list": matlab_cell(CLASSES)})
    paths = [_PRINCETON + record["folder"] for record in records]
    split = {"alltest": matlab_cell(paths[:tests]), "alltrain": matlab_cell(paths[tests:])}
    write_mat(toolbox / "traintestSUNRGBD" / "allsplit.mat", split)
    write_mat(root / "SUNRGBDMeta3DBB_v2.mat", {"SUNRGBDMeta": _struct([_meta_of(record) for record in records])})


def _camera_of(room: SynthRoom, sensor: str) -> tuple[Camera, np.ndarray]:
    """The sensor's camera, and its intrinsics as they are stored: pixels counted from 1, six decimals."""
    (height, width), (tall, wide) = room.options.size, _SIZES[sensor]
    size = (max(1, round(height * tall / 480)), max(1, round(width * wide / 640)))
    camera = room.camera()
    matlab = np.round(camera.resized(size).intrinsics[0].numpy() + _FROM_ONE, 6)
    return Camera(torch.from_numpy(matlab - _FROM_ONE), camera.world_from_camera, size), matlab


def _place_of(sensor: str, number: int, view: int) -> tuple[str, str]:
    """The folder below the root, nested as those of the sensor are, and what its files are called."""
    if sensor == "kv1":
        return f"kv1/NYUdata/NYU{number:06d}_{view:04d}", f"NYU{number:06d}_{view:04d}"
    if sensor == "kv2":
        return f"kv2/kinect2data/{number:06d}_2014-05-26_14-23-37_rgbf{view:06d}-resize", f"{view:07d}"
    if sensor == "realsense":
        return f"realsense/lg/2014_10_21-18_15_06-{number:06d}{view:04d}", f"{view:07d}"
    return f"xtion/sun3ddata/room_{number:06d}/scan_1/{view:06d}", f"{view:07d}-000000000000"


def _write_numbers(path: Path, rows: np.ndarray) -> None:
    path.write_text("".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in rows))


def _tilt_of(world_from_camera: np.ndarray) -> np.ndarray:
    """(3, 3) Rtilt: the smallest turn that takes the up of the room, in the camera's x right, y forward, z up, to z."""
    a, b, c = UPRIGHT_FROM_CAMERA @ world_from_camera[2]
    shrink = 1 / (1 + c)
    return np.array([[1 - a * a * shrink, -a * b * shrink, -a], [-a * b * shrink, 1 - b * b * shrink, -b], [a, b, c]])


def _upright_box(box: np.ndarray, world_from_camera: np.ndarray, tilt: np.ndarray) -> list[float]:
    """Centre, full sizes and heading in the upright axes of the image, whose z is that of the room."""
    turn = tilt @ UPRIGHT_FROM_CAMERA @ world_from_camera[:3, :3].T
    heading = box[6] + math.atan2(turn[1, 0], turn[0, 0])
    heading = math.atan2(math.sin(heading), math.cos(heading))
    centre = turn @ (box[:3] - world_from_camera[:3, 3])
    return [round(float(value), 9) for value in (*centre, *box[3:6], heading)]


def _flat_box(mask: np.ndarray) -> list[int]:
    """Left, top, width and height, counted from 1."""
    row, column = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(column[0]) + 1, int(row[0]) + 1, int(column[-1] - column[0]) + 1, int(row[-1] - row[0]) + 1]


def _annotated(name: str, box: list[float]) -> dict[str, Any]:
    """An object of ``annotation3Dfinal``: corners from above, front side first, and heights with y down."""
    x, y, z, length, width, height, heading = box
    along = np.array([math.cos(heading), math.sin(heading)]) * length / 2
    across = np.array([-math.sin(heading), math.cos(heading)]) * width / 2
    corners = [along - across, along + across, across - along, -along - across]
    outline = {
        "Ymin": -(z - height / 2),
        "Ymax": -(z + height / 2),
        "rectangle": True,
        "X": [round(float(x + corner[0]), 9) for corner in corners],
        "Z": [round(float(y + corner[1]), 9) for corner in corners],
    }
    return {"name": name, "polygon": [outline]}


def _seg_of(room: SynthRoom, objects: np.ndarray, sensor: str) -> dict[str, Any]:
    if sensor != "kv1":
        names = matlab_cell(room.categories)
        return {"names": names.T if sensor == "realsense" else names, "seglabel": (objects + 1).astype(np.uint16)}
    categories = sorted(set(room.categories))
    label = np.array([categories.index(category) + 1 for category in room.categories])
    number = number_within(room.categories)
    return {
        "names": matlab_cell(categories).T,
        "seglabel": label[objects].astype(np.uint16),
        "seginstances": number[objects].astype(np.uint16),
    }


def part_of(root: Path, number: int) -> Path:
    return root / f".room_{number:06d}.npz"


def records_of(part: Any) -> list[dict[str, Any]]:
    """What a room's file says of each image."""
    first = np.concatenate([[0], np.cumsum(part["count"])])
    name, box, tilt, intrinsics = part["name"], part["box"], part["tilt"], part["intrinsics"]
    return [
        {
            "folder": str(folder),
            "stem": str(stem),
            "tilt": tilt[i],
            "intrinsics": intrinsics,
            "names": [str(one) for one in name[first[i] : first[i + 1]]],
            "boxes": [_of_matlab(one) for one in box[first[i] : first[i + 1]]],
        }
        for i, (folder, stem) in enumerate(part["files"])
    ]


def _of_matlab(box: np.ndarray) -> dict[str, np.ndarray]:
    """A box (7 numbers, then 4 of its place in the image) as the toolbox holds it; basis has one row per axis."""
    cos, sin = math.cos(box[6]), math.sin(box[6])
    return {
        "basis": np.array([[-sin, cos, 0], [-cos, -sin, 0], [0, 0, 1]]).round(9),
        "coeffs": box[None, [4, 3, 5]] / 2,
        "centroid": box[None, :3],
        "orientation": np.array([[cos, sin, 0]]).round(9),
        "flat": box[7:],
    }


def _meta_of(record: dict[str, Any]) -> dict[str, Any]:
    folder, stem = record["folder"], record["stem"]
    boxes = [
        {
            **{key: box[key] for key in ("basis", "coeffs", "centroid")},
            "classname": name,
            "sequenceName": f"SUNRGBD/{folder}",
            "orientation": box["orientation"],
            "label": np.array([[float(CLASSES.index(name) + 1 if name in CLASSES else 0)]]),
        }
        for name, box in zip(record["names"], record["boxes"], strict=True)
    ]
    return {
        "sequenceName": f"SUNRGBD/{folder}",
        "Rtilt": record["tilt"],
        "K": record["intrinsics"],
        "depthpath": f"{_PRINCETON}{folder}/depth_bfx/{stem}.png",
        "rgbpath": f"{_PRINCETON}{folder}/image/{stem}.jpg",
        "anno_extrinsics": UPRIGHT_FROM_CAMERA.T @ record["tilt"] @ UPRIGHT_FROM_CAMERA,
        "depthname": f"{stem}.png",
        "rgbname": f"{stem}.jpg",
        "sensorType": folder.split("/")[0],
        "valid": np.array([[1.0]]),
        "groundtruth3DBB": _struct(boxes) if boxes else np.zeros((0, 0)),
    }


def _struct(records: list[dict[str, Any]]) -> np.ndarray:
    """A struct array (1, N)."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def _segmentation_row(file: Any, image: np.ndarray, row: int) -> Any:
    one = file.require_group("#refs#").create_dataset(
        f"row{row}", data=image.T, compression="gzip", compression_opts=3, track_times=False
    )
    one.attrs["MATLAB_class"] = np.bytes_("uint8")
    return one.ref


def _write_struct73(file: Any, rows: list[Any]) -> None:
    """A struct array of one field: references to a value per element, (N, 1)."""
    import h5py

    group = file.create_group("SUNRGBD2Dseg")
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    references = np.empty((len(rows), 1), dtype=h5py.ref_dtype)
    references[:, 0] = rows
    group.create_dataset("seglabel", data=references, dtype=h5py.ref_dtype, track_times=False)
