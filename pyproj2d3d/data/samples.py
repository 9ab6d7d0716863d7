"""What does a training loop get? Samples of a dataset, by frame or by scene, and batches of them, packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from ..camera import Camera, Matches
from ..ops._check import check_choice, check_int
from ..ops.back_project import back_project
from ..ops.visibility import visibility
from .points import Points
from .scene import Boxes, Cloud, Frame, Scene, SceneDataset
from .sharing import stacked
from .views import View

Which = int | tuple[int, int]  # a sample, and perhaps the seed of all that is drawn for it
ViewTransform = Callable[[View, Generator | None], View]
PointTransform = Callable[[Points, Generator | None], Points]
_UPRIGHT = 1e-4  # how far the sides of a moved box may be from upright and at right angles, as a sine


@dataclass(frozen=True, eq=False)
class Sample:
    """What one scene, or one frame of it, gives to a batch."""

    scene: str
    frames: tuple[str, ...] = ()  # names, one for each view
    views: tuple[View, ...] = ()
    points: Points | None = None
    matches: Matches | None = None  # of these points in these views
    boxes: Boxes | None = None  # where the points are


class FrameSamples(Dataset[Sample]):
    """One view for each frame of all scenes. Opens every scene once, for its frames; pixels are read by item.

    Args:
        dataset: any reader's.
        every: only every so many-th frame of each scene, from the first.
        transform: of views, as in :mod:`pyproj2d3d.data.transforms2d`.
        at: "depth" or "color": whose camera and pixels the view has, see :meth:`View.of`.

    An item is ``samples[i]``, drawn from torch's default generator, or ``samples[i, seed]``.
    """

    def __init__(
        self, dataset: SceneDataset, *, every: int = 1, transform: ViewTransform | None = None, at: str = "depth"
    ):
        _check_dataset(dataset)
        check_choice("at", at, "depth", "color")
        every = check_int("every", every, 1)
        self.transform, self.at = transform, at
        self._frames = [(scene.name, frame) for scene in dataset for frame in scene.frames[::every]]  # 1 kB each

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Sample]:  # without it a loop would take any IndexError for its end
        return (self[i] for i in range(len(self)))

    def __getitem__(self, which: Which) -> Sample:
        i, rng = _drawn(which, len(self))
        scene, frame = self._frames[i]
        return Sample(scene, (frame.name,), (_view(frame, self.at, self.transform, rng),))


class SceneSamples(Dataset[Sample]):
    """One sample for each scene: its points and some of its views.

    A scene is opened whenever it is asked for: its points are read each time, and with views the poses and headers of
    all its frames (of a .sens of 2,000 frames 30 ms, of an exported folder of as many 0.26 s).

    Args:
        dataset: any reader's.
        views: how many frames, drawn without repetition, in their order; all where the scene has fewer.
        spread: take them evenly over the scene instead of drawing them, for validation.
        points: whether the cloud is read; a scene without one is then an error.
        match: whether ``Sample.matches`` says which point of the sample is seen at which pixel of its views, by
            :func:`visibility` of the cloud as it is on the disk. Views must come out of one size.
        boxes: whether the scene's boxes come along, moved as its points are; a scene without any is then an error.
        aligned: whether points and boxes are first turned into the axes along the walls, where the dataset knows them.
        lift: whether a scene of one frame and without a cloud has what the frame sees for one, with its colours.
        view_transform, point_transform: as in :mod:`pyproj2d3d.data.transforms2d` and ``transforms3d``.
        at: as for :class:`FrameSamples`.
    """

    def __init__(
        self,
        dataset: SceneDataset,
        *,
        views: int = 0,
        spread: bool = False,
        points: bool = True,
        match: bool = False,
        boxes: bool = False,
        aligned: bool = False,
        lift: bool = False,
        view_transform: ViewTransform | None = None,
        point_transform: PointTransform | None = None,
        at: str = "depth",
    ):
        _check_dataset(dataset)
        check_choice("at", at, "depth", "color")
        self.views = check_int("views", views, 0)
        if not (points or views or boxes):
            raise ValueError("views must be at least 1 without points and boxes, got 0")
        if match and not (points and views):
            raise ValueError(f"match must go with points and views, got points={points!r} and views={views}")
        if point_transform is not None and not points:
            raise ValueError(f"point_transform must go with points, got points={points!r}")
        if view_transform is not None and not views:
            raise ValueError(f"view_transform must go with views, got views={views}")
        self.dataset, self.spread, self.points, self.match, self.at = dataset, spread, points, match, at
        self.boxes, self.aligned, self.lift = boxes, aligned, lift
        self.view_transform, self.point_transform = view_transform, point_transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Sample]:  # as of FrameSamples
        return (self[i] for i in range(len(self)))

    def __getitem__(self, which: Which) -> Sample:
        i, rng = _drawn(which, len(self))
        scene: Scene = self.dataset[i]
        chosen = [scene.frames[n] for n in self._chosen(scene, rng)] if self.views else []
        views = tuple(_view(frame, self.at, self.view_transform, rng) for frame in chosen)
        names = tuple(frame.name for frame in chosen)
        if self.match and not chosen:
            raise ValueError(f"scene {scene.name}: must have frames to be matched with, it has none")
        points = Points.of(self._cloud(scene) if self.points else Cloud(torch.zeros(0, 3)))
        seen = None
        if self.match:
            seen = visibility(points.xyz, _camera(views), torch.stack([view.depth for view in views]))
        if self.aligned and scene.aligned_from_world is not None:
            points = points.moved(scene.aligned_from_world)
        if self.point_transform is not None:
            points = self.point_transform(points, rng)
        boxes = None
        if self.boxes:
            if scene.boxes is None:
                raise ValueError(f"scene {scene.name}: must have boxes, its files have none")
            boxes = _followed(scene.boxes, points.points_from_world)
        matches = None if seen is None else points.matches(seen)
        return Sample(scene.name, names, views, points if self.points else None, matches, boxes)

    def _cloud(self, scene: Scene) -> Cloud:
        if scene.cloud is None and self.lift and len(scene.frames) == 1:
            return _seen_by(scene.frames[0])
        if scene.cloud is None:
            raise ValueError(f"scene {scene.name}: must have points, its files have none")
        return scene.cloud

    def _chosen(self, scene: Scene, rng: Generator | None) -> list[int]:
        n = len(scene.frames)
        k = min(self.views, n)
        if self.spread:
            return [(2 * i + 1) * n // (2 * k) for i in range(k)]
        return sorted(torch.randperm(n, generator=rng)[:k].tolist())


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples. The views of all of them, one sample after the other, are V views; their points are N points.

    What no sample has is None. ``to`` and ``pin_memory`` are what Lightning and DataLoader call.
    """

    scenes: tuple[str, ...]  # B names
    frames: tuple[str, ...]  # V names
    view_ptr: Tensor  # (B + 1) int64: the views of sample b are view_ptr[b] to view_ptr[b + 1]
    ptr: Tensor  # (B + 1) int64, likewise of its points
    camera: Camera | None = None  # V views
    color: Tensor | None = None  # (V, H, W, 3) uint8
    depth: Tensor | None = None  # (V, H, W) float32 metres, 0 where there is no reading
    semantic: Tensor | None = None  # (V, H, W) int64 class, -1 for none
    instance: Tensor | None = None  # (V, H, W) int64 object, -1 for none; by scene
    pixel: Tensor | None = None  # (V, H, W) int32, as View has it
    points: Tensor | None = None  # (N, 3)
    index: Tensor | None = None  # (N,) int64 in its scene's cloud
    point_colors: Tensor | None = None  # (N, 3) uint8
    point_normals: Tensor | None = None  # (N, 3)
    point_semantic: Tensor | None = None  # (N,) int64
    point_instance: Tensor | None = None  # (N,) int64, by scene
    point_superpoint: Tensor | None = None  # (N,) int64, by scene
    points_from_world: Tensor | None = None  # (B, 4, 4) float64; None where any sample was distorted
    matches: Matches | None = None  # of the N points in the V views
    box: Tensor | None = None  # (K, 7) of all samples, where their points are
    box_label: Tensor | None = None  # (K,) int64, a place in the dataset's ``box_classes``
    box_ptr: Tensor | None = None  # (B + 1) int64: the boxes of sample b are box_ptr[b] to box_ptr[b + 1]

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def frame_names(self) -> list[str]:
        """V names, those of the scene and the frame: of frames that differ no two are equal."""
        scene = torch.repeat_interleave(self.view_ptr.diff()).tolist()
        return [f"{self.scenes[b]}/{frame}" for b, frame in zip(scene, self.frames, strict=True)]

    @property
    def sample_of_point(self) -> Tensor:
        """(N,) int64, which of the B samples each point is of: ``batch`` of :func:`voxelize`."""
        return torch.repeat_interleave(self.ptr.diff())

    def to(self, *target: object, **keywords: object) -> Batch:
        """On another device, or its floating tensors in another dtype. Arguments as of :meth:`torch.nn.Module.to`.

        Raises:
            TypeError: arguments that this does not take, or a dtype that is not floating.
        """
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*target, **keywords)  # type: ignore[call-overload]
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating, got {dtype}")
        return self._each(lambda t: t.to(device, dtype if t.is_floating_point() else None, non_blocking))

    def pin_memory(self) -> Batch:
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                changed[name] = change(value)
            elif isinstance(value, Camera):
                changed[name] = Camera._of(change(value.intrinsics), change(value.world_from_camera), value.size)
            elif isinstance(value, Matches):
                changed[name] = replace(
                    value, ptr=change(value.ptr), point=change(value.point), pixel=change(value.pixel)
                )
        return replace(self, **changed)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to one batch, packed: nothing is padded or cut.

    Raises:
        ValueError: there is none; views of different sizes; or labels, points, matches or boxes that some samples have
            and others have not.
    """
    if not samples:
        raise ValueError("samples must be at least one, got none")
    views = [view for sample in samples for view in sample.views]
    parts: dict[str, Any] = {"camera": _camera(views)} if views else {}
    for name in ("color", "depth", "semantic", "instance", "pixel") if views else ():
        parts[name] = _stack(views, name)
    clouds = _all_or_none("points", [sample.points for sample in samples])
    for name in ("colors", "normals", "semantic", "instance", "superpoint") if clouds else ():
        parts[f"point_{name}"] = _cat(name, [getattr(cloud, name) for cloud in clouds])
    if clouds:
        parts["points"], parts["index"] = (torch.cat([getattr(c, name) for c in clouds]) for name in ("xyz", "index"))
        if all(cloud.points_from_world is not None for cloud in clouds):
            parts["points_from_world"] = torch.stack([c.points_from_world for c in clouds])
    ptr = _ptr([len(cloud) for cloud in clouds] if clouds else [0] * len(samples))
    matches = _all_or_none("matches", [sample.matches for sample in samples])
    if matches and not views:
        raise ValueError("matches must go with views, got none")
    if matches:
        parts["matches"] = Matches(
            _ptr(torch.cat([m.ptr.diff() for m in matches]).tolist()),
            torch.cat([m.point + first for m, first in zip(matches, ptr.tolist(), strict=False)]),
            torch.cat([m.pixel for m in matches]),
            int(ptr[-1]),
            views[0].size,
        )
    boxes = _all_or_none("boxes", [sample.boxes for sample in samples])
    if boxes:
        parts["box"], parts["box_label"] = (torch.cat([getattr(b, name) for b in boxes]) for name in ("box", "label"))
        parts["box_ptr"] = _ptr([len(b.label) for b in boxes])
    return Batch(
        tuple(sample.scene for sample in samples),
        tuple(name for sample in samples for name in sample.frames),
        _ptr([len(sample.views) for sample in samples]),
        ptr,
        **parts,
    )


def _check_dataset(dataset: SceneDataset) -> None:
    if not isinstance(dataset, SceneDataset):
        raise TypeError(f"dataset must be a SceneDataset, as open_dataset gives it, got {type(dataset).__name__}")


def _drawn(which: Which, n: int) -> tuple[int, Generator | None]:
    try:
        i, seed = map(index, which) if isinstance(which, tuple) else (index(which), None)
    except (TypeError, ValueError):
        raise TypeError(f"a sample must be asked for by its number, or that and a seed, got {which!r}") from None
    rng = None if seed is None else torch.Generator().manual_seed(seed)
    if not -n <= i < n:
        raise IndexError(f"sample {i} is not among {n}")
    return i, rng


def _view(frame: Frame, at: str, transform: ViewTransform | None, rng: Generator | None) -> View:
    view = View.of(frame, at)
    return view if transform is None else transform(view, rng)


def _seen_by(frame: Frame) -> Cloud:
    """Its pixels with depth, in raster order; labels of pixels are not taken along."""
    view = View.of(frame)
    lifted = back_project(view.depth[None], view.camera)
    return Cloud(lifted.points.float(), view.color.flatten(0, 1)[lifted.pixel.long()])


def _followed(boxes: Boxes, points_from_world: Tensor | None) -> Boxes:
    """Boxes moved as the points were, by a matrix (4, 4): exact, so it must leave them upright boxes.

    The heading goes on pointing to where a box's front is; a mirrored box has it on the same side.
    """
    if points_from_world is None:
        raise ValueError("points must be moved by affine maps alone for boxes to follow, these were distorted")
    matrix, box = points_from_world.cpu().double(), boxes.box.double()
    cos, sin, none, one = box[:, 6].cos(), box[:, 6].sin(), box.new_zeros(len(box)), box.new_ones(len(box))
    axes = torch.stack([cos, sin, none, -sin, cos, none, none, none, one], dim=1).view(-1, 3, 3)  # a row for each
    axes = axes @ matrix[:3, :3].T
    scale = axes.norm(dim=2)
    unit = axes / scale[..., None]
    cosines = (unit @ unit.transpose(1, 2)).triu(1)
    if bool((cosines.abs() > _UPRIGHT).any()) or bool((unit[:, 2, :2].abs() > _UPRIGHT).any()):
        raise ValueError("points must be turned about z alone for boxes to follow, and not sheared or stretched")
    heading = torch.atan2(axes[:, 0, 1], axes[:, 0, 0])
    center = box[:, :3] @ matrix[:3, :3].T + matrix[:3, 3]
    moved = torch.cat((center, box[:, 3:6] * scale, heading[:, None]), dim=1)
    return Boxes(moved.to(boxes.box.dtype), boxes.label)


def _camera(views: Sequence[View]) -> Camera:
    sizes = sorted({view.size for view in views})
    if len(sizes) > 1:
        raise ValueError(f"views must have one size to be a batch, got {sizes}: crop or resize them to one")
    return Camera.cat([view.camera for view in views])


def _stack(views: Sequence[View], name: str) -> Tensor | None:
    maps = _all_or_none(name, [getattr(view, name) for view in views])
    return stacked(maps) if maps else None


def _cat(name: str, parts: Sequence[Tensor | None]) -> Tensor | None:
    there = _all_or_none(name, parts)
    return torch.cat(there) if there else None


def _all_or_none(name: str, parts: Sequence[Any]) -> list[Any]:
    there = [part for part in parts if part is not None]
    if there and len(there) < len(parts):
        raise ValueError(f"{name} must be in all samples of a batch or in none, got {len(there)} of {len(parts)}")
    return there


def _ptr(counts: Sequence[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)
