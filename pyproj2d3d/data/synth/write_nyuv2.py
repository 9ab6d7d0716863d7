"""How do rooms become NYU Depth v2? Labelled images in one .mat file, the class mappings and the split beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...camera import Camera
from ..mat import create_mat73, write_mat, write_texts73
from ..nyu40 import NYU40
from ..nyuv2 import MAPPING, MAT, NYU13, NYU13_OF_NYU40, SPLITS, camera_of
from .files import matlab_cell, number_within
from .options import RoomOptions
from .room import SynthRoom
from .split import is_validation

# Of each array of the .mat file: its type, and whether it has channels.
_ARRAYS = {
    "depths": (np.float32, False),
    "images": (np.uint8, True),
    "instances": (np.uint8, False),
    "labels": (np.uint16, False),
    "rawDepths": (np.float32, False),
}


def check(scenes: int, options: RoomOptions) -> None:
    """Raises ValueError where so many rooms, or such ones, cannot be written; before any is made."""
    if not options.frames:
        raise ValueError(f"frames must be 1 or more, a scene of NYU Depth v2 is one, got {options.frames}")


def write(root: Path, room: SynthRoom, number: int) -> None:
    """The images of one room, into a file of their own until :func:`finish` puts them together.

    A frame of the room's path becomes a labelled image, seen by the dataset's colour camera (whatever field of view the
    room's style has) in the size that the options say. ``depths`` is exact depth, ``rawDepths`` that of the sensor,
    both in whole millimetres as float32 metres. A stored class is a raw category, and a stored instance counts from 1
    among the room's objects of that category.

    Raises:
        ValueError: more than 255 objects of one category: their numbers are kept in 8 bits.
    """
    categories = sorted(set(room.categories))
    label = np.array([categories.index(category) + 1 for category in room.categories])
    instance = number_within(room.categories)
    if instance.max() > 255:
        raise ValueError(f"{root}: room {number} must have at most 255 objects of a category, got {instance.max()}")
    poses, size = room.camera().world_from_camera, room.options.size
    camera = Camera(camera_of(size).intrinsics, poses, size)
    with create_mat73(_part(root, number)) as part:
        part.attrs["categories"] = json.dumps([[c, int(room.nyu40[room.categories.index(c)])] for c in categories])
        part.attrs["scene_type"] = room.scene_type
        for name in _ARRAYS:
            _create(part, name, len(camera), size)
        for view in range(len(camera)):
            images = room.render(camera, view)
            part["depths"][view] = _metres(np.floor(1000 * images.depth + 0.5)).T
            part["images"][view] = images.color.T
            part["instances"][view] = instance[images.object].T
            part["labels"][view] = label[images.object].T
            part["rawDepths"][view] = _metres(room.measured(images, camera, view)).T


def finish(root: Path, scenes: int) -> None:
    """``nyu_depth_v2_labeled.mat`` of all rooms in order, ``splits.mat`` and the two class mappings.

    Of the dataset's variables ``accelData``, ``namesToIds`` (an object of MATLAB) and the names of raw files are not
    written.
    """
    import h5py

    nyu40: dict[str, int] = {}
    counts: list[int] = []
    places: list[str] = []
    kinds: list[str] = []
    for number in range(scenes):
        with h5py.File(_part(root, number)) as part:
            for category, of_40 in json.loads(part.attrs["categories"]):
                if nyu40.setdefault(category, of_40) != of_40:
                    raise ValueError(f"{root}: {category} must have one NYU40 id, got {nyu40[category]} and {of_40}")
            counts.append(len(part["images"]))
            kinds += [part.attrs["scene_type"].replace(" ", "_")] * counts[-1]
            places += [f"{kinds[-1]}_{number:04d}"] * counts[-1]
            size = part["images"].shape[:1:-1]
    names = sorted(nyu40)
    with create_mat73(root / MAT) as mat:
        for name in _ARRAYS:
            _create(mat, name, sum(counts), size)
        row = 0
        for number in range(scenes):
            with h5py.File(_part(root, number)) as part:
                own = [0] + [names.index(category) + 1 for category, _ in json.loads(part.attrs["categories"])]
                for view in range(counts[number]):
                    mat["labels"][row] = np.array(own, dtype=np.uint16)[part["labels"][view]]
                    for name in ("depths", "images", "instances", "rawDepths"):
                        _copy(part[name], view, mat[name], row)
                    row += 1
        for name, texts in (("names", names), ("scenes", places), ("sceneTypes", kinds)):
            write_texts73(mat, name, texts)
    for number in range(scenes):
        _part(root, number).unlink()

    test = np.repeat([is_validation(number) for number in range(scenes)], counts)
    numbers = np.arange(1.0, len(test) + 1)[:, None]  # (N, 1) float64, as MATLAB has them
    write_mat(root / SPLITS, {"trainNdxs": numbers[~test], "testNdxs": numbers[test]})
    mapping = np.array([[nyu40[name] for name in names]], dtype=np.float64)
    write_mat(
        root / MAPPING, {"className": matlab_cell(NYU40), "mapClass": mapping, "allClassName": matlab_cell(names)}
    )
    of_40 = np.array([NYU13_OF_NYU40], dtype=np.float64)
    write_mat(root / "class13Mapping.mat", {"classMapping13": {"labels13": of_40, "classNames": matlab_cell(NYU13)}})


def _part(root: Path, number: int) -> Path:
    return root / f".room_{number:06d}.mat"


def _create(file: Any, name: str, count: int, size: tuple[int, int]) -> None:
    """Axes are those of MATLAB reversed; a chunk is an image."""
    dtype, has_channels = _ARRAYS[name]
    image = (3, *size[::-1]) if has_channels else size[::-1]
    dataset = file.create_dataset(
        name, (count, *image), dtype, chunks=(1, *image), compression="gzip", compression_opts=3, track_times=False
    )
    dataset.attrs["MATLAB_class"] = np.bytes_("single" if dtype == np.float32 else np.dtype(dtype).name)


def _copy(source: Any, view: int, target: Any, row: int) -> None:
    """One image, as it is compressed."""
    rest = (0,) * (source.ndim - 1)
    mask, packed = source.id.read_direct_chunk((view, *rest))
    target.id.write_direct_chunk((row, *rest), packed, mask)


def _metres(millimetres: np.ndarray) -> np.ndarray:
    return millimetres.astype(np.float32) / np.float32(1000)
