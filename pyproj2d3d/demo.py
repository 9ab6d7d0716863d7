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

from . import Camera, Matches, ViewFuser, project, sample, splat, visibility, zbuffer
from .report import (
    CloudView,
    FrameCounts,
    FramePictures,
    Report,
    depth_colors,
    label_colors,
    scale_colors,
    write_report,
)

if TYPE_CHECKING:
    from .data import Frame, Scene

MOST_POINTS = 200_000  # of a lifted cloud, and in the report's 3D view
SHOWN_FRAMES = 6


class DemoError(Exception):
    """The demo's input or output folder cannot be used; the message is one line for the user."""


@dataclass
class Cloud:
    """The points that the frames are matched with."""

    points: Tensor  # (N, 3) float32, world
    colors: Tensor | None  # (N, 3) uint8
    labels: Tensor | None  # (N,) int64
    origin: str  # a sentence for the report


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
    """Match, splat, sample and fuse every frame of a posed RGB-D folder; returns the path of the report.

    Args:
        data: a folder that :func:`pyproj2d3d.data.posed_folder.read_posed_folder` reads. None: a synthetic room is
            written to a temporary folder and read back.
        out: the folder for ``report.html``, made where it is missing.
        frames: how many of the synthetic room.

    Raises:
        DemoError: ``data`` holds no usable frames, or ``out`` cannot be written to.
    """
    from .data.posed_folder import read_posed_folder
    from .data.room import write_room

    out = _writable_folder(Path(out))
    clock = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="pyproj2d3d_room_") as temporary:
        if data is None:
            with clock("write the synthetic room"):
                write_room(temporary, frames=frames, seed=0, points=MOST_POINTS)
        try:
            with clock("find the frames"):
                scene = read_posed_folder(temporary if data is None else data)
        except (OSError, ValueError) as error:
            raise DemoError(error) from error  # it names the file
        name = "A synthetic room" if data is None else Path(data).resolve().name
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
    skipped = list(scene.skipped)
    cloud = _cloud(scene, skipped, clock)
    fused, counts = _match_and_fuse(scene, cloud, skipped, clock)
    if not counts:
        raise DemoError(f"{name}: none of {len(scene.frames)} frames can be read: {skipped[-1]}")
    readable = {row.name: row for row in counts}
    shown = _spread([frame for frame in scene.frames if frame.name in readable])
    pictures = [
        _pictures(frame, depth, image, readable[frame.name], cloud, fused, clock)
        for frame, depth, image in _read(tqdm(shown, "draw", disable=None), skipped, clock)
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
        seconds=clock.seconds,
        skipped=skipped,
        machine=f"torch {torch.__version__} on the CPU, {torch.get_num_threads()} threads.",
    )
    write_report(path, report)
    _print_summary(report, path)
    return path


def _read(frames: Iterable[Frame], skipped: list[str], clock: Stopwatch) -> Iterator[tuple[Frame, Tensor, Tensor]]:
    """Frames with their depth (H, W) and colour (H, W, 3); one that cannot be read is noted and left out."""
    for frame in frames:
        try:
            with clock("read the images"):
                depth, image = frame.depth(), frame.color()
        except (OSError, ValueError) as error:
            if str(error) not in skipped:  # the frames are read more than once
                skipped.append(str(error))
            continue
        yield frame, depth, image


def _spread(frames: list[Frame]) -> list[Frame]:
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), SHOWN_FRAMES)).round().long()
    return [frames[i] for i in chosen.tolist()]


# The cloud -----------------------------------------------------------------------------------------------------------


def _cloud(scene: Scene, skipped: list[str], clock: Stopwatch) -> Cloud:
    if scene.points is not None:
        return Cloud(scene.points, scene.colors, scene.labels, "The points come with the data.")
    points, colors, labels = torch.empty(0, 3), torch.empty(0, 3, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    voxel = 0.01
    for frame, depth, image in _read(tqdm(scene.frames, "lift depth to points", disable=None), skipped, clock):
        with clock("lift depth to points"):
            lifted = lift(depth, frame.camera, frame.depth_scale)
            at = visibility(lifted, frame.color_camera)  # a pixel of the colour image for each point, where it has one
            lifted, pixel = lifted[at.point.long()], at.pixel.long()
            marked = frame.labels()
            known = torch.full_like(pixel, -1) if marked is None else marked.flatten()[pixel]
            points, labels = torch.cat((points, lifted)), torch.cat((labels, known))
            colors = torch.cat((colors, image.flatten(0, 1)[pixel]))
            while len(keep := first_in_voxel(points, voxel)) > MOST_POINTS:
                voxel *= 1.1
            points, colors, labels = points[keep], colors[keep], labels[keep]
    origin = f"The depth images lifted to points, one point kept in each voxel of {100 * voxel:.1f} cm."
    return Cloud(points, colors, labels if bool((labels >= 0).any()) else None, origin)


def lift(depth: Tensor, camera: Camera, depth_scale: float, step: int = 2) -> Tensor:
    """Every step-th row and column of a depth image as points: (M, 3) float32, world."""
    height, width = depth.shape
    v, u = torch.meshgrid(torch.arange(0, height, step), torch.arange(0, width, step), indexing="ij")
    value = depth.to(torch.int32)[::step, ::step]
    valid = (value > 0) & (value < 65535)
    u, v, z = u[valid], v[valid], value[valid].double() / depth_scale
    k, world_from_camera = camera.intrinsics[0].double(), camera.world_from_camera[0].double()
    in_camera = torch.stack(((u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z, z), dim=-1)  # (M, 3)
    in_world = in_camera @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    return in_world.float()


def first_in_voxel(points: Tensor, size: float) -> Tensor:
    """The lowest point of every occupied voxel, in the order of the voxels."""
    cell = torch.floor(points.double() / size).long()
    cell -= cell.amin(0) if len(cell) else 0
    extent = cell.amax(0) + 1 if len(cell) else cell.new_ones(3)
    key = (cell[:, 0] * extent[1] + cell[:, 1]) * extent[2] + cell[:, 2]
    voxels, voxel_of_point = key.unique(return_inverse=True)
    first = torch.full_like(voxels, len(points))
    return first.scatter_reduce_(0, voxel_of_point, torch.arange(len(points)), "amin")


def spacing(points: Tensor) -> float:
    """Metres from a point to its neighbours, about, on surfaces that the points cover evenly."""
    if len(points) < 2:
        return 0.01
    coarse = float((points.amax(0) - points.amin(0)).norm()) / 100 or 0.01
    return coarse * math.sqrt(len(first_in_voxel(points, coarse)) / len(points))


# Matching and fusing -------------------------------------------------------------------------------------------------


def _match_and_fuse(
    scene: Scene, cloud: Cloud, skipped: list[str], clock: Stopwatch
) -> tuple[Fused, list[FrameCounts]]:
    points, n = cloud.points, len(cloud.points)
    filtered, unfiltered, cameras = ViewFuser(n, 3), ViewFuser(n, 3), ViewFuser(n, 3)
    counts = []
    for frame, depth, image in _read(tqdm(scene.frames, "match and fuse", disable=None), skipped, clock):
        inside, seen = match(points, frame, depth, clock)
        pixels, size = _as_map(image), frame.color_camera.size
        with clock("sample colours at the matches"):
            difference = [_color_difference(pixels, m, size, cloud.colors) for m in (inside, seen)]
        with clock("fuse colours over the frames"):
            unfiltered.add(pixels, inside, size)
            filtered.add(pixels, seen, size)
            position = frame.camera.world_from_camera[0, :3, 3].float().view(1, 3, 1, 1)
            cameras.add(position, seen, size)  # a map of one pixel is a constant
        labels = frame.labels()
        agreement = [_label_agreement(labels, m, cloud.labels) for m in (inside, seen)]
        counts.append(FrameCounts(frame.name, len(inside.point), len(seen.point), difference, agreement))
    with clock("fuse colours over the frames"):
        (mean, views), (mean_unfiltered, _), (seen_from, _) = filtered.result(), unfiltered.result(), cameras.result()
    return Fused(mean, mean_unfiltered, seen_from, views), counts


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
    depth_camera, camera = frame.camera, frame.color_camera
    if depth_camera.size == camera.size and all(
        torch.equal(getattr(depth_camera, part), getattr(camera, part)) for part in ("intrinsics", "world_from_camera")
    ):
        return matches
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
    frame: Frame, depth: Tensor, image: Tensor, counts: FrameCounts, cloud: Cloud, fused: Fused, clock: Stopwatch
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
    readings = _metres(depth, frame.depth_scale)
    valid = readings[readings > 0]
    near, far = torch.quantile(valid[::7], torch.tensor([0.01, 0.99])).tolist() if len(valid) > 7 else (0.0, 1.0)
    looks = depth_colors(uvz[0, :, 2], near, far) if cloud.labels is None else label_colors(cloud.labels)
    with clock("draw the pictures"):
        radius = max(1, round(across / 3))  # smaller, so that what lies behind remains visible between the dots
        unfiltered, filtered = (_scatter_plot(image, uvz, m, looks, radius) for m in (inside, seen))
        depth_picture = depth_colors(readings, near, far)
    return FramePictures(counts, image, depth_picture, (near, far), unfiltered, filtered, splatted)


def _scatter_plot(image: Tensor, uvz: Tensor, matches: Matches, colors: Tensor, radius: int) -> Tensor:
    """The matched points as squares over the dimmed image, in random order: a plot that knows of no depth."""
    order = 1 + torch.rand(uvz.shape[1], generator=torch.Generator().manual_seed(0))
    shuffled = torch.stack((uvz[..., 0], uvz[..., 1], order[None]), dim=-1)
    index, _ = zbuffer(shuffled, image.shape[:2], radius=radius, matches=matches)
    dots = splat(colors.float(), index)[0].permute(1, 2, 0)  # (H, W, 3)
    grey = 0.3 * image.float().mean(-1, keepdim=True)
    return torch.where(index[0, ..., None] >= 0, dots, grey).to(torch.uint8)


def _metres(depth: Tensor, depth_scale: float) -> Tensor:
    values = depth.to(torch.int32)
    return torch.where(values == 65535, 0, values).float() / depth_scale


def _cloud_view(scene: Scene, cloud: Cloud, fused: Fused) -> CloudView:
    keep = (fused.views > 0).nonzero()[:, 0]
    voxel, all_seen = 0.01, cloud.points[keep]
    while len(keep) > MOST_POINTS:
        keep = (fused.views > 0).nonzero()[:, 0][first_in_voxel(all_seen, voxel)]
        voxel *= 1.1
    colorings = {"with the depth filter": fused.filtered[keep], "without it": fused.unfiltered[keep]}
    if cloud.labels is not None:
        colorings["labels"] = label_colors(cloud.labels[keep])
    views = fused.views[keep].float()
    colorings["number of frames (light: many)"] = (
        scale_colors(1 - views / views.max()) if len(views) else torch.empty(0, 3)
    )
    poses = torch.cat([frame.camera.world_from_camera for frame in scene.frames])
    return CloudView(cloud.points[keep], fused.seen_from[keep], colorings, poses.float(), spacing(cloud.points[keep]))


def _print_summary(report: Report, path: Path) -> None:
    for line in report.skipped:
        print(f"skipped: {line}")
    print(f"{report.name}: {len(report.frames)} frames, {report.points:,} points, {sum(report.seconds.values()):.1f} s")
    print(f"A point falls into a picture {report.inside:,} times and is seen {report.seen:,} times: ", end="")
    print(f"the depth filter removes {report.removed}.")
    print(f"Open {path}")
