"""What does NYU Depth v2 hold? Its labelled images, read from the .mat file one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..camera import Camera
from .images import mapped
from .mat import dataset73, named_errors, open_mat73, read_mat, texts73
from .nyu40 import NYU40
from .scene import Frame, Frames, Scene, SceneDataset

MAT = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
MAPPING = "classMapping40.mat"

# camera_params.m of the dataset's toolbox: fx, fy, cx, cy of the colour camera, onto which depth is registered.
_TOOLBOX = (5.1885790117450188e02, 5.1946961112127485e02, 3.2558244941119034e02, 2.5373616633400465e02)
SIZE = (480, 640)

# classNames and labels13 of class13Mapping.mat (Couprie et al., 2013): the 13 classes, and that of each of the 40.
NYU13 = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv"),
    *("wall", "window"),
)
NYU13_OF_NYU40 = (
    *(12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5),
    *(7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7),
)
_DEPTHS = {"filled": "depths", "raw": "rawDepths"}


@dataclass(frozen=True, eq=False, repr=False)
class NYUv2(SceneDataset):
    """Fetch ``nyu_depth_v2_labeled.mat`` (2.8 GB; cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html) and put it into one
    folder with ``splits.mat`` (of the same authors' indoor_seg_sup) and ``classMapping40.mat`` (Gupta et al., 2013;
    both mappings are in github.com/ankurhanda/nyuv2-meta-data).

    The 1449 labelled images. ``root`` is the folder, or the path of the .mat file with the others beside it.

    A scene per image: several images show the same place, but nothing says how their cameras stood to each other. So
    scenes are called "0001" to "1449", counting as the dataset does, from 1, and have one frame, whose world is its
    camera. ``places`` has the dataset's name of the place by the scene's name ("kitchen_0004"), ``Scene.scene_type``
    its kind ("kitchen").

    Args:
        split: "train" (795) or "test" (654), as ``splits.mat`` has them. None: all images.
        labels: the classes. "nyu40": the stored classes by ``classMapping40.mat``. "nyu13": these by
            ``NYU13_OF_NYU40``, which is what class13Mapping.mat holds. "nyu894": the stored ones, by the names in the
            .mat file. 0 is no label and becomes -1.
        depth: "filled", where the authors painted in what the sensor missed, or "raw", where that is 0. Both are
            float32 metres of the same pixels, registered to the colour image.

    Traps: stored instance numbers count from 1 anew in every class, so an object is a pair of class and number (as
    ``get_instance_masks.m`` takes it); here it gets one number of its own in the image, and -1 without a label. Images
    have a white border of about 8 pixels; the toolbox looks only at rows 45 to 471 and columns 41 to 601 (counted from
    1, ``get_projection_mask.m``), beyond which filled depth is mostly painted in. The intrinsics are the toolbox's,
    whose ``rgb_plane2rgb_world.m`` counts pixels from 1: here the principal point is less by 1, so that points agree
    with it; code that takes the numbers as they stand for pixels from 0 puts points z / f, about 2 mm per metre, to the
    left and up. Images of another size than 480x640 are taken to be resized ones. Accelerometer readings are not read.

    Every read opens the file anew (0.2 ms): no handle is shared between processes or kept of a file that is replaced.
    What it costs beyond that is up to the chunks that MATLAB chose: all that a row touches are inflated. If that is
    slow, ``h5repack -l images:CHUNK=1x3x640x480 -l depths:CHUNK=1x640x480 ...`` makes them one image each.

    Raises:
        FileNotFoundError: there is no such file, or no ``splits.mat`` when a split is asked for; no mapping when labels
            are read that need one.
        ValueError: an option that is none of these, a .mat file of another version, a cut one, arrays that are missing
            or whose shapes or types are not these, a mapping of another number of classes, or splits beyond the images.
    """

    TITLE: ClassVar[str] = "NYU Depth v2"
    SPLITS: ClassVar[Mapping[str, str | None]] = {"fit": "train", "validate": "test", "test": "test"}

    labels: str = "nyu40"
    depth: str = "filled"
    places: dict[str, str] = field(init=False, default_factory=dict)  # of each scene; empty where the file has none
    _file: _LabeledMat = field(init=False)
    _table: np.ndarray | None = field(init=False, default=None)  # (C + 1,) int64, the class of each stored id

    def __post_init__(self) -> None:
        for name, allowed in (("labels", ("nyu40", "nyu13", "nyu894")), ("depth", tuple(_DEPTHS))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.split not in (None, "train", "test"):
            raise ValueError(f"split must be train, test or None, got {self.split!r}")
        root = Path(self.root)
        path = root if root.is_file() else root / MAT
        if not path.is_file():
            raise FileNotFoundError(f"{root}: must be a folder with {MAT}, or that file itself, there is none")
        file, missing = _opened(path, _DEPTHS[self.depth])

        splits, mapping = path.parent / SPLITS, path.parent / MAPPING
        rows = range(file.count) if self.split is None else _rows_of_split(splits, self.split, file.count)
        if not splits.is_file():
            missing.append(f"{splits}: the official split")
        classes: tuple[str, ...]
        classes, table = (NYU13 if self.labels == "nyu13" else NYU40), None
        if self.labels == "nyu894":
            if not file.classes:
                raise ValueError(f"{path}: must have a variable names for labels='nyu894', there is none")
            classes, table = file.classes, np.arange(-1, len(file.classes))
        elif mapping.is_file():
            table = _table_of(mapping, self.labels, file)
        else:
            missing.append(f"{mapping}: which of the 40 classes each stored id is of")

        places = {f"{row + 1:04d}": file.places[row] if file.places else "" for row in rows}
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "names", tuple(places))
        object.__setattr__(self, "places", places if file.places else {})
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "missing", tuple(missing))
        object.__setattr__(self, "_file", file)
        object.__setattr__(self, "_table", table)

    @staticmethod
    def is_in(names: set[str]) -> bool:
        return MAT in names

    def _open(self, name: str) -> Scene:
        row, file = int(name) - 1, self._file
        read = partial(_frames, name, row, file.path, file.arrays, file.size, _DEPTHS[self.depth], self._table)
        return Scene(name, read, scene_type=file.scene_types[row] if file.scene_types else None)


@dataclass(frozen=True)
class _LabeledMat:
    """What is known of the .mat file without its pixels."""

    path: Path
    count: int  # of images
    size: tuple[int, int]
    arrays: frozenset[str]
    classes: tuple[str, ...]  # of the stored ids; these three are empty where the file does not say
    places: tuple[str, ...]
    scene_types: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One image of an array of the .mat file, its axes turned to (H, W) or (H, W, 3)."""

    path: Path
    array: str
    row: int

    def __call__(self) -> np.ndarray:
        with named_errors(self.path, f"{self.array}[{self.row}] cannot be read"), open_mat73(self.path) as file:
            dataset = file[self.array]
            _check_type(self, dataset)
            pixels = dataset[self.row]
        if pixels.ndim == 2:
            return np.ascontiguousarray(pixels.T)
        # Turning each channel alone is faster than all of it at once.
        return np.stack([np.ascontiguousarray(channel.T) for channel in pixels], axis=-1)

    def __str__(self) -> str:
        return f"{self.path}: {self.array}[{self.row}]"


@dataclass(frozen=True, eq=False)
class LabelRow:
    """Classes through a table."""

    labels: Row
    table: np.ndarray | None

    def __call__(self) -> np.ndarray:
        if self.table is None:
            mapping = self.labels.path.parent / MAPPING
            raise FileNotFoundError(f"{mapping}: there is no such file, classes of stored ids were looked for there")
        return mapped(self.labels(), self.table, self)

    def __str__(self) -> str:
        return str(self.labels)


@dataclass(frozen=True)
class InstanceRow:
    """Objects of an image, numbered from 0 in the order of their stored class and number; -1 without a class."""

    labels: Row
    instances: Row

    def __call__(self) -> np.ndarray:
        pair = 256 * self.labels().astype(np.int64) + self.instances()
        is_there = np.zeros(int(pair.max()) + 1, dtype=bool)
        is_there[pair] = True
        is_there[:256] = False
        number = np.cumsum(is_there) - 1
        return np.where(pair < 256, -1, number[pair])

    def __str__(self) -> str:
        return str(self.instances)


# The type of each array, and how many axes an image of it has.
_ARRAYS = {
    "images": (np.dtype(np.uint8), 3),
    "depths": (np.dtype(np.float32), 2),
    "rawDepths": (np.dtype(np.float32), 2),
    "labels": (np.dtype(np.uint16), 2),
    "instances": (np.dtype(np.uint8), 2),
}


def camera_of(size: tuple[int, int]) -> Camera:
    """The toolbox's colour camera, for images of 480x640 resized to ``size``; its pixels count from 0."""
    fx, fy, cx, cy = _TOOLBOX
    intrinsics = torch.tensor([[fx, 0, cx - 1], [0, fy, cy - 1], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, torch.eye(4, dtype=torch.float64), SIZE).resized(size)


def _frames(
    name: str,
    row: int,
    path: Path,
    arrays: frozenset[str],
    size: tuple[int, int],
    depth: str,
    table: np.ndarray | None,
) -> Frames:
    camera, labels = camera_of(size), Row(path, "labels", row)
    has_labels = "labels" in arrays
    return Frames(
        [
            Frame(
                name,
                camera,
                camera,
                None,
                Row(path, depth, row),
                Row(path, "images", row),
                LabelRow(labels, table) if has_labels else None,
                InstanceRow(labels, Row(path, "instances", row)) if has_labels and "instances" in arrays else None,
            )
        ]
    )


def _opened(path: Path, depth: str) -> tuple[_LabeledMat, list[str]]:
    """What the file holds, and a line for each piece that it lacks."""
    with named_errors(path, "cannot be read, is it truncated?"), open_mat73(path) as file:
        images = dataset73(file, "images")
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"{path}: images must have shape (N, 3, W, H), got {images.shape}")
        count, _, width, height = images.shape
        arrays, texts, missing = {"images", depth}, {}, []
        for name in ("labels", "instances"):
            if name in file:
                arrays.add(name)
            else:
                missing.append(f"{path}: {name}")
        for name in sorted(arrays):
            dataset = dataset73(file, name)
            _check_type(f"{path}: {name}", dataset)
            if name != "images" and dataset.shape != (count, width, height):
                raise ValueError(f"{path}: {name} must have shape {(count, width, height)}, got {dataset.shape}")
        for name in ("names", "scenes", "sceneTypes"):
            texts[name] = texts73(file, name) if name in file else ()
            if name not in file:
                missing.append(f"{path}: {name}")
            elif name != "names" and len(texts[name]) != count:
                raise ValueError(f"{path}: {name} must have {count} texts as there are images, got {len(texts[name])}")
    size = (height, width)
    return _LabeledMat(
        path, count, size, frozenset(arrays), texts["names"], texts["scenes"], texts["sceneTypes"]
    ), missing


def _check_type(place: object, dataset: Any) -> None:
    dtype, ndim = _ARRAYS[dataset.name[1:]]
    if dataset.dtype != dtype or dataset.ndim != ndim + 1:
        raise ValueError(f"{place} must be {dtype} of {ndim + 1} axes, got {dataset.dtype} of shape {dataset.shape}")


def _rows_of_split(path: Path, split: str, count: int) -> list[int]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file, the split {split!r} was looked for there")
    name = f"{split}Ndxs"
    numbers = read_mat(path, name)[name]
    if numbers.dtype.kind not in "iuf" or (numbers.size and 1 not in numbers.shape):
        raise ValueError(f"{path}: {name} must be a list of numbers, got {numbers.dtype} of shape {numbers.shape}")
    if (numbers % 1 != 0).any() or len(np.unique(numbers)) != numbers.size:
        raise ValueError(f"{path}: {name} must hold whole numbers, each once")
    if not ((numbers >= 1) & (numbers <= count)).all():
        raise ValueError(
            f"{path}: {name} must count the {count} images from 1, got {numbers.min():g} to {numbers.max():g}"
        )
    return [int(number) - 1 for number in numbers.ravel()]


def _table_of(path: Path, labels: str, file: _LabeledMat) -> np.ndarray:
    of_id = read_mat(path, "mapClass")["mapClass"].ravel()
    if of_id.dtype.kind not in "iuf" or not ((of_id >= 1) & (of_id <= 40) & (of_id % 1 == 0)).all():
        raise ValueError(f"{path}: mapClass must hold numbers of the 40 classes, 1 to 40")
    if file.classes and len(of_id) != len(file.classes):
        raise ValueError(
            f"{path}: mapClass must map the {len(file.classes)} classes that {file.path} names, got {len(of_id)}"
        )
    table = np.concatenate([[-1], of_id.astype(np.int64) - 1])
    return table if labels == "nyu40" else np.concatenate([np.array(NYU13_OF_NYU40) - 1, [-1]])[table]
