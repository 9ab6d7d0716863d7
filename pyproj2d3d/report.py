"""How are the demo's findings shown? As one HTML file that needs nothing else: the cloud in 3D over its picture."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import Camera, project, splat, zbuffer

PICTURE_SIZE = (720, 1280)  # of the cloud's picture; the 3D view has the same shape
VIEW_ANGLE = math.radians(45)  # vertical
ELEVATION = math.radians(35)  # of the first viewpoint


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


@dataclass
class CloudView:
    """The fused cloud, thin enough to be looked at."""

    points: Tensor  # (N, 3) float32, world
    seen_from: Tensor  # (N, 3) float32, mean position of the cameras that see the point
    colorings: dict[str, Tensor]  # each (N, 3), 0 to 255; the first is shown first
    world_from_camera: Tensor  # (V, 4, 4) float32, of all frames: they say where up is
    spacing: float  # metres between neighbours, about


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
    payload, shape, picture = _packed_cloud(report.cloud)
    labelled = any(frame.label_agreement[1] is not None for frame in report.frames)
    parts = {
        "name": html.escape(report.name),
        "tiles": _tiles(report),
        "origin": html.escape(report.cloud_origin),
        "unseen": _unseen(report),
        "picture": picture,
        "colorings": _coloring_buttons(list(report.cloud.colorings)),
        "dots": "the label of the point" if labelled else "its distance, in the colours of the depth picture",
        "frames": "".join(_figures(pictures) for pictures in report.pictures),
        "measures": _measures(report),
        "counts": _count_table(report),
        "timings": _timing_table(report),
        "skipped": _skipped(report.skipped),
        "machine": html.escape(report.machine),
        "shape": json.dumps(shape),
        "payload": payload,
        "scale": ", ".join(f"rgb({r} {g} {b})" for r, g, b in scale_colors(torch.linspace(0, 1, 9)).tolist()),
    }
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template), encoding="utf-8")


# Colours -------------------------------------------------------------------------------------------------------------


def depth_colors(depth: Tensor, near: float, far: float) -> Tensor:
    """(...) metres to (..., 3) uint8: near is light, far is dark, no reading (<= 0) is grey."""
    rgb = scale_colors((depth - near) / ((far - near) or 1.0))
    return torch.where((depth > 0)[..., None], rgb, 96).to(torch.uint8)


def scale_colors(t: Tensor) -> Tensor:
    """(...) from 0 to 1 to (..., 3) uint8: from light yellow over green and blue to dark violet, in equal steps."""
    t = t.clamp(0, 1)
    return _srgb_from_oklch(0.94 - 0.60 * t, 0.12 + 0.16 * t * (1 - t), torch.deg2rad(105 + 205 * t)).to(torch.uint8)


def label_colors(labels: Tensor) -> Tensor:
    """(...) to (..., 3) uint8: one colour for each label, neighbours far apart; grey where the label is -1."""
    hue = labels * (math.pi * (3 - math.sqrt(5)))  # the golden angle
    lightness = 0.74 + 0.1 * (labels % 3 - 1)
    rgb = _srgb_from_oklch(lightness, torch.full_like(lightness, 0.15), hue.float() + 0.5)
    return torch.where((labels >= 0)[..., None], rgb, 96).to(torch.uint8)


def _srgb_from_oklch(lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """Oklab in polar form to 8-bit sRGB: equal steps look equal."""
    a, b = chroma * hue.cos(), chroma * hue.sin()
    l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = torch.stack(
        (
            4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
        ),
        dim=-1,
    ).clamp(0, 1)
    return (torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255).round()


# The cloud -----------------------------------------------------------------------------------------------------------


def _packed_cloud(cloud: CloudView) -> tuple[str, dict[str, object], str]:
    """The points as base64 of deflated bytes, what the page needs to read them, and their picture as a data URL."""
    view_from_world = _view_from_world(cloud.world_from_camera)
    points, seen_from = cloud.points @ view_from_world.T, cloud.seen_from @ view_from_world.T
    target, distance = _first_viewpoint(points)
    low = points.amin(0) if len(points) else torch.zeros(3)
    extent = (points.amax(0) - low).clamp(min=1e-6) if len(points) else torch.ones(3)
    facing = torch.nn.functional.normalize(seen_from - points)
    parts = [
        ((points - low) / extent * 65535).round().to(torch.uint16),
        (facing * 127).round().to(torch.int8),
        *(colors.to(torch.uint8) for colors in cloud.colorings.values()),
    ]
    packed = zlib.compress(b"".join(part.contiguous().numpy().tobytes() for part in parts), 9)
    shape = {
        "n": len(points),
        "low": low.tolist(),
        "extent": extent.tolist(),
        "target": target.tolist(),
        "distance": distance,
        "elevation": ELEVATION,
        "angle": VIEW_ANGLE,
        "spacing": cloud.spacing,
    }
    picture = _cloud_picture(points, facing, next(iter(cloud.colorings.values())), target, distance, cloud.spacing)
    return base64.b64encode(packed).decode(), shape, _data_url(picture)


def _view_from_world(world_from_camera: Tensor) -> Tensor:
    """(3, 3) rotation to x right, y away, z up, as the cameras saw it on average: people hold them upright."""
    down, forward = world_from_camera[:, :3, 1].mean(0), world_from_camera[:, :3, 2].mean(0)
    if down.norm() < 0.1:
        down = world_from_camera[0, :3, 1]
    up = -down / down.norm()
    away = forward - (forward @ up) * up
    if away.norm() < 0.1:  # they looked all around, or straight down
        away = torch.linalg.cross(up, world_from_camera[0, :3, 0])
    away = away / away.norm()
    return torch.stack((torch.linalg.cross(away, up), away, up))


def _first_viewpoint(points: Tensor) -> tuple[Tensor, float]:
    """What to look at, and from how far, for 98 points of 100 to be in the picture."""
    if len(points) == 0:
        return torch.zeros(3), 1.0
    some = points[:: max(1, len(points) // 50_000)]
    target = torch.quantile(some, torch.tensor([0.02, 0.98]), dim=0).mean(0)
    cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
    x, y, z = (some - target).T
    up, nearer = sin * y + cos * z, sin * z - cos * y
    across = torch.maximum(x.abs() * PICTURE_SIZE[0] / PICTURE_SIZE[1], up.abs())
    distance = torch.quantile(nearer + across / math.tan(VIEW_ANGLE / 2), 0.98)
    return target, max(float(distance), 0.1)


def _cloud_picture(
    points: Tensor, facing: Tensor, colors: Tensor, target: Tensor, distance: float, spacing: float
) -> Tensor:
    """(H, W, 4) uint8: the cloud from the 3D view's first viewpoint, transparent where there is none of it."""
    cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
    world_from_camera = torch.eye(4)
    world_from_camera[:3, :3] = torch.tensor([[1, 0, 0], [0, -sin, cos], [0, -cos, -sin]])
    eye = target + distance * torch.tensor([0, -cos, sin])
    world_from_camera[:3, 3] = eye
    height, width = PICTURE_SIZE
    focal = 0.5 * height / math.tan(VIEW_ANGLE / 2)
    intrinsics = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    front = (facing * (eye - points)).sum(1) > 0  # a wall from behind would hide the room
    uvz = project(points[front], Camera(intrinsics, world_from_camera, PICTURE_SIZE))
    radius = max(1, round(0.7 * spacing * focal / distance))
    index, _ = zbuffer(uvz, PICTURE_SIZE, radius=radius)
    rgb = splat(colors[front].float(), index)[0].permute(1, 2, 0)
    return torch.cat((rgb, 255.0 * (index[0, ..., None] >= 0)), dim=-1).to(torch.uint8)


# HTML ----------------------------------------------------------------------------------------------------------------


def _tiles(report: Report) -> str:
    tiles = [
        (f"{len(report.frames):,}", "frames"),
        (f"{report.points:,}", "points"),
        (report.removed, "of the matches removed by the depth filter"),
        (f"{sum(report.seconds.values()):.1f} s", "for all steps, listed below"),
    ]
    return "".join(f"<div><b>{value}</b><span>{meaning}</span></div>" for value, meaning in tiles)


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


def _figures(shown: FramePictures) -> str:
    counts, (near, far) = shown.counts, shown.depth_range
    name = html.escape(counts.name)
    scale = f'<span class="scale"><i>{near:.1f} m</i><i class="bar"></i><i>{far:.1f} m</i></span>'
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


def _figure(image: Tensor, alt: str, caption: str) -> str:
    height, width = image.shape[:2]
    return (
        f'<figure><img src="{_data_url(image)}" width="{width}" height="{height}" alt="{alt}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _measures(report: Report) -> str:
    """What the columns of the table mean."""
    text = ["Removed: the share of the points in the picture that the depth filter rejects."]
    if any(f.color_difference[1] is not None for f in report.frames):
        text.append("Colour difference: mean over the matches of |point's colour - pixel's colour|, of 255.")
    if any(f.label_agreement[1] is not None for f in report.frames):
        text.append("Same label: how many of the labelled matches join a point and a pixel of one label.")
    return " ".join(text)


def _count_table(report: Report) -> str:
    with_colors = any(f.color_difference[1] is not None for f in report.frames)
    with_labels = any(f.label_agreement[1] is not None for f in report.frames)
    head = ["<th>frame<th>points in the picture<th>really seen<th>removed"]
    if with_colors:
        head.append("<th>colour difference, without → with")
    if with_labels:
        head.append("<th>same label, without → with")
    rows = [f'<tr class="total"><td>all<td>{report.inside:,}<td>{report.seen:,}<td>{report.removed}']
    rows[0] += "<td>" * (with_colors + with_labels)
    for f in report.frames:
        row = f"<tr><td>{html.escape(f.name)}<td>{f.inside:,}<td>{f.seen:,}<td>{_share(f.inside - f.seen, f.inside)}"
        if with_colors:
            row += f"<td>{_pair(f.color_difference, '.1f')}"
        if with_labels:
            row += f"<td>{_pair(f.label_agreement, '.1%')}"
        rows.append(row)
    return f"<table><thead><tr>{''.join(head)}</thead><tbody>{''.join(rows)}</tbody></table>"


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


def _pair(values: list[float | None], form: str) -> str:
    return " → ".join("–" if value is None else format(value, form) for value in values)


def _data_url(image: Tensor) -> str:
    """(H, W, 3) uint8 as JPEG, (H, W, 4) as PNG."""
    from PIL import Image

    picture, stream = Image.fromarray(image.contiguous().numpy()), io.BytesIO()
    picture.thumbnail((1280, 1280) if image.shape[2] == 4 else (800, 800))
    if image.shape[2] == 4:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "JPEG", quality=85, optimize=True)
    kind = "png" if image.shape[2] == 4 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
