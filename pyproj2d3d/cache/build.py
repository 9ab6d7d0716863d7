"""Which scenes still lack their cache? Builds those of this process's share, and goes on where it was stopped."""

from __future__ import annotations

import errno
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..ops._check import FEATURES, check_int, check_tensor, check_tolerance
from ..ops.project import project
from ..ops.visibility import DEFAULT_TOLERANCE, visibility
from ..ops.zbuffer import zbuffer
from .reader import BrokenCacheError, FeatureCache
from .writer import check_stored

__all__ = ["BuiltCaches", "build_caches"]


@dataclass(frozen=True)
class BuiltCaches:
    """What :func:`build_caches` has done in this shard."""

    built: tuple[Path, ...]  # written now
    skipped: tuple[Path, ...]  # there before


def build_caches(
    scenes: Sequence[Any],
    directory: str | os.PathLike[str],
    features: Callable[[Any], Tensor],
    *,
    stride: int = 8,
    radius: int = 1,
    tolerance: float | Sequence[float] | None = None,
    dtype: torch.dtype = torch.float16,
    shard: int | None = None,
    shards: int | None = None,
) -> BuiltCaches:
    """A cache for each scene, ``directory/<scene.name>.safetensors``; goes on where it was stopped.

    A frame keeps, at every stride-th pixel, the nearest of the points that pass the depth test: :func:`visibility`
    with the frame's depth, then :func:`zbuffer` of those matches.

    Args:
        scenes: as :class:`pyproj2d3d.data.Scene`: ``name``, ``points`` (N, 3), and ``frames`` with ``name``,
            ``camera``, ``depth()`` and ``depth_scale`` (not asked for where depth is in float metres). Names differ and
            are fit for files. A scene is looked at twice: for its name, and when it is built.
        directory: made where there is none.
        features: gives the (N, C) features of a scene's points, the output of a 3D network; called for those scenes
            alone that are built, without gradients. (For maps of images use :class:`FeatureCache` itself.)
        stride, radius: of the z-buffer.
        tolerance: of the depth test, as :func:`visibility` takes it; the metadata hold it under "depth_rule".
        dtype: of the features in the files.
        shard, shards: build every ``shards``-th scene, from number ``shard`` on. Without them RANK and WORLD_SIZE say
            so (torchrun), else SLURM_ARRAY_TASK_ID, _MIN, _STEP and _COUNT, else all scenes are built.

    A scene is skipped whose file opens and has the same frames and settings; a truncated or damaged one is built again.
    What ``features`` computes is not compared: after a change of the network give another directory. If a scene fails
    the others are built all the same, except after a full disk, and an error at the end names all that failed.

    Raises:
        TypeError, ValueError: an argument of another type or range than said here; a name that is used twice or no file
            name; a file of other frames or settings, or that is no feature cache (no such file is overwritten). All
            this is found before any scene is built.
        RuntimeError: some scenes failed; the first failure is its cause.
    """
    stride, radius = check_stored(stride, radius, dtype)
    abc = DEFAULT_TOLERANCE if tolerance is None else check_tolerance(tolerance)
    if not all(map(math.isfinite, abc)):
        raise ValueError(f"tolerance must be finite, for the metadata are JSON, got {tolerance!r}")
    rule = {"rule": "|depth - z| <= a + b z + c z^2", "tolerance": list(abc)}
    settings = {"stride": stride, "radius": radius, "dtype": dtype, "metadata": {"depth_rule": rule}}
    shard, shards = _share(shard, shards, os.environ)
    names = [scene.name for scene in scenes]
    _check_names(names)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    todo, skipped = [], []
    for i in range(shard, len(names), shards):
        path = folder / f"{names[i]}.safetensors"
        if _is_built(path, [frame.name for frame in scenes[i].frames], settings):
            skipped.append(path)
        else:
            todo.append((i, path))

    built, failed = [], {}
    for i, path in todo:
        try:
            _build(scenes[i], path, features, settings)
            built.append(path)
        except Exception as error:
            failed[names[i]] = error
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                break  # the others would compute their features for nothing
    if failed:
        lines = "".join(f"\n  {name}: {type(error).__name__}: {error}" for name, error in failed.items())
        text = f"{len(failed)} scenes failed; {len(built)} of {len(todo)} were built, and stay:{lines}"
        raise RuntimeError(text) from next(iter(failed.values()))
    return BuiltCaches(tuple(built), tuple(skipped))


def _build(scene: Any, path: Path, features: Callable[[Any], Tensor], settings: dict[str, Any]) -> None:
    points = scene.points
    if points is None:
        raise ValueError(f"points of scene {scene.name!r} must be there, got None")
    with torch.no_grad():
        rows = features(scene)
    check_tensor("features(scene)", rows, FEATURES, len(points), None)
    tolerance = settings["metadata"]["depth_rule"]["tolerance"]
    with FeatureCache.create(path, len(scene.frames), **settings) as cache:
        for frame in scene.frames:
            camera, depth = frame.camera.to(points.device), frame.depth()[None].to(points.device)
            scale = frame.depth_scale if depth.dtype == torch.uint16 else None
            seen = visibility(points, camera, depth, depth_scale=scale, tolerance=tolerance)
            grid = {"radius": settings["radius"], "stride": settings["stride"]}
            index, _ = zbuffer(project(points, camera), camera.size, **grid, matches=seen)
            cache.add(frame.name, camera, index, rows)


def _is_built(path: Path, frames: list[str], settings: dict[str, Any]) -> bool:
    """Whether the file is there and whole; ValueError where it is another."""
    try:
        cache = FeatureCache.open(path)
    except (FileNotFoundError, BrokenCacheError):
        return False
    there = {"stride": cache.stride, "radius": cache.radius, "dtype": cache.dtype}
    wanted = {key: settings[key] for key in there}
    rule = cache.metadata.get("depth_rule")
    there["tolerance"] = rule.get("tolerance") if isinstance(rule, dict) else rule
    wanted["tolerance"] = settings["metadata"]["depth_rule"]["tolerance"]
    others = [f"{key} {there[key]} instead of {wanted[key]}" for key in there if there[key] != wanted[key]]
    if list(cache.names) != frames:
        others.append(f"{len(cache)} frames that are not the {len(frames)} of the scene")
    if others:
        raise ValueError(f"{path}: was built with {', '.join(others)}. Remove it, or give another directory")
    return True


def _check_names(names: list[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"the name of a scene must be a string, got {name!r}")
        if (
            not name
            or name.startswith(".")
            or not name.isprintable()
            or set(name) & set("/\\")
            or len(os.fsencode(name)) > 200
        ):
            raise ValueError(f"the name of a scene must be fit for a file, got {name!r}")
    for name, times in Counter(names).items():
        if times > 1:
            raise ValueError(f"the names of scenes must differ, {times} are called {name!r}")


def _share(shard: int | None, shards: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Which shard, of how many."""
    said = "shard"
    if shard is None and shards is None:
        if {"RANK", "WORLD_SIZE"} <= environment.keys():
            said = "RANK"
            shard, shards = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        elif {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"} <= environment.keys():
            said = "SLURM_ARRAY_TASK_ID, less _MIN and by _STEP,"
            first, step = (_number(environment, f"SLURM_ARRAY_TASK_{key}", n) for key, n in (("MIN", 0), ("STEP", 1)))
            check_int("SLURM_ARRAY_TASK_STEP", step, 1)
            shard = (_number(environment, "SLURM_ARRAY_TASK_ID") - first) // step
            shards = _number(environment, "SLURM_ARRAY_TASK_COUNT")
        else:
            return 0, 1
    if shard is None or shards is None:
        raise ValueError(f"shard and shards must be given together, got {shard} and {shards}")
    shard, shards = check_int("shard", shard, 0), check_int("shards", shards, 1)
    if shard >= shards:
        raise ValueError(f"{said} must be below the number of shards, got {shard} of {shards}")
    return shard, shards


def _number(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    try:
        return int(environment.get(name, default))
    except ValueError:
        raise ValueError(f"{name} in the environment must be a number, got {environment[name]!r}") from None
