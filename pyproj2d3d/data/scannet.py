"""Which scenes does ScanNet v2 hold? Recordings, meshes with labels and objects, from the files as downloaded."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .images import ENCODINGS, UNKNOWN, mapped
from .ply import colors_of, read_mesh_ply, read_ply, xyz_of
from .posed_images import Files, check_invertible, posed_frames
from .scannet_labels import (
    CLASSES,
    LABEL_MAP,
    InstanceImage,
    LabelImage,
    Tables,
    class_of_nyu40,
    nyu40_of_objects,
    read_label_map,
    read_objects,
)
from .scene import Boxes, Cloud, Frames, Scene, SceneDataset
from .sens import SensFile

SPLITS = ("train", "val", "test")
FRAMES = ("auto", "sens", "export", "frames_25k")
_SCANS = ("scans", "scans_test")
_SUBSETS = ("scannet_frames_25k", "scannet_frames_test")
_SCENE = re.compile(r"scene\d{4}_\d{2}")
_IMAGES = {"depth": r"(\d+)\.png", "color": r"(\d+)\.(?:png|jpe?g)", "pose": r"(\d+)\.txt"}
_NO_BOX = ("wall", "floor", "ceiling")


@dataclass(frozen=True, eq=False, repr=False)
class ScanNet(SceneDataset):
    """Fetch ScanNet v2 with its ``download-scannet.py`` (github.com/ScanNet/ScanNet, after signing the terms of use)
    and give the folder that it wrote to; put ``scannetv2_{train,val,test}.txt`` (``Tasks/Benchmark`` there) beside.

    Scenes are the folders ``sceneXXXX_YY`` below ``scans/``, ``scans_test/``, ``scannet_frames_25k/`` and
    ``scannet_frames_test/`` (the last two also below ``tasks/``), or right below ``root``. Read are, where they are:

    * frames: ``SCENE.sens``, or ``color/ depth/ pose/ intrinsic/`` as ``SensReader`` exports them; in
      ``scannet_frames_25k/SCENE/`` ``color/ depth/ pose/ intrinsics_color.txt intrinsics_depth.txt``.
    * classes of the colour images: ``label-filt/``, else ``label/``. 16-bit ids are ScanNet's own, 8-bit ones NYU40's.
    * objects of the colour images: ``instance-filt/``, else ``instance/``. 8-bit ids are objectId + 1.
    * ``SCENE_vh_clean_2.ply``: vertices, colours, faces.
    * ``SCENE_vh_clean_2.labels.ply``: the NYU40 id of each vertex.
    * ``SCENE_vh_clean_2.0.010000.segs.json``: superpoints.
    * ``SCENE.aggregation.json``: objects as segments, and their names.
    * ``SCENE.txt``: axis alignment, scene type.
    * ``scannetv2-labels.combined.tsv`` in ``root``: NYU40 ids of ScanNet's own ids and of names.

    Args:
        split: "train" (1201), "val" (312) or "test" (100), of ``scannetv2_SPLIT.txt`` in ``root``. None: all scenes.
        labels: "scannet20", the benchmark's classes, or "nyu40". What ScanNet annotates beyond them is -1.
        frames: where they come from: "sens"; "export"; "frames_25k"; "auto": the first of these that a scene has, and
            no frames where it has none.

    ``Cloud.instance`` is the objectId, so the same as ``Frame.instance()`` of the archives' 8-bit images; in
    ``scannet_frames_25k`` instances count anew in every image. ``Scene.boxes`` are those that VoteNet takes: around the
    vertices of an object, along the axes of ``aligned_from_world``, of all classes but wall, floor and ceiling; here
    with their heading, in the world of the poses.

    Traps: depth (640x480) and colour (1296x968) have their own intrinsics; they share a pose, as in ScanNet's own
    tools, although ``colorToDepthExtrinsics`` in ``SCENE.txt`` says that they are some centimetres apart. Label images
    have the size of colour. ``SCENE_vh_clean.aggregation.json`` is of the mesh in full resolution, which is not read:
    its segments are other ones. The mesh is not aligned. Tracking is lost in some frames: they are left out, with a
    warning. In the ``labels.ply`` of three scenes the ids 50 and 149 occur, which NYU40 does not have; they are -1.
    Without ``labels.ply`` labels come from the names of the objects. scene0217_00 has its objects twice; the second
    ones count. Test scenes have neither labels nor alignment.

    Sources: README, ``SensReader/python/SensorData.py``, ``BenchmarkScripts/util.py``, ``2d_helpers/``,
    ``3d_evaluation/`` and ``AnnotationTools/ProjectAnnotations`` of github.com/ScanNet/ScanNet, its issues 16, 20, 47,
    51 and 86; ``scannet/`` of github.com/facebookresearch/votenet.

    Raises:
        FileNotFoundError: no scene below ``root``, or the list of the split is not there.
        ValueError: another split, labels or frames than said here, or a list that names no scene.
    """

    TITLE: ClassVar[str] = "ScanNet v2"

    labels: str = "scannet20"
    frames: str = "auto"
    _scans: dict[str, str] = field(init=False, repr=False, default_factory=dict)  # by scene, the folder above its own
    _subset: dict[str, str] = field(init=False, repr=False, default_factory=dict)  # the same for scannet_frames_*

    def __post_init__(self) -> None:
        root = Path(self.root)
        for argument, given, allowed in (
            ("split", self.split, (None, *SPLITS)),
            ("labels", self.labels, tuple(CLASSES)),
            ("frames", self.frames, FRAMES),
        ):
            if given not in allowed:
                raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, got {given!r}")
        here = _listed(root)
        tasks = [f"tasks/{name}" for name in _listed(root / "tasks")] if "tasks" in here else []
        for folder in (name for name in _SCANS if name in here):
            self._scans.update(dict.fromkeys(_scenes(_listed(root / folder)), folder))
        self._scans.update(dict.fromkeys(_scenes(here), "."))
        for folder in (name for name in (*here, *tasks) if name.removeprefix("tasks/") in _SUBSETS):
            self._subset.update(dict.fromkeys(_scenes(_listed(root / folder)), folder))
        names = self._scans.keys() | self._subset.keys()
        missing = [] if LABEL_MAP in here else [f"{LABEL_MAP}: what the names and ids of labels mean"]
        if self.frames == "frames_25k" and not self._subset:
            missing.append("scannet_frames_25k/: frames")
        if not names:
            raise FileNotFoundError(
                f"{root}: no scenes: looked for sceneXXXX_YY here and in {', '.join((*_SCANS, *_SUBSETS))}"
            )
        if self.split is not None:
            wanted = _read_split(root / f"scannetv2_{self.split}.txt", self.split)
            absent = sorted(set(wanted) - names)
            names = names & set(wanted)
            if absent:
                missing.append(f"{len(absent)} of the {len(wanted)} scenes of {self.split}: {_some(absent)}")
            if not names:
                raise FileNotFoundError(f"{root}: none of the {len(wanted)} scenes of {self.split} is there")
        for name, value in (
            ("root", root),
            ("names", tuple(sorted(names))),
            ("classes", CLASSES[self.labels]),
            ("missing", tuple(missing)),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def is_in(names: set[str]) -> bool:
        return bool(names & {*_SCANS, *_SUBSETS, "tasks"}) or any(_SCENE.fullmatch(name) for name in names)

    def _open(self, name: str) -> Scene:
        """Its folder is listed and its ``SCENE.txt`` is read; an OSError or ValueError says why they cannot be."""
        subset = self.root / self._subset[name] / name if name in self._subset else None
        if name not in self._scans:
            return Scene(name, self._read_frames(None, subset, name, set()))
        folder = self.root / self._scans[name] / name
        held = set(_listed(folder))
        info = _read_info(folder / f"{name}.txt") if f"{name}.txt" in held else {}
        alignment = None
        if "axisAlignment" in info:
            alignment = partial(_alignment, folder / f"{name}.txt", info["axisAlignment"])
        mesh = f"{name}_vh_clean_2"
        cloud = boxes = None
        if f"{mesh}.ply" in held:
            paths = [f"{mesh}.labels.ply", f"{mesh}.0.010000.segs.json", f"{name}.aggregation.json"]
            labels, segments, aggregation = (folder / path if path in held else None for path in paths)
            label_map = self.root / LABEL_MAP
            cloud = partial(read_cloud, folder / f"{mesh}.ply", labels, segments, aggregation, label_map, self.labels)
            if segments and aggregation:
                boxes = partial(_boxes, cloud, alignment, self.classes)
        frames = self._read_frames(folder, subset, name, held)
        return Scene(name, frames, cloud, boxes, alignment, info.get("sceneType"))

    def _read_frames(self, folder: Path | None, subset: Path | None, name: str, held: set[str]) -> partial[Frames]:
        tables = partial(_tables, self.root / LABEL_MAP, self.labels)
        source = self.frames
        if source == "auto":
            is_there = {"sens": f"{name}.sens" in held, "export": {"depth", "color"} <= held, "frames_25k": subset}
            source = next((kind for kind, there in is_there.items() if there), "")
        if not source:
            return partial(Frames)
        if source == "frames_25k":
            intrinsics = "intrinsics_depth.txt", "intrinsics_color.txt"
            return partial(_image_frames, subset or self.root / _SUBSETS[0] / name, intrinsics, tables)
        folder = folder or self.root / _SCANS[0] / name
        if source == "export":
            intrinsics = "intrinsic/intrinsic_depth.txt", "intrinsic/intrinsic_color.txt"
            return partial(_image_frames, folder, intrinsics, tables)
        return partial(_sens_frames, folder / f"{name}.sens", tables)


def read_cloud(
    mesh: Path, labels: Path | None, segments: Path | None, aggregation: Path | None, label_map: Path, classes: str
) -> Cloud:
    """The mesh of a scene and all that is known of its vertices.

    Raises:
        ValueError: a file that does not hold what it should, or has another number of vertices than the mesh.
    """
    vertices, faces = read_mesh_ply(mesh)
    colors, n = colors_of(mesh, vertices), len(vertices)
    objects = read_objects(segments, aggregation, n) if segments else None
    nyu40 = None
    if labels:
        labelled = read_ply(labels)
        if len(labelled) != n:
            raise ValueError(f"{labels}: must have the {n} vertices of {mesh}, got {len(labelled)}")
        if "label" not in (labelled.dtype.names or ()) or labelled.dtype["label"].kind not in "iu":
            raise ValueError(f"{labels}: vertices must have an integer property label, got {labelled.dtype}")
        nyu40 = labelled["label"].astype(np.int64)
    elif objects and aggregation and objects.group is not None:
        nyu40 = nyu40_of_objects(objects, read_label_map(label_map), aggregation)
    semantic = None if nyu40 is None else mapped(nyu40, class_of_nyu40(classes), labels or aggregation)
    return Cloud(
        torch.from_numpy(xyz_of(vertices)),
        _tensor(colors),
        semantic=_tensor(semantic),
        instance=_tensor(objects.instance if objects else None),
        superpoint=_tensor(objects.superpoint if objects else None),
        faces=_tensor(faces),
    )


def _tensor(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def _boxes(cloud: partial[Cloud], alignment: partial[Tensor] | None, classes: tuple[str, ...]) -> Boxes:
    """Around the objects along the axes of the alignment, which must be a turn about z, in the world of the cloud."""
    read = cloud()
    aligned_from_world = np.eye(4) if alignment is None else alignment().numpy()
    turn, shift = aligned_from_world[:3, :3], aligned_from_world[:3, 3]
    if abs(turn[2, 2] - 1) > 1e-3 or abs(turn @ turn.T - np.eye(3)).max() > 1e-3:
        raise ValueError(f"{alignment.args[0] if alignment else ''}: axisAlignment must turn about z alone, got {turn}")
    box, label = [], []
    if read.semantic is not None and read.instance is not None:
        points = read.points.double().numpy() @ turn.T + shift
        instance, semantic = read.instance.numpy(), read.semantic.numpy()
        order = np.argsort(instance, kind="stable")
        ids, first = np.unique(instance[order], return_index=True)
        for i, members in zip(ids, np.split(order, first[1:]), strict=True):
            kind = int(semantic[members[0]])
            if i >= 0 and kind >= 0 and classes[kind] not in _NO_BOX:
                low, high = points[members].min(axis=0), points[members].max(axis=0)
                centre = np.linalg.inv(turn) @ ((low + high) / 2 - shift)
                box.append([*centre, *(high - low), -math.atan2(turn[1, 0], turn[0, 0])])
                label.append(kind)
    return Boxes(torch.tensor(box, dtype=torch.float32).reshape(-1, 7), torch.tensor(label, dtype=torch.int64))


def _tables(label_map: Path, labels: str) -> Tables:
    of_nyu40 = class_of_nyu40(labels)
    try:
        of_id = read_label_map(label_map).of_id
    except FileNotFoundError:
        return Tables(of_nyu40, None, label_map)
    return Tables(of_nyu40, np.where(of_id == UNKNOWN, UNKNOWN, of_nyu40[of_id]), label_map)


def _sens_frames(path: Path, tables: partial[Tables]) -> Frames:
    return _labelled(SensFile(path).frames(), path.parent, tables)


def _image_frames(folder: Path, intrinsics: tuple[str, str], tables: partial[Tables]) -> Frames:
    files: Files = {}
    for kind, pattern in _IMAGES.items():
        for name in sorted(_listed(folder / kind)):  # of two colour images the later name is kept: the png
            if found := re.fullmatch(pattern, name):
                files.setdefault(found[1], {})[kind] = folder / kind / name
    files = {name: files[name] for name in sorted(files, key=lambda name: (int(name), name))}
    for name, of_frame in files.items():
        for kind in _IMAGES:
            if kind not in of_frame:
                raise FileNotFoundError(f"{folder / kind}: frame {name} has no {kind} file")
    if not files:
        return Frames()
    depth, color = (folder / path for path in intrinsics)
    return _labelled(posed_frames(folder, files, depth, color, ENCODINGS["millimetres"]), folder, tables)


def _labelled(frames: Frames, folder: Path, tables: partial[Tables]) -> Frames:
    """With the label images of the folder, where it has them."""
    held = set(_listed(folder))
    found: dict[str, dict[str, Path]] = {}
    for kind in ("label", "instance"):
        place = next((folder / name for name in (f"{kind}-filt", kind) if name in held), None)
        images = _listed(place) if place else []
        found[kind] = {Path(name).stem: place / name for name in images if place and name.endswith(".png")}
    if not any(found.values()):
        return frames
    table = tables()
    with_labels = []
    for frame in frames:
        label, instance = (found[kind].get(frame.name) for kind in ("label", "instance"))
        semantic = LabelImage(label, table) if label else None
        objects = InstanceImage(instance) if instance else None
        with_labels.append(replace(frame, read_semantic=semantic, read_instance=objects))
    return Frames(with_labels, frames.skipped)


def _read_info(path: Path) -> dict[str, str]:
    """The lines ``key = value`` of a scene's text."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be text ({error})") from None
    if bad := [line for line in lines if "=" not in line]:
        raise ValueError(f"{path}: must have lines key = value, got {bad[0][:60]!r}")
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _alignment(path: Path, text: str) -> Tensor:
    try:
        matrix = np.array([float(number) for number in text.split()]).reshape(4, 4)
    except ValueError:
        raise ValueError(f"{path}: axisAlignment must have 16 numbers, got {text[:60]!r}") from None
    if not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(f"{path}: axisAlignment must be finite and end in 0 0 0 1, got {matrix.tolist()}")
    check_invertible(path, matrix)
    return torch.from_numpy(matrix)


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder}: must be a folder, there is none") from None
    except NotADirectoryError:
        raise NotADirectoryError(f"{folder}: must be a folder, got a file") from None


def _scenes(names: list[str]) -> list[str]:
    return [name for name in names if _SCENE.fullmatch(name)]


def _read_split(path: Path, split: str) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file, the scenes of {split} were looked for there") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be text, a scene on each line ({error})") from None
    if bad := [name for name in names if not _SCENE.fullmatch(name)]:
        raise ValueError(f"{path}: must name a scene sceneXXXX_YY on each line, got {bad[0][:60]!r}")
    return names


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
