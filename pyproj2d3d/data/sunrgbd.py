"""Which images does SUN RGB-D hold? Single RGB-D images of four sensors, with 37 classes and boxes, read lazily."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ..camera import Camera
from .images import ENCODINGS, ColorFile, DepthFile, check_depth_mode, image_header, mapped
from .mat import cell_texts, dataset73, named_errors, open_mat73, read_mat
from .posed_images import read_matrix
from .scene import Frame, Frames, Scene, SceneDataset, Source
from .sunrgbd_boxes import BOX_CLASSES, boxes_v1, boxes_v2, image_v2, name_of

CLASSES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
    *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor_mat", "clothes"),
    *("ceiling", "books", "fridge", "tv", "paper", "towel", "shower_curtain", "box", "whiteboard", "person"),
    *("night_stand", "toilet", "sink", "lamp", "bathtub", "bag"),
)  # seg37list.mat; the first 37 of NYU40
SENSORS = ("kv1", "kv2", "realsense", "xtion")
UPRIGHT_FROM_CAMERA = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # for no tilt: x right, y forward, z up
_DEPTH_FOLDERS = {"raw": "depth", "bfx": "depth_bfx"}
_SPLITS = {"train": "alltrain", "test": "alltest"}
_SPLIT_FILE = "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
_SEGMENTATION = "SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat"
_BOXES_V2 = ("SUNRGBDMeta3DBB_v2.mat", "SUNRGBDtoolbox/Metadata/SUNRGBDMeta3DBB_v2.mat")


@dataclass(frozen=True, eq=False, repr=False)
class SUNRGBD(SceneDataset):
    """Fetch SUNRGBD.zip, SUNRGBDtoolbox.zip and SUNRGBDMeta3DBB_v2.mat into one folder; give it or its ``SUNRGBD/``.

    They are at rgbd.cs.princeton.edu (Song, Lichtenberg and Xiao, 2015). ``root`` is the folder with ``kv1/``,
    ``kv2/``, ``realsense/`` and ``xtion/``, or the one that has it as ``SUNRGBD/``; ``SUNRGBDtoolbox/`` and the .mat of
    the boxes are looked for in ``root`` and one folder up. Of the four sensors those are listed that are there.

    An image is a scene of one frame. Its name is the path of its folder below ``root``, such as
    ``kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize``; its ``scene_type`` is that of
    ``scene.txt``. Depth and colour have one size, which differs between the sensors, and one camera.

    Splits: "train" (5,285 images) and "test" (5,050; VoteNet's "val") of ``allsplit.mat``. Of a split, images that are
    not on the disk are left out, and counted in ``missing``.

    World: the toolbox's upright axes, x right, y forward, z up, metres, the camera at the origin. There are no poses:
    ``world_from_camera`` is the tilt against gravity alone. :class:`SUNRGBDVoteNet` has the same world.

    ``depth``: "raw" is what the sensor measured, "bfx" is filled, and is what the toolbox and VoteNet take. Both are
    millimetres, rotated by 3 bits. The toolbox's ``read3dPoints`` cuts depth to 8 m; this reader does not.

    Semantic labels are 37 classes, -1 where there is none (0 in the file), from ``SUNRGBD2Dseg.mat``. Its images are in
    the order of ``alltest`` and then ``alltrain``, without names, so it needs ``allsplit.mat``. Without one of the two
    the names in ``seg.mat`` beside the image are taken where they are those of a class, spaces for underscores: many
    objects go without a label then, and ``missing`` says it. Instances are the objects of ``seg.mat``.

    Boxes: of the names in ``box_classes``, places in which their labels are; others are left out. The class list of the
    boxes is not that of the pixels. ``labels="v2"`` takes ``SUNRGBDMeta3DBB_v2.mat``, and the tilt that it has, in
    which the boxes are. What it says of all 10,335 images is read at the first one: about 4 seconds, once in each
    process. "v1" takes ``annotation3Dfinal/index.json`` and the last file of ``extrinsics/`` beside the image. None
    takes v2 where it is.
    An image without annotation has no box.

    Traps: pixels are counted from 1 in the intrinsics, as everything in the toolbox is; here 1 is subtracted from the
    principal point. Of a box's ``coeffs`` (half sizes) the second lies along its orientation and the first across.

    Sources: ``readframeSUNRGBD.m``, ``read3dPoints.m``, ``read_3d_pts_general.m`` and README of SUNRGBDtoolbox;
    ``sunrgbd/`` of facebookresearch/votenet; README of ankurhanda/sunrgbd-meta-data for the order of the labels.

    Raises:
        FileNotFoundError: no image below ``root``, or a split and no ``allsplit.mat``.
        ValueError: another split, depth or labels than said here, or an ``allsplit.mat`` that cannot be read.
    """

    TITLE: ClassVar[str] = "SUN RGB-D"
    SPLITS: ClassVar[Mapping[str, str | None]] = {"fit": "train", "validate": "test", "test": "test"}

    labels: str | None = None
    depth: str = "raw"
    box_classes: tuple[str, ...] = BOX_CLASSES
    _row: dict[str, int] = field(init=False, repr=False, default_factory=dict)  # of an image in SUNRGBD2Dseg.mat
    _segmentation: Path | None = field(init=False, repr=False, default=None)
    _boxes: Path | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        root = Path(self.root)
        for argument, given, allowed in (
            ("split", self.split, (None, *_SPLITS)),
            ("labels", self.labels, (None, "v1", "v2")),
            ("depth", self.depth, tuple(_DEPTH_FOLDERS)),
        ):
            if given not in allowed:
                raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, got {given!r}")
        if not any((root / sensor).is_dir() for sensor in SENSORS) and (root / "SUNRGBD").is_dir():
            root = root / "SUNRGBD"
        if not any((root / sensor).is_dir() for sensor in SENSORS):
            raise FileNotFoundError(
                f"{root}: must be the folder SUNRGBD with kv1, kv2, realsense or xtion, none is there"
            )
        found = {name: _beside(root, name) for name in (_SPLIT_FILE, _SEGMENTATION, *_BOXES_V2)}
        boxes = next((found[name] for name in _BOXES_V2 if found[name]), None)
        missing = [
            f"{sensor}/: there are no images of this sensor" for sensor in SENSORS if not (root / sensor).is_dir()
        ]
        split_file = found[_SPLIT_FILE]
        splits = _read_splits(split_file) if split_file else {}
        if self.split is not None and not splits:
            raise FileNotFoundError(f"{root}: split {self.split!r} needs {_SPLIT_FILE}, here or one folder up")
        names = _listed(root)
        if self.split is not None:
            wanted, here = splits[self.split], set(names)
            names = [name for name in wanted if name in here]
            if len(names) < len(wanted):
                missing.append(f"{len(wanted) - len(names)} of the {len(wanted)} images of {self.split} are not there")
        if not names:
            raise FileNotFoundError(f"{root}: no images{f' of {self.split}' if self.split else ''} are there")
        if not splits:
            missing.append(f"{_SPLIT_FILE}: no splits")
        if not (splits and found[_SEGMENTATION]):
            missing.append(f"{_SEGMENTATION} with splits: only names in seg.mat that are those of a class are labels")
        if not boxes and self.labels != "v1":
            missing.append(f"{_BOXES_V2[0]}: {'no boxes' if self.labels == 'v2' else 'the boxes are those of v1'}")
        for name, value in (
            ("root", root),
            ("names", tuple(names)),
            ("classes", CLASSES),
            ("missing", tuple(missing)),
            ("box_classes", tuple(self.box_classes)),
            ("labels", self.labels or ("v2" if boxes else "v1")),
            ("_row", {name: i for i, name in enumerate((*splits.get("test", ()), *splits.get("train", ())))}),
            ("_segmentation", found[_SEGMENTATION] if splits else None),
            ("_boxes", boxes),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def is_in(names: set[str]) -> bool:
        return bool({*SENSORS, "SUNRGBD"} & names)

    def _open(self, name: str) -> Scene:
        folder = self.root / name
        scene_file = folder / "scene.txt"
        scene_type = scene_file.read_text(errors="replace").strip() if scene_file.is_file() else None
        segmentation = None if self._segmentation is None else (self._segmentation, self._row.get(name), len(self._row))
        boxes = self._boxes if self.labels == "v2" else None
        read_boxes = None
        if boxes is not None:
            read_boxes = partial(boxes_v2, boxes, name, self.box_classes)
        elif self.labels == "v1":
            read_boxes = partial(boxes_v1, folder / "annotation3Dfinal" / "index.json", self.box_classes)
        read_frames = partial(_read_frames, folder, name, self.depth, segmentation, boxes)
        return Scene(name, read_frames, read_boxes=read_boxes, scene_type=scene_type)


def _beside(root: Path, name: str) -> Path | None:
    return next((place / name for place in (root, root.resolve().parent) if (place / name).is_file()), None)


def _listed(root: Path) -> list[str]:
    """The folders of images below those of the sensors, which are nested differently (7 deep in xtion/sun3ddata)."""
    names = []
    for sensor in SENSORS:
        for folder, inner, _ in os.walk(root / sensor, followlinks=True):
            below = Path(folder).relative_to(root).parts
            if {"image", "depth"} <= set(inner):
                names.append("/".join(below))
                inner.clear()
            elif len(below) > 12:  # links that lead in a circle
                inner.clear()
    return sorted(names)


def _read_splits(path: Path) -> dict[str, list[str]]:
    """By split, names as ours; the file has paths of Princeton's disk, some of them with a / behind."""
    found = read_mat(path, *_SPLITS.values())
    splits: dict[str, list[str]] = {}
    for split, variable in _SPLITS.items():
        try:
            splits[split] = [name_of(text) for text in cell_texts(found[variable])]
        except ValueError as error:
            raise ValueError(f"{path}: {variable} {error}") from None
    return splits


def _read_frames(
    folder: Path, name: str, depth: str, segmentation: tuple[Path, int | None, int] | None, boxes: Path | None
) -> Frames:
    color_file = _only(folder / "image", "*.jpg", 0)
    depth_file = _only(folder / _DEPTH_FOLDERS[depth], "*.png", 0)
    size, mode = image_header(depth_file)
    check_depth_mode(depth_file, mode)
    color_size, _ = image_header(color_file)
    if color_size != size:
        raise ValueError(f"{color_file}: colour must have the size of depth, {size} (H, W), got {color_size}")
    matlab = read_matrix(folder / "intrinsics.txt", "the 9 numbers of intrinsics", (3, 3), (1, 9)).reshape(3, 3)
    if boxes is None:
        place = _only(folder / "extrinsics", "*.txt", -1)  # the toolbox takes the last one
        tilt = UPRIGHT_FROM_CAMERA @ read_matrix(place, "a tilt of 3x4 numbers", (3, 4), (4, 4))[:3, :3]
    else:
        place, tilt = boxes, image_v2(boxes, name).tilt @ UPRIGHT_FROM_CAMERA
    camera = upright_camera(folder / "intrinsics.txt", matlab, place, tilt, size)
    objects = folder / "seg.mat"
    semantic: Source | None = SegFile(objects, CLASSES) if objects.is_file() else None
    if segmentation is not None:
        path, row, count = segmentation
        semantic = None if row is None else SegmentationRow(path, row, count, size)
    return Frames(
        [
            Frame(
                color_file.stem,
                camera,
                camera,
                ENCODINGS["sunrgbd"].scale,
                DepthFile(depth_file, ENCODINGS["sunrgbd"]),
                ColorFile(color_file),
                semantic,
                SegFile(objects) if objects.is_file() else None,
            )
        ]
    )


def _only(folder: Path, pattern: str, place: int) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{folder}: must hold a file {pattern}, there is none")
    return found[place]


def upright_camera(
    of_intrinsics: Path, intrinsics: np.ndarray, of_tilt: Path, tilt: np.ndarray, size: tuple[int, int]
) -> Camera:
    """From MATLAB's intrinsics, which count pixels from 1, and the upright axes from those of the camera (3, 3)."""
    if not np.allclose(tilt @ tilt.T, np.eye(3), atol=0.01):  # also where it is not finite
        raise ValueError(f"{of_tilt}: a rotation was wanted as tilt, got {tilt.tolist()}")
    pose = np.eye(4)
    pose[:3, :3] = tilt
    try:
        return Camera(torch.from_numpy(intrinsics - [[0, 0, 1], [0, 0, 1], [0, 0, 0]]), torch.from_numpy(pose), size)
    except ValueError as error:
        raise ValueError(f"{of_intrinsics}: {error}") from None


@dataclass(frozen=True)
class SegmentationRow:
    """The 37 classes of one image in ``SUNRGBD2Dseg.mat``: (H, W) int64, -1 for none."""

    path: Path
    row: int
    count: int  # of the images that must be in it
    size: tuple[int, int]

    def __call__(self) -> np.ndarray:
        with open_mat73(self.path) as file, named_errors(self.path, "cannot be read as HDF5, is it truncated?"):
            rows = dataset73(file, "SUNRGBD2Dseg/seglabel")
            if rows.size != self.count:
                raise ValueError(f"{self.path}: must hold the {self.count} images of allsplit.mat, got {rows.size}")
            stored = file[rows[np.unravel_index(self.row, rows.shape)]]
            if (
                stored.shape != self.size[::-1]
                or stored.dtype.kind not in "uif"
                or stored.external
                or stored.is_virtual
            ):
                raise ValueError(
                    f"{self}: numbers of shape {self.size[::-1]} (W, H) were wanted, got {stored.dtype} {stored.shape}"
                )
            return mapped(_integers(stored[()].T, self), np.arange(-1, len(CLASSES)), self)

    def __str__(self) -> str:
        return f"{self.path}, image {self.row + 1}"


@dataclass(frozen=True)
class SegFile:
    """The objects in a ``seg.mat``: (H, W) int64, numbered, or by name their place among ``classes``; -1 for none.

    ``seglabel`` is the place in ``names``, from 1. In the images of NYU a name is a category, whose objects
    ``seginstances`` numbers; in the others each object has a name of its own.
    """

    path: Path
    classes: tuple[str, ...] | None = None

    def __call__(self) -> np.ndarray:
        found = read_mat(self.path)
        for name in ("names", "seglabel"):
            if name not in found:
                raise ValueError(f"{self.path}: must have a variable {name}, got {', '.join(found) or 'none'}")
        label = _integers(found["seglabel"], f"{self.path}: seglabel")
        with named_errors(self.path, "names"):
            names = [name.strip().replace(" ", "_") for name in cell_texts(found["names"])]
        if self.classes is not None:
            places = {name: i for i, name in enumerate(self.classes)}
            return mapped(label, np.array([-1, *(places.get(name, -1) for name in names)]), self.path)
        label = mapped(label, np.arange(-1, len(names)), self.path)
        if "seginstances" not in found:
            return label
        number = _integers(found["seginstances"], f"{self.path}: seginstances")
        if number.shape != label.shape or (number.size and not 0 <= number.min() <= number.max() < 2**31):
            raise ValueError(f"{self.path}: seginstances must be numbers of shape {label.shape}, got {number.shape}")
        pair = (label << 31) | number
        return np.where(label < 0, -1, np.searchsorted(np.unique(pair[label >= 0]), pair))

    def __str__(self) -> str:
        return str(self.path)


def _integers(values: np.ndarray, where: object) -> np.ndarray:
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise ValueError(f"{where}: whole numbers of shape (H, W) were wanted, got {values.dtype} {values.shape}")
    whole = values.astype(np.int64) if values.dtype.kind in "ui" or np.isfinite(values).all() else np.zeros((0, 0))
    if whole.shape != values.shape or (whole != values).any():
        raise ValueError(f"{where}: whole numbers were wanted, got fractions")
    return whole
