"""What is a scene? Posed RGB-D frames, a labelled cloud, boxes: all read from the files only when asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera

Source = Callable[[], np.ndarray]  # reads pixels when called; its str names the file, and the place in it


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One posed RGB-D image. It holds where its pixels are, not the pixels, and may be sent to DataLoader workers.

    All frames of a scene share two cameras of many views, so that millions of frames can be held: a frame is about
    1 kB. An image whose size is not that of its camera is a ValueError when it is read; labels have the size of colour.
    """

    name: str
    cameras: Camera  # of the depth images, this frame's among them
    color_cameras: Camera  # of the colour images; equal to cameras where the two share one
    depth_scale: float | None  # metres = value / depth_scale; None where depth is in float metres
    read_depth: Source
    read_color: Source
    read_semantic: Source | None = None
    read_instance: Source | None = None
    view: int = 0  # which of the cameras is this frame's

    @property
    def camera(self) -> Camera:
        """Of the depth image, V = 1."""
        return self.cameras if len(self.cameras) == 1 else self.cameras[self.view]

    @property
    def color_camera(self) -> Camera:
        """Of the colour image, V = 1."""
        return self.color_cameras if len(self.color_cameras) == 1 else self.color_cameras[self.view]

    def depth(self) -> Tensor:
        """(H, W) uint16, metres = value / ``depth_scale``, where 0 and 65535 are no reading; or float32 metres."""
        return torch.from_numpy(_of_size(self.read_depth, self.camera.size))

    def metres(self) -> Tensor:
        """(H, W) float32: depth in metres, 0 where there is no reading."""
        return metres_of(self.depth(), self.depth_scale)

    def color(self) -> Tensor:
        """(H, W, 3) uint8 RGB, of the size of ``color_camera``."""
        return torch.from_numpy(_of_size(self.read_color, self.color_camera.size))

    def semantic(self) -> Tensor | None:
        """(H, W) int64 class of each pixel of the colour image, -1 for none; None where the frame has no labels."""
        return self._ids(self.read_semantic)

    def instance(self) -> Tensor | None:
        """(H, W) int64 object of each pixel of the colour image, -1 for none; None where the frame has none.

        In ScanNet's scans the numbers are those of ``Cloud.instance``; in S3DIS, and where objects are counted anew in
        every image (``scannet_frames_25k``, NYUv2, SUN RGB-D), they are not.
        """
        return self._ids(self.read_instance)

    def _ids(self, source: Source | None) -> Tensor | None:
        return None if source is None else torch.from_numpy(_of_size(source, self.color_camera.size).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one scene in the world of its poses, and what is known of each; None where the files do not say."""

    points: Tensor  # (N, 3) float32, metres
    colors: Tensor | None = None  # (N, 3) uint8
    normals: Tensor | None = None  # (N, 3) float32, of unit length, 0 where there is none
    semantic: Tensor | None = None  # (N,) int64 class, -1 for none
    instance: Tensor | None = None  # (N,) int64 object, -1 for none
    superpoint: Tensor | None = None  # (N,) int64
    faces: Tensor | None = None  # (F, 3) int64, where the points are the vertices of a mesh


@dataclass(frozen=True, eq=False)
class Boxes:
    """Oriented boxes of one scene, as :mod:`pyproj2d3d.metrics` takes them."""

    box: Tensor  # (K, 7) float32: centre, full sizes, heading about z, counter-clockwise, radians
    label: Tensor  # (K,) int64, a place in ``SceneDataset.box_classes``, which may be another list than ``classes``


class Frames(Sequence[Frame]):
    """Frames in order, and a readable line for each that was left out. A slice of them keeps only its own cameras."""

    def __init__(self, frames: Sequence[Frame] = (), skipped: Sequence[str] = ()):
        self._frames, self.skipped = tuple(frames), tuple(skipped)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, i):  # type: ignore[no-untyped-def]  # an int gives a Frame, a slice gives Frames
        if not isinstance(i, slice):
            return self._frames[i]
        chosen = self._frames[i]
        if not chosen or len({(id(frame.cameras), id(frame.color_cameras)) for frame in chosen}) > 1:
            return Frames(chosen, self.skipped)
        views = [frame.view for frame in chosen]
        cameras, color_cameras = (camera._picked(views) for camera in (chosen[0].cameras, chosen[0].color_cameras))
        if chosen[0].cameras is chosen[0].color_cameras:
            color_cameras = cameras
        return Frames(
            [replace(f, cameras=cameras, color_cameras=color_cameras, view=n) for n, f in enumerate(chosen)],
            self.skipped,
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """One place. Making it reads nothing; ``frames``, ``cloud`` and ``boxes`` are read when first asked for, and kept.

    The readers give functions that can be pickled; what was read is not sent along.
    """

    name: str
    read_frames: Callable[[], Frames] = Frames
    read_cloud: Callable[[], Cloud] | None = None
    read_boxes: Callable[[], Boxes] | None = None
    read_alignment: Callable[[], Tensor] | None = None
    scene_type: str | None = None  # what kind of room it is, as the dataset words it

    @cached_property
    def frames(self) -> Frames:
        """Its posed frames, in order, their pixels still on the disk. ``frames.skipped`` says what was left out."""
        return self.read_frames()

    @cached_property
    def cloud(self) -> Cloud | None:
        return None if self.read_cloud is None else self.read_cloud()

    @cached_property
    def boxes(self) -> Boxes | None:
        return None if self.read_boxes is None else self.read_boxes()

    @cached_property
    def aligned_from_world(self) -> Tensor | None:
        """(4, 4) float64 to upright axes along the walls, where the dataset has one. Nothing here is multiplied by it:
        points and poses are in one world."""
        return None if self.read_alignment is None else self.read_alignment()

    @property
    def points(self) -> Tensor | None:
        """(N, 3) float32 of the cloud; None where there is none."""
        return self.cloud.points if self.cloud else None

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class SceneDataset(Sequence[Scene]):
    """The scenes below a folder, by number, name or slice. Making it lists folders and reads no pixels, no points.

    ``classes`` names the classes; the ids of all labels are places in it, -1 is no label.
    """

    TITLE: ClassVar[str] = ""  # the name of the dataset
    # Its split for each stage of training, where a user names none; None is all scenes.
    SPLITS: ClassVar[Mapping[str, str | None]] = {"fit": "train", "validate": "val", "test": "test"}

    root: Path
    split: str | None = None
    names: tuple[str, ...] = field(init=False, default=())  # of the scenes, in order
    classes: tuple[str, ...] = field(init=False, default=())
    missing: tuple[str, ...] = field(init=False, default=())  # a readable line for each piece that was looked for

    @property
    def box_classes(self) -> tuple[str, ...]:
        """The names of the classes of boxes; the labels of ``Scene.boxes`` are places in it."""
        return self.classes

    @staticmethod
    @abstractmethod
    def is_in(names: set[str]) -> bool:
        """Whether a folder with files and folders of these names may hold the dataset."""

    @abstractmethod
    def _open(self, name: str) -> Scene:
        """The scene of a name that is there."""

    def open(self, name: str) -> Scene:
        """The scene of that name.

        Raises:
            KeyError: there is none.
        """
        if name not in self.names:
            raise KeyError(f"{self.root}: there is no scene {name!r} among {len(self)}")
        return self._open(name)

    def only(self, names: Sequence[str]) -> SceneDataset:
        """The same dataset with these scenes alone, in this order.

        Raises:
            KeyError: one of them is not there.
        """
        for name in names:
            if name not in self.names:
                raise KeyError(f"{self.root}: there is no scene {name!r} among {len(self)}")
        some = copy(self)
        object.__setattr__(some, "names", tuple(names))
        return some

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, scene):  # type: ignore[no-untyped-def]  # an int or a name gives a Scene, a slice a list
        if isinstance(scene, str):
            return self.open(scene)
        if isinstance(scene, slice):
            return [self._open(name) for name in self.names[scene]]
        return self._open(self.names[scene])

    def __iter__(self) -> Iterator[Scene]:
        return map(self._open, self.names)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, split={self.split!r}): {len(self)} scenes"


def metres_of(depth: Tensor, depth_scale: float | None) -> Tensor:
    """(H, W) float32 metres of depth as :meth:`Frame.depth` returns it, 0 where there is no reading."""
    if depth_scale is None:
        return torch.where((depth > 0) & torch.isfinite(depth), depth, 0)
    stored = depth.numpy()  # on one thread faster than torch, which hardly knows uint16
    metres = stored.astype(np.float32)
    metres /= np.float32(depth_scale)
    metres[stored == 65535] = 0
    return torch.from_numpy(metres)


def _of_size(source: Source, size: tuple[int, int]) -> np.ndarray:
    pixels = source()
    if pixels.shape[:2] != size:
        raise ValueError(f"{source}: must have size {size} (H, W), got {pixels.shape[:2]}")
    return pixels
