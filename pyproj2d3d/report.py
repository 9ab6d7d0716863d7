"""What does a run of the demo look like? One page: pictures, counts, times, the cloud in 3D over its picture."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .report_3d import (
    CloudView,
    VoxelView,
    cloud_picture,
    count_colors,
    packed_cloud,
    packed_voxels,
    viewpoint_of,
    voxel_pictures,
)
from .report_colors import scale_colors


@dataclass
class FrameCounts:
    """One row of the table; a list is [without, with] the depth filter, None where there is nothing to compare."""

    name: str
    inside: int  # points that fall into the frame
    seen: int  # points that it really sees
    color_difference: list[float | None]
    label_agreement: list[float | None]


@dataclass
class FramePictures:
    """What is shown of one frame; images are (H, W, 3) uint8."""

    counts: FrameCounts
    image: Tensor
    depth: Tensor
    depth_range: tuple[float, float]  # metres, at the two ends of the colour scale
    unfiltered: Tensor
    filtered: Tensor
    splatted: Tensor
    kept: list[Tensor]  # the pixels that a cache covers, [without, with] dilation


@dataclass
class VoxelCounts:
    """A cloud counted in voxels."""

    cloud: str  # which
    points: int
    voxels: int
    most: int  # points in one voxel


@dataclass
class CacheFacts:
    """What was written, and read back; a list of coverages is [without, with] dilation, each from 0 to 1."""

    file: str
    stride: int
    radius: int
    channels: int
    dtype: str
    rows: int
    size: int  # bytes
    dense_size: int  # bytes, of the same features at every pixel of every frame
    coverage: dict[str, list[float]]  # by frame

    @property
    def mean_coverage(self) -> list[float]:
        """Over the frames."""
        return torch.tensor(list(self.coverage.values())).double().view(-1, 2).mean(0).tolist()


@dataclass
class Report:
    """Everything that the page says."""

    name: str
    cloud_origin: str  # a sentence
    points: int
    unseen: int  # points that no frame sees
    frames: list[FrameCounts]
    pictures: list[FramePictures]
    cloud: CloudView
    voxels: VoxelView
    voxel_counts: list[VoxelCounts]
    cache: CacheFacts
    seconds: dict[str, float]  # by step
    skipped: list[str]  # frames left out, a line each
    machine: str

    @property
    def inside(self) -> int:
        return sum(frame.inside for frame in self.frames)

    @property
    def seen(self) -> int:
        return sum(frame.seen for frame in self.frames)

    @property
    def removed(self) -> str:
        """By the depth filter, as a percentage."""
        return _share(self.inside - self.seen, self.inside)


def write_report(path: Path, report: Report) -> None:
    """Write the page."""
    viewpoint, voxels = viewpoint_of(report.cloud), report.voxels
    points, shape = packed_cloud(report.cloud, viewpoint)
    cubes, shape["voxels"] = packed_voxels(voxels, viewpoint)
    pictures = voxel_pictures(voxels, [voxels.colors, count_colors(voxels.counts)], viewpoint)
    labelled = any(frame.label_agreement[1] is not None for frame in report.frames)
    parts = {
        "name": html.escape(report.name),
        "tiles": _tiles(report),
        "origin": html.escape(report.cloud_origin),
        "unseen": _unseen(report),
        "picture": _data_url(cloud_picture(report.cloud, viewpoint)),
        "colorings": _coloring_buttons([*report.cloud.colorings, f"voxels of {_edge(voxels)}"]),
        "edge": _edge(voxels),
        "voxel_figures": _voxel_figures(pictures, int(voxels.counts.amax()) if len(voxels.counts) else 0),
        "voxel_counts": _voxel_table(report.voxel_counts),
        "dots": "the label of the point" if labelled else "its distance, in the colours of the depth picture",
        "frames": "".join(_figures(pictures) for pictures in report.pictures),
        "cache_tiles": _cache_tiles(report.cache),
        "file": html.escape(report.cache.file),
        "stride": str(report.cache.stride),
        "square": str(2 * report.cache.radius + 1),
        "kept": "".join(_kept_figures(pictures, report.cache) for pictures in report.pictures),
        "measures": _measures(report),
        "counts": _count_table(report),
        "timings": _timing_table(report),
        "skipped": _skipped(report.skipped),
        "machine": html.escape(report.machine),
        "shape": json.dumps(shape),
        "points": points,
        "cubes": cubes,
        "scale": ", ".join(f"rgb({r} {g} {b})" for r, g, b in scale_colors(torch.linspace(0, 1, 9)).tolist()),
    }
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template), encoding="utf-8")


# HTML ----------------------------------------------------------------------------------------------------------------


def _tiles(report: Report) -> str:
    return _tile_row(
        (f"{len(report.frames):,}", "frames"),
        (f"{report.points:,}", "points"),
        (report.removed, "of the matches removed by the depth filter"),
        (f"{sum(report.seconds.values()):.1f} s", "for all steps, listed below"),
    )


def _cache_tiles(cache: CacheFacts) -> str:
    plain, dilated = cache.mean_coverage
    square = 2 * cache.radius + 1
    times = f": {cache.dense_size / cache.size:.0f} times as much" if cache.size else ""
    return _tile_row(
        (f"{plain:.1%}", "of these pixels see a point, on average over the frames"),
        (f"{dilated:.1%}", f"dilated, each point covering {square} × {square} pixels, as in the file"),
        (_megabytes(cache.size), f"on disk: {cache.rows:,} rows of {cache.channels} channels in {cache.dtype}"),
        (_megabytes(cache.dense_size), f"for the same at every pixel of every frame{times}"),
    )


def _tile_row(*tiles: tuple[str, str]) -> str:
    inside = "".join(f"<div><b>{value}</b><span>{meaning}</span></div>" for value, meaning in tiles)
    return f'<div class="tiles">{inside}</div>'


def _edge(voxels: VoxelView) -> str:
    return f"{100 * voxels.size:g} cm"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def _unseen(report: Report) -> str:
    shown = len(report.cloud.points)
    left_out = f" {report.unseen:,} points that no frame sees are left out." if report.unseen else ""
    thinned = f" Thinned to {shown:,} points." if shown < report.points - report.unseen else ""
    return left_out + thinned


def _coloring_buttons(names: list[str]) -> str:
    return "".join(
        f'<label><input type="radio" name="coloring" value="{i}"{" checked" * (i == 0)}>'
        f"<span>{html.escape(name)}</span></label>"
        for i, name in enumerate(names)
    )


def _voxel_figures(pictures: list[Tensor], most: int) -> str:
    scale = _scale(f"{most:,}", "1")
    return _figure(pictures[0], "The voxels in colour, seen from above", "The mean colour of the points") + _figure(
        pictures[1], "The voxels by their number of points", f"How many points there are {scale}"
    )


def _kept_figures(shown: FramePictures, cache: CacheFacts) -> str:
    name, (plain, dilated) = html.escape(shown.counts.name), cache.coverage[shown.counts.name]
    three = [
        _figure(shown.image, f"{name}: image", "The image", longest=480),
        _figure(shown.kept[0], f"{name}: kept pixels without dilation", f"<b>{plain:.1%}</b> without dilation"),
        _figure(
            shown.kept[1], f"{name}: kept pixels with dilation", f"<b>{dilated:.1%}</b> dilated, read from the file"
        ),
    ]
    return f'<article><h3>{name}</h3><div class="three">{"".join(three)}</div></article>'


def _figures(shown: FramePictures) -> str:
    counts, (near, far) = shown.counts, shown.depth_range
    name, scale = html.escape(counts.name), _scale(f"{near:.1f} m", f"{far:.1f} m")
    removed = _share(counts.inside - counts.seen, counts.inside)
    without = f"<b>Without the depth filter.</b> All {counts.inside:,} points that fall into the picture."
    with_it = f"<b>With it.</b> The {counts.seen:,} points that this camera really sees; {removed} are gone."
    pair = [
        _figure(shown.unfiltered, f"{name}: points without the depth filter", without),
        _figure(shown.filtered, f"{name}: points with the depth filter", with_it),
    ]
    three = [
        _figure(shown.image, f"{name}: image", "The image"),
        _figure(shown.depth, f"{name}: depth", f"The depth image {scale}"),
        _figure(shown.splatted, f"{name}: fused cloud splatted", "The fused cloud, splatted back to this camera"),
    ]
    return (
        f'<article><h3>{name}</h3><div class="pair">{"".join(pair)}</div>'
        f'<div class="three">{"".join(three)}</div></article>'
    )


def _scale(light: str, dark: str) -> str:
    return f'<span class="scale"><i>{light}</i><i class="bar"></i><i>{dark}</i></span>'


def _figure(image: Tensor, alt: str, caption: str, longest: int = 800) -> str:
    height, width = image.shape[:2]
    return (
        f'<figure><img src="{_data_url(image, longest)}" width="{width}" height="{height}" alt="{alt}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _measures(report: Report) -> str:
    """What the columns of the table mean."""
    text = ["Removed: the share of the points in the picture that the depth filter rejects."]
    if any(f.color_difference[1] is not None for f in report.frames):
        text.append("Colour difference: mean over the matches of |point's colour - pixel's colour|, of 255.")
    if any(f.label_agreement[1] is not None for f in report.frames):
        text.append("Same label: how many of the labelled matches join a point and a pixel of one label.")
    every = f"of the pixels at every {report.cache.stride}th row and column"
    text.append(f"Coverage: the share {every} that the cache covers; in the first row, the mean.")
    return " ".join(text)


def _count_table(report: Report) -> str:
    with_colors = any(f.color_difference[1] is not None for f in report.frames)
    with_labels = any(f.label_agreement[1] is not None for f in report.frames)
    head = ["<th>frame<th>points in the picture<th>really seen<th>removed"]
    if with_colors:
        head.append("<th>colour difference, without → with")
    if with_labels:
        head.append("<th>same label, without → with")
    head.append("<th>coverage, plain → dilated")
    rows = [f'<tr class="total"><td>all<td>{report.inside:,}<td>{report.seen:,}<td>{report.removed}']
    rows[0] += "<td>" * (with_colors + with_labels) + f"<td>{_pair(report.cache.mean_coverage, '.1%')}"
    for f in report.frames:
        row = f"<tr><td>{html.escape(f.name)}<td>{f.inside:,}<td>{f.seen:,}<td>{_share(f.inside - f.seen, f.inside)}"
        if with_colors:
            row += f"<td>{_pair(f.color_difference, '.1f')}"
        if with_labels:
            row += f"<td>{_pair(f.label_agreement, '.1%')}"
        rows.append(f"{row}<td>{_pair(report.cache.coverage[f.name], '.1%')}")
    return f"<table><thead><tr>{''.join(head)}</thead><tbody>{''.join(rows)}</tbody></table>"


def _voxel_table(counts: list[VoxelCounts]) -> str:
    head = "<th><th>points<th>voxels<th>points per voxel<th>most in one"
    rows = "".join(
        f"<tr><td>{html.escape(c.cloud)}<td>{c.points:,}<td>{c.voxels:,}"
        f"<td>{c.points / c.voxels if c.voxels else 0:,.1f}<td>{c.most:,}"
        for c in counts
    )
    return f"<table><thead><tr>{head}</thead><tbody>{rows}</tbody></table>"


def _timing_table(report: Report) -> str:
    longest = max(report.seconds.values(), default=0.0) or 1.0
    rows = (
        f"<tr><td>{html.escape(step)}<td>{seconds:.2f} s"
        f'<td class="time"><i style="width:{100 * seconds / longest:.1f}%"></i>'
        for step, seconds in report.seconds.items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _skipped(lines: list[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}" for line in lines)
    return f'<section class="skipped"><h2>Left out</h2><ul>{items}</ul></section>'


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _pair(values: Sequence[float | None], form: str) -> str:
    return " → ".join("–" if value is None else format(value, form) for value in values)


def _data_url(image: Tensor, longest: int = 800) -> str:
    """(H, W, 3) uint8 as JPEG no longer than that, (H, W, 4) as PNG."""
    from PIL import Image

    picture, stream = Image.fromarray(image.contiguous().numpy()), io.BytesIO()
    if image.shape[2] == 3:
        picture.thumbnail((longest, longest))
    if image.shape[2] == 4:
        picture.save(stream, "PNG")
    else:
        picture.save(stream, "JPEG", quality=85, optimize=True)
    kind = "png" if image.shape[2] == 4 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
