"""Where are the rooms of S3DIS, and what is each of their points? Text files of points, one per object."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .scene import Cloud, Frames, Scene, SceneDataset
from .stanford2d3ds import CLASSES, area_folders, class_of, labels_file, read_frames

AREAS = (1, 2, 3, 4, 5, 6)
TEST_AREA = 5
IMAGES = "2D-3D-S"  # below root, where no other place is given
KNOWN_FAULTS = (  # each has one line with a broken byte
    "Area_5/hallway_6/Annotations/ceiling_1.txt",  # Aligned_Version, line 180389: 22.350 6.692 3.048 185?187 182
    "Area_5/office_19/Annotations/ceiling_1.txt",  # v1.2, line 323474: 103.0?0000
)
_NUMERIC = b"0123456789+-.eE \t\r\n"
_STRANGE = re.compile(rb"[^0-9+\-.eE \t\r\n]")
_COPY = re.compile(r"(.+) \(\d+\)\.txt")


@dataclass(frozen=True, eq=False, repr=False)
class S3DIS(SceneDataset):
    """Fetch ``Stanford3dDataset_v1.2.zip`` (or ``..._Aligned_Version.zip``) from buildingparser.stanford.edu and unpack
    it; for images fetch 2D-3D-S (the ``noXYZ`` folder will do) and ``assets/semantic_labels.json`` of
    github.com/alexsax/2D-3D-Semantics, and unpack the areas side by side: ``2D-3D-S/area_1/data/...``.

    A scene is a room: ``Area_1_office_2`` is ``Area_1/office_2/``, its ``scene_type`` "office".

    Args:
        root: the folder with ``Area_1/`` to ``Area_6/``.
        split: "train" is all areas but Area 5 and "val" is Area 5, the usual test. There is no other official split
            than by areas; for the six folds give ``areas``, each area once as the test of a model of the other five.
        areas: only these, in this order; not together with ``split``.
        images: the folder with ``area_1/`` to ``area_6/`` of 2D-3D-S; ``root/2D-3D-S`` where it is not given.
        area_5b: what to do with the frames of ``area_5b``, whose poses are in a world of their own: "as stored", with
            a warning; "moved" to the world of the points by
            :data:`pyproj2d3d.data.stanford2d3ds.AREA_5_FROM_5B`; or "left out".

    **The two versions differ in where the points are.** In v1.2 all rooms of an area are in one world, which is that
    of the poses of 2D-3D-S. In the Aligned_Version each room is turned about itself, so that its door is on one side,
    and no file says by how much: such rooms are given without frames, with a warning. v1.2 brings the angles
    (``Area_1/Area_1_alignmentAngle.txt``); with them ``Scene.aligned_from_world`` is the turn about the middle of the
    room, as Pointcept and others apply it, and nothing is turned. Reading it reads the points, for their middle.

    Points are those of ``Annotations/CLASS_N.txt``, files sorted by name, one object after the other, as the field does
    it; so all are labelled. ``instance`` is the place of the file in that order. The room's own file has the same
    points in another order; where its number of lines differs, a warning says so. Classes are the usual 13 in the usual
    order; any other ("stairs") is clutter, as in all published preprocessing (PointNet's ``indoor3d_util.py``,
    Pointcept). The objects of images are numbered otherwise: by their place in ``semantic_labels.json``.

    What is wrong in the published files: one byte each in two annotations (``KNOWN_FAULTS``) lost a bit. They are
    mended, with a warning that names the line and what was read; a fault anywhere else is a ValueError. The room files
    ``Area_2/auditorium_1/auditorium_1.txt`` (line 741101) and ``Area_3/hallway_2/hallway_2.txt`` (926337) have one too,
    but only their lines are counted; ``Area_6/copyRoom_1/copy_Room_1.txt`` is called otherwise than its room.
    ``Area_5/office_36/Annotations/wall_3 (1).txt`` is a copy and is left out, with a warning.

    Raises:
        FileNotFoundError: root is no folder, there is no room in it, or ``images`` is no folder.
        ValueError: an unknown split, area or ``area_5b``, or both a split and areas.
    """

    TITLE: ClassVar[str] = "S3DIS"
    SPLITS: ClassVar[Mapping[str, str | None]] = {"fit": "train", "validate": "val", "test": "val"}

    areas: Sequence[int] | None = None
    images: Path | None = None
    area_5b: str = "as stored"

    def __post_init__(self) -> None:
        root = Path(self.root)
        if not root.is_dir():
            got = "got a file" if root.exists() else "there is none"
            raise FileNotFoundError(f"{root}: must be the folder of S3DIS with Area_1/ to Area_6/, {got}")
        if self.area_5b not in ("as stored", "moved", "left out"):
            raise ValueError(f'area_5b must be "as stored", "moved" or "left out", got {self.area_5b!r}')
        areas = _areas_of(self.split, self.areas)
        names: list[str] = []
        missing: list[str] = []
        for area in areas:
            rooms = _rooms(root / f"Area_{area}", missing)
            names += [f"Area_{area}_{room}" for room in rooms]
        if not names:
            raise FileNotFoundError(
                f"{root}: no rooms: looked for Area_N/ROOM/Annotations/ in areas {', '.join(map(str, areas))}"
            )
        images = self._images(root, sorted({int(name[5]) for name in names}), missing)
        for field, value in (
            *(("root", root), ("areas", areas), ("images", images), ("names", tuple(names)), ("classes", CLASSES)),
            ("missing", tuple(missing)),
        ):
            object.__setattr__(self, field, value)

    def _images(self, root: Path, areas: Sequence[int], missing: list[str]) -> Path | None:
        """The folder of the images, where there is one; what it lacks goes to ``missing``."""
        images = root / IMAGES if self.images is None else Path(self.images)
        if not images.is_dir():
            if self.images is not None:
                raise FileNotFoundError(
                    f"{images}: images must be the folder of 2D-3D-S with area_1/, ..., it is no folder"
                )
            missing.append(f"{images}: there are no images; images= may name another place")
            return None
        wanted = [*(folder for area in areas for folder in area_folders(images, area)), labels_file(images)]
        missing += [f"{path}: not there" for path in wanted if not path.exists()]
        aligned = [area for area in areas if not _has_world_of_poses(root, area)]
        if aligned:
            line = (
                f"{root}: the rooms of areas {', '.join(map(str, aligned))} are given without frames: only those of "
                "Stanford3dDataset_v1.2, with Area_N_alignmentAngle.txt, are in the world of the poses; those of the "
                "Aligned_Version are not"
            )
            warnings.warn(line, stacklevel=4)
            missing.append(line)
        if self.area_5b == "as stored" and set(areas) - set(aligned) >= {5} and area_folders(images, 5)[1].is_dir():
            warnings.warn(
                f"{area_folders(images, 5)[1]}: the poses of area_5b are not in the world of the points of Area 5; "
                'area_5b="moved" moves them there, "left out" leaves these frames out',
                stacklevel=4,
            )
        return images

    @staticmethod
    def is_in(names: set[str]) -> bool:
        return any(f"Area_{area}" in names for area in AREAS)

    def _open(self, name: str) -> Scene:
        area, room = int(name[5]), name[7:]  # Area_1_office_2
        folder = self.root / f"Area_{area}" / room
        frames = Frames
        if self.images is not None and _has_world_of_poses(self.root, area):
            frames = partial(read_frames, self.images, area, room, self.area_5b)  # type: ignore[assignment]
        angles = _angle_file(self.root, area)
        alignment = partial(read_alignment, angles, folder) if angles.is_file() else None
        return Scene(name, frames, partial(read_room, folder), None, alignment, room.rpartition("_")[0] or room)


def read_room(folder: Path) -> Cloud:
    """The points of ``Annotations/`` with their class, and with their object by the order of the sorted files.

    Raises:
        FileNotFoundError: there is no annotation.
        ValueError: a line that is not x y z r g b; the text names file and line.
    """
    annotations = folder / "Annotations"
    files = _annotation_files(annotations)
    if not files:
        raise FileNotFoundError(f"{annotations}: no objects: looked for CLASS_N.txt, such as chair_1.txt")
    points, colors = zip(*map(read_points, files), strict=True)
    sizes = [len(part) for part in points]
    whole = _room_file(folder)
    if whole is not None and (lines := _count_lines(whole)) != sum(sizes):
        warnings.warn(
            f"{whole}: has {lines} points, the {len(files)} files of Annotations/ have {sum(sizes)}; these are taken",
            stacklevel=2,
        )
    semantic = np.repeat([class_of(path.name) for path in files], sizes)
    return Cloud(
        torch.from_numpy(np.concatenate(points)),
        torch.from_numpy(np.concatenate(colors)),
        semantic=torch.from_numpy(semantic.astype(np.int64)),
        instance=torch.from_numpy(np.repeat(np.arange(len(files)), sizes)),
    )


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) float32 metres and (N, 3) uint8 colours of a file of lines x y z r g b; colours may be written as 103.000.

    Raises:
        ValueError: no line, or one that is not that; the text names file and line.
    """
    data = path.read_bytes()
    if data.translate(None, _NUMERIC):
        data = _mended(path, data)
    if not data.strip():
        raise ValueError(f"{path}: must have lines x y z r g b, it is empty")
    try:
        # The fastest that numpy has, a microsecond per point; it wants the same number of columns in every line.
        rows = np.loadtxt(io.BytesIO(data), ndmin=2, comments=None, encoding="ascii")
    except ValueError:
        raise ValueError(_fault(path, data)) from None
    if rows.shape[1] != 6:
        raise ValueError(_fault(path, data))
    with np.errstate(over="ignore"):
        points = rows[:, :3].astype(np.float32)
    if not np.isfinite(points).all() or not ((rows[:, 3:] >= 0) & (rows[:, 3:] <= 255)).all():
        raise ValueError(_fault(path, data))
    return points, np.rint(rows[:, 3:]).astype(np.uint8)


def read_alignment(angles: Path, folder: Path) -> Tensor:
    """(4, 4) float64 that turns a room about the middle of its points by its angle in ``Area_N_alignmentAngle.txt``.

    Raises:
        ValueError: the file has no angle for the room; the text names it.
    """
    degrees = None
    for line in angles.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words and words[0] == folder.name and len(words) == 2:
            degrees = words[1]
    try:
        angle = np.deg2rad(float(degrees or ""))
    except ValueError:
        raise ValueError(f"{angles}: must have a line '{folder.name} DEGREES', got {degrees or 'none'}") from None
    points = read_room(folder).points.double().numpy()
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    cos, sin = np.round([np.cos(angle), np.sin(angle)], 15)  # exact at right angles
    aligned_from_world = np.eye(4)
    aligned_from_world[:2, :2] = [[cos, sin], [-sin, cos]]
    aligned_from_world[:3, 3] = middle - aligned_from_world[:3, :3] @ middle
    return torch.from_numpy(aligned_from_world)


def _areas_of(split: str | None, areas: Sequence[int] | None) -> tuple[int, ...]:
    if split not in (None, "train", "val"):
        raise ValueError(f'split must be "train", "val" (Area 5) or None, got {split!r}')
    if areas is None:
        return tuple(area for area in AREAS if split is None or (area == TEST_AREA) == (split == "val"))
    if split is not None:
        raise ValueError(f"split and areas must not both be given, got {split!r} and {areas!r}")
    try:
        chosen = tuple(areas)
    except TypeError:
        chosen = ()
    if not chosen or any(area not in AREAS for area in chosen) or len(set(chosen)) < len(chosen):
        raise ValueError(f"areas must be some of 1 to 6, each once, got {areas!r}")
    return chosen


def _rooms(area: Path, missing: list[str]) -> list[str]:
    if not area.is_dir():
        missing.append(f"{area}: not there")
        return []
    rooms = []
    for room in sorted(entry.name for entry in os.scandir(area) if entry.is_dir()):
        if (area / room / "Annotations").is_dir():
            rooms.append(room)
        else:
            missing.append(f"{area / room / 'Annotations'}: not there, the room is left out")
    return rooms


def _angle_file(root: Path, area: int) -> Path:
    return root / f"Area_{area}" / f"Area_{area}_alignmentAngle.txt"


def _has_world_of_poses(root: Path, area: int) -> bool:
    return _angle_file(root, area).is_file() and "Aligned_Version" not in root.resolve().name


def _annotation_files(annotations: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(annotations) if name.endswith(".txt") and not name.startswith("."))
    files = []
    for name in names:
        copied = _COPY.fullmatch(name)
        if copied and f"{copied[1]}.txt" in names:
            warnings.warn(f"{annotations / name}: is left out, as a copy of {copied[1]}.txt", stacklevel=3)
        else:
            files.append(annotations / name)
    return files


def _room_file(folder: Path) -> Path | None:
    """The file of all points; where it is not called as the room, the only text file."""
    named = folder / f"{folder.name}.txt"
    if named.is_file():
        return named
    others = [path for path in folder.glob("*.txt") if not path.name.startswith(".")]
    return others[0] if len(others) == 1 else None


def _count_lines(path: Path) -> int:
    lines, last = 0, b""
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            lines, last = lines + block.count(b"\n"), block
    return lines + bool(last.strip() and not last.endswith(b"\n"))


def _mended(path: Path, data: bytes) -> bytes:
    """The text of a file that is known for a broken byte, with that byte mended.

    In all of the known ones bit 5 is lost: 0x10 was 0, 0x16 was 6 and 0x00 was a blank, as their neighbours show.
    """
    if "/".join(path.parts[-4:]) in KNOWN_FAULTS:
        place = _STRANGE.search(data).start()  # type: ignore[union-attr]
        begin = data.rfind(b"\n", 0, place) + 1
        line = data[begin:].split(b"\n", 1)[0]
        for byte in (data[place] | 0x20, 0x20):
            mended = line[: place - begin] + bytes([byte]) + line[place - begin + 1 :]
            if _wrong(mended) is None:
                number = data.count(b"\n", 0, place) + 1
                warnings.warn(
                    f"{path}: line {number} has a broken byte, as is known of this file: {line.strip()!r} is read as "
                    f"{mended.strip()!r}",
                    stacklevel=4,
                )
                return data[:begin] + mended + data[begin + len(line) :]
    raise ValueError(_fault(path, data))


def _fault(path: Path, data: bytes) -> str:
    """What is wrong with the first line that is."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip() and (wrong := _wrong(line)):
            return f"{path}: line {number}: x y z r g b were wanted, {wrong}: {line.strip()[:80]!r}"
    return f"{path}: lines x y z r g b were wanted, got text that numpy cannot read"


def _wrong(line: bytes) -> str | None:
    words = line.split()
    if _STRANGE.search(line):
        return "got a character of no number"
    if len(words) != 6:
        return f"got {len(words)} numbers"
    try:
        values = [float(word) for word in words]
    except ValueError:
        return "got what is no number"
    if not np.isfinite(np.array(values[:3])).all() or max(map(abs, values[:3])) > 3e38:
        return "got a place that is not finite in float32"
    if not all(0 <= value <= 255 for value in values[3:]):
        return "got a colour beyond 0 to 255"
    return None
