"""What does the library do with posed RGB-D frames? Every operation, on a folder or a synthetic room, and a report."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from . import FeatureCache, Matches, ViewFuser, project, sample, splat, visibility, voxelize, zbuffer
from .data.scene import metres_of
from .demo_cache import FILE, Kept, cache_facts, choose_pixels, dimmed, kept_picture, kept_pixels, write_cache
from .demo_clouds import MOST_POINTS, Cloud, ThinnedCloud, VoxelGrid, lift, share_camera, spacing, thin
from .report import FrameCounts, FramePictures, Report, VoxelCounts, write_report
from .report_3d import CloudView, VoxelView
from .report_colors import depth_colors, label_colors, scale_colors

if TYPE_CHECKING:
    from .data import Frame, Scene

SHOWN_FRAMES = 6

Images = tuple["Frame", Tensor, Tensor, Tensor | None]  # with depth (H, W), colour (H, W, 3) and labels (H, W)


class DemoError(Exception):
    """The demo's input or output folder cannot be used; the message is one line for the user."""


@dataclass
class Fused:
    """What all frames together say about each point."""

    filtered: Tensor  # (N, 3) float32, mean colour over the frames that see the point
    unfiltered: Tensor  # (N, 3) float32, mean colour over all frames that have the point in their picture
    seen_from: Tensor  # (N, 3) float32, mean position of the cameras that see it
    views: Tensor  # (N,) int32, how many these are


@dataclass
class Stopwatch:
    """Seconds spent in each named step, in the order of their first use."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


def demo(data: str | Path | None = None, out: str | Path = "demo_report", *, frames: int = 24) -> Path:
    """Lift, match, splat, sample and fuse every frame of a posed RGB-D folder; returns the path of the report.

    Args:
        data: a folder of posed frames, or any other that :func:`pyproj2d3d.data.open_dataset` opens, of which the first
            scene is taken. None: a synthetic room is written to a temporary folder and read back.
        out: the folder for ``report.html`` and for ``features.safetensors``, a feature cache of the fused colours; made
            where it is missing.
        frames: how many of the synthetic room.

    Raises:
        DemoError: ``data`` holds no usable frames, or ``out`` cannot be written to.
    """
    from .data.open_dataset import open_dataset
    from .data.room import write_room

    out = _writable_folder(Path(out))
    clock = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="pyproj2d3d_room_") as temporary:
        if data is None:
            with clock("write the synthetic room"):
                write_room(temporary, frames=frames, seed=0, points=MOST_POINTS)
        try:
            with clock("find the frames"):
                scene = open_dataset(temporary if data is None else data)[0]
                _ = scene.cloud  # read here, so that what is wrong with it is said here
                if not scene.frames:
                    raise ValueError(f"{data}: scene {scene.name} has no frames, the demo needs some")
        except (OSError, ValueError) as error:
            raise DemoError(error) from error  # it names the file
        name = "A synthetic room" if data is None else scene.name
        return _run(scene, name, out / "report.html", clock)


def _writable_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # better to know now than after the work
    except OSError as error:
        raise DemoError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def _run(scene: Scene, name: str, path: Path, clock: Stopwatch) -> Path:
    skipped = list(scene.frames.skipped)
    cloud, grid = _lift(scene, skipped, clock)
    fused, counts, kept = _match_and_fuse(scene, cloud, skipped, clock)
    if not counts:
        raise DemoError(f"{name}: none of {len(scene.frames)} frames can be read: {skipped[-1]}")
    cache = _cached(path.with_name(FILE), kept, fused.filtered, clock)
    readable = {row.name: row for row in counts}
    shown = _spread([frame for frame in scene.frames if frame.name in readable])
    pictures = [
        _pictures(frame, depth, image, readable[frame.name], cloud, fused, cache, clock)
        for frame, depth, image, _ in _read(tqdm(shown, "draw", disable=None), skipped, clock)
    ]
    with clock("thin the cloud for the 3D view"):
        view = _cloud_view(scene, cloud, fused)
    report = Report(
        name=name,
        cloud_origin=cloud.origin,
        points=len(cloud.points),
        unseen=int((fused.views == 0).sum()),
        frames=counts,
        pictures=pictures,
        cloud=view,
        voxels=VoxelView(grid.size, grid.centers, grid.seen_from, grid.colors, grid.counts),
        voxel_counts=_voxel_counts(cloud, grid, clock),
        cache=cache_facts(cache, kept),
        seconds=clock.seconds,
        skipped=skipped,
        machine=f"torch {torch.__version__} on the CPU, {torch.get_num_threads()} threads.",
    )
    write_report(path, report)
    _print_summary(report, path)
    return path


def _cached(path: Path, kept: list[Kept], features: Tensor, clock: Stopwatch) -> FeatureCache:
    """The features of the kept pixels, written to disk and read back from there."""
    try:
        with clock("write the feature cache"):
            write_cache(path, kept, features)
        with clock("read the feature cache"):
            return FeatureCache.open(path)
    except OSError as error:
        raise DemoError(f"cannot write to {path.parent}: {error}") from error


def _read(frames: Iterable[Frame], skipped: list[str], clock: Stopwatch) -> Iterator[Images]:
    """Frames with their images; a frame that has one that cannot be read is noted and left out."""
    for frame in frames:
        try:
            with clock("read the images"):
                images = frame.depth(), frame.color(), frame.semantic()
        except (OSError, ValueError) as error:
            if str(error) not in skipped:  # the frames are read more than once
                skipped.append(str(error))
            continue
        yield frame, *images


def _spread(frames: list[Frame]) -> list[Frame]:
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), SHOWN_FRAMES)).round().long()
    return [frames[i] for i in chosen.tolist()]


# Lifting, matching and fusing ----------------------------------------------------------------------------------------


def _lift(scene: Scene, skipped: list[str], clock: Stopwatch) -> tuple[Cloud, VoxelGrid]:
    """The points that the frames will be matched with, and what all frames saw, in voxels."""
    grid, thinned = VoxelGrid(), ThinnedCloud()
    for frame, depth, image, labels in _read(tqdm(scene.frames, "lift", disable=None), skipped, clock):
        with clock("lift depth to points"):
            lifted = lift(frame, depth, image, labels)
        with clock("gather the frames in voxels"):
            grid.add(lifted)
        if scene.cloud is None:
            with clock("thin the lifted points"):
                thinned.add(lifted)
    if scene.cloud is None:
        return thinned.result(), grid
    points, colors, labels = scene.cloud.points, scene.cloud.colors, scene.cloud.semantic
    return Cloud(points, colors, labels, "The points come with the data."), grid


def _match_and_fuse(
    scene: Scene, cloud: Cloud, skipped: list[str], clock: Stopwatch
) -> tuple[Fused, list[FrameCounts], list[Kept]]:
    points, n = cloud.points, len(cloud.points)
    filtered, unfiltered, cameras = ViewFuser(n, 3), ViewFuser(n, 3), ViewFuser(n, 3)
    counts, kept = [], []
    for frame, depth, image, labels in _read(tqdm(scene.frames, "match and fuse", disable=None), skipped, clock):
        inside, seen = match(points, frame, depth, clock)
        pixels, size = _as_map(image), frame.color_camera.size
        with clock("sample colours at the matches"):
            difference = [_color_difference(pixels, m, size, cloud.colors) for m in (inside, seen)]
        with clock("fuse colours over the frames"):
            unfiltered.add(pixels, inside, size)
            filtered.add(pixels, seen, size)
            position = frame.camera.world_from_camera[0, :3, 3].float().view(1, 3, 1, 1)
            cameras.add(position, seen, size)  # a map of one pixel is a constant
        with clock("choose the pixels of the cache"):
            kept.append(choose_pixels(frame.name, frame.color_camera, project(points, frame.color_camera), seen))
        agreement = [_label_agreement(labels, m, cloud.labels) for m in (inside, seen)]
        counts.append(FrameCounts(frame.name, len(inside.point), len(seen.point), difference, agreement))
    with clock("fuse colours over the frames"):
        (mean, views), (mean_unfiltered, _), (seen_from, _) = filtered.result(), unfiltered.result(), cameras.result()
    return Fused(mean, mean_unfiltered, seen_from, views), counts, kept


def match(points: Tensor, frame: Frame, depth: Tensor, clock: Stopwatch) -> tuple[Matches, Matches]:
    """Points that fall into the frame, and those that it really sees; both at the pixels of its colour image."""
    with clock("visibility without depth"):
        inside = visibility(points, frame.camera)
    with clock("visibility with depth"):
        seen = visibility(points, frame.camera, depth[None], depth_scale=frame.depth_scale)
    with clock("move matches to the colour image"):
        return _in_color_image(points, inside, frame), _in_color_image(points, seen, frame)


def _in_color_image(points: Tensor, matches: Matches, frame: Frame) -> Matches:
    """The depth sensor decides what is seen; the colour camera may have other intrinsics, size and pose."""
    if share_camera(frame):
        return matches
    camera = frame.color_camera
    at = visibility(points[matches.point.long()], camera)
    return Matches(at.ptr, matches.point[at.point.long()], at.pixel, len(points), camera.size)


def _color_difference(pixels: Tensor, matches: Matches, size: tuple[int, int], colors: Tensor | None) -> float | None:
    """Mean absolute difference, in 8-bit steps, of a point's own colour and the pixels matched with it."""
    if colors is None or len(matches.point) == 0:
        return None
    found = sample(pixels, matches, size)
    return (found - colors[matches.point.long()]).abs().mean().item()


def _label_agreement(labels: Tensor | None, matches: Matches, point_labels: Tensor | None) -> float | None:
    """Share of matches whose pixel carries the label of the point, among those where both are labelled."""
    if labels is None or point_labels is None:
        return None
    pixel, point = labels.flatten()[matches.pixel.long()], point_labels[matches.point.long()]
    labelled = (pixel >= 0) & (point >= 0)
    return (pixel == point)[labelled].float().mean().item() if bool(labelled.any()) else None


def _as_map(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 to a feature map (1, 3, H, W) float32."""
    return image.permute(2, 0, 1)[None].float()


# What the report shows -----------------------------------------------------------------------------------------------


def _pictures(
    frame: Frame,
    depth: Tensor,
    image: Tensor,
    counts: FrameCounts,
    cloud: Cloud,
    fused: Fused,
    cache: FeatureCache,
    clock: Stopwatch,
) -> FramePictures:
    inside, seen = match(cloud.points, frame, depth, Stopwatch())  # timed before
    size = frame.color_camera.size
    uvz = project(cloud.points, frame.color_camera)  # (1, N, 3)
    distance = uvz[0, seen.point.long(), 2].median() if len(seen.point) else torch.tensor(torch.inf)
    across = float(
        frame.color_camera.intrinsics[0, 0, 0].abs() * spacing(cloud.points) / distance
    )  # from point to point
    with clock("z-buffer and splat the fused colours"):
        splatted = torch.zeros_like(image)
        for radius in (
            2 * math.ceil(across),
            math.ceil(across / 2),
        ):  # what is near has gaps: coarse there, fine over it
            index, _ = zbuffer(uvz, size, radius=radius, matches=seen)
            drawn = splat(fused.filtered, index)[0].permute(1, 2, 0).to(torch.uint8)  # (H, W, 3)
            splatted = torch.where(index[0, ..., None] >= 0, drawn, splatted)
    readings = metres_of(depth, frame.depth_scale)
    valid = readings[readings > 0]
    near, far = torch.quantile(valid[::7], torch.tensor([0.01, 0.99])).tolist() if len(valid) > 7 else (0.0, 1.0)
    looks = depth_colors(uvz[0, :, 2], near, far) if cloud.labels is None else label_colors(cloud.labels)
    with clock("draw the pictures"):
        radius = max(1, round(across / 3))  # smaller, so that what lies behind remains visible between the dots
        unfiltered, filtered = (_scatter_plot(image, uvz, m, looks, radius) for m in (inside, seen))
        depth_picture = depth_colors(readings, near, far)
    plain = kept_pixels(uvz, size, seen, radius=0)  # (h, w), as if the cache had been made without dilation
    with clock("read the feature cache"):
        dilated = cache[frame.name].dense()
    kept = [kept_picture(image, *part) for part in ((splat(fused.filtered, plain[None])[0], plain >= 0), dilated)]
    return FramePictures(counts, image, depth_picture, (near, far), unfiltered, filtered, splatted, kept)


def _scatter_plot(image: Tensor, uvz: Tensor, matches: Matches, colors: Tensor, radius: int) -> Tensor:
    """The matched points as squares over the dimmed image, in random order: a plot that knows of no depth."""
    order = 1 + torch.rand(uvz.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = torch.stack((uvz[..., 0], uvz[..., 1], order[None]), dim=-1)
    index, _ = zbuffer(shuffled, image.shape[:2], radius=radius, matches=matches)
    dots = splat(colors.float(), index)[0].permute(1, 2, 0)  # (H, W, 3)
    return torch.where(index[0, ..., None] >= 0, dots, dimmed(image)).to(torch.uint8)


def _cloud_view(scene: Scene, cloud: Cloud, fused: Fused) -> CloudView:
    keep = (fused.views > 0).nonzero()[:, 0]
    if len(keep) > MOST_POINTS:
        keep = keep[thin(cloud.points[keep], 0.01, MOST_POINTS)[0]]
    colorings = {"with the depth filter": fused.filtered[keep], "without it": fused.unfiltered[keep]}
    if cloud.labels is not None:
        colorings["labels"] = label_colors(cloud.labels[keep])
    views = fused.views[keep].float()
    colorings["number of frames (light: many)"] = (
        scale_colors(1 - views / views.max()) if len(views) else torch.empty(0, 3)
    )
    poses = torch.cat([frame.camera.world_from_camera for frame in scene.frames])
    return CloudView(cloud.points[keep], fused.seen_from[keep], colorings, poses.float(), spacing(cloud.points[keep]))


def _voxel_counts(cloud: Cloud, grid: VoxelGrid, clock: Stopwatch) -> list[VoxelCounts]:
    with clock("voxelize the cloud"):
        counts = {
            "every pixel of all frames, lifted": grid.counts,
            "the points that the frames are matched with": voxelize(cloud.points, grid.size).counts,
        }
    return [VoxelCounts(name, int(n.sum()), len(n), int(n.max()) if len(n) else 0) for name, n in counts.items()]


def _print_summary(report: Report, path: Path) -> None:
    for line in report.skipped:
        print(f"skipped: {line}")
    print(f"{report.name}: {len(report.frames)} frames, {report.points:,} points, {sum(report.seconds.values()):.1f} s")
    print(f"A point falls into a picture {report.inside:,} times and is seen {report.seen:,} times: ", end="")
    print(f"the depth filter removes {report.removed}.")
    lifted, edge = report.voxel_counts[0], 100 * report.voxels.size
    print(f"{lifted.points:,} pixels lifted to points lie in {lifted.voxels:,} voxels of {edge:g} cm.")
    file, (plain, dilated) = path.with_name(report.cache.file), report.cache.mean_coverage
    print(f"{file} covers {dilated:.1%} of every {report.cache.stride}th row and column, ", end="")
    print(f"{plain:.1%} without dilation.")
    print(f"Open {path}")
