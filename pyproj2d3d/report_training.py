"""What does a training run look like? A table of classes, predictions as colours, curves over the epochs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .metrics import SegmentationScores
from .report_3d import ELEVATION, PICTURE_SIZE, VIEW_ANGLE, CloudView, Viewpoint, cloud_picture
from .report_colors import label_colors

INK, GRID = "#222222", "#dddddd"
COLORS = "#1f6fb4", "#d1622b", "#3c8f3c", "#7d55a3"  # of curves
RIGHT, WRONG = (225, 225, 225), (200, 30, 30)


def folder_of(trainer: Any) -> Path:
    """Where a run of Lightning's keeps its log, and we its tables and pictures. All processes have to ask at once."""
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def class_table(classes: Sequence[str], scores: SegmentationScores) -> str:
    """A row of IoU and accuracy in percent for each class, and their means; a class that does not occur has none."""
    width = max(map(len, (*classes, "all points")))
    rows = [
        ("class", "IoU", "accuracy"),
        ("-" * width, "-----", "--------"),
        *zip(classes, _percent(scores.class_iou), _percent(scores.class_accuracy), strict=True),
        ("mean", *_percent(torch.stack((scores.miou, scores.mean_accuracy)))),
        ("all points", "", *_percent(scores.pixel_accuracy[None])),
    ]
    return "".join(f"| {name:{width}} | {iou:>5} | {accuracy:>8} |\n" for name, iou, accuracy in rows)


def _percent(values: Tensor) -> list[str]:
    return ["" if value != value else f"{100 * value:.1f}" for value in values.tolist()]


def draw_prediction(
    path: Path, points: Tensor, colors: Tensor | None, target: Tensor, prediction: Tensor, classes: Sequence[str]
) -> None:
    """One cloud from above at an angle: its colours, its labels, what was predicted, and where the two differ.

    The ceiling and the walls on our side are left out, which would hide the room. z is up. Needs matplotlib.

    Args:
        path: of the PNG, in a folder that is made where there is none.
        points: (N, 3) metres.
        colors: (N, 3) uint8, or None.
        target, prediction: (N,) classes, -1 for none.
        classes: their names.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    there = points.isfinite().all(1)
    points, target, prediction = points[there].float(), target[there], prediction[there]
    right = torch.where((prediction == target)[:, None], torch.tensor(RIGHT), torch.tensor(WRONG))
    labels = label_colors(target)
    panels = {
        "colour": torch.full((len(points), 3), 160) if colors is None else colors[there],
        "labels": labels,
        "prediction": label_colors(prediction),
        "wrong": torch.where((target >= 0)[:, None], right, labels),
    }
    with torch.autocast("cpu", enabled=False):  # which a validation step may be under: places must not be rounded
        pictures = [_picture(points, values) for values in panels.values()]
    shown = torch.cat((target, prediction)).unique()
    shown = torch.cat((shown[shown >= 0], shown[shown < 0]))  # what has no label comes last
    names = [classes[c] if c >= 0 else "no label" for c in shown.tolist()] + ["right", "wrong"]
    swatches = torch.cat((label_colors(shown), torch.tensor((RIGHT, WRONG)))) / 255

    height, width, _ = pictures[0].shape  # as of all
    tall = min(max(6.4 * height / width, 1.0), 5.0)  # of a panel, in inches
    wide = min(max(tall * width / height, 5.0), 6.4)
    rows = math.ceil(len(names) / 8)
    figure = Figure(figsize=(2 * wide + 0.2, 2 * tall + 0.8 + 0.2 * rows), layout="constrained")
    for axes, name, picture in zip(figure.subplots(2, 2).flat, panels, pictures, strict=True):
        axes.imshow(picture.numpy())
        axes.set_title(name, color=INK, fontsize=11)
        axes.set_axis_off()
    patches = [Patch(color=color, label=name) for color, name in zip(swatches.tolist(), names, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _picture(points: Tensor, colors: Tensor) -> Tensor:
    """(H, W, 4) uint8: as far as something is drawn, so that points alone decide about the shape."""
    seen = ~_hides(points)
    points, colors = points[seen], colors[seen]
    if len(points) == 0:
        return torch.zeros(9, 16, 4, dtype=torch.uint8)
    spacing = 2 * float((points.amax(0) - points.amin(0))[:2].amax()) / len(points) ** 0.5
    viewpoint = _viewpoint(points, margin=0.1 + 2 * spacing)
    cloud = CloudView(points, viewpoint.eye.expand_as(points), {"": colors}, torch.eye(4)[None], spacing)
    picture = cloud_picture(cloud, viewpoint)
    y, x = picture[..., 3].nonzero(as_tuple=True)
    return picture[y.min() : y.max() + 1, x.min() : x.max() + 1] if len(y) else picture


def _viewpoint(points: Tensor, margin: float) -> Viewpoint:
    """From where all points are just in the picture, and then back by a margin in metres."""
    cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
    axes = torch.tensor([[1, 0, 0], [0, sin, cos], [0, -cos, sin]])  # to the right, up in the picture, to the viewer
    middle = (points.amin(0) + points.amax(0)) / 2
    across, nearer = ((points - middle) @ axes.T).split([2, 1], dim=1)
    slope = math.tan(VIEW_ANGLE / 2) * torch.tensor([PICTURE_SIZE[1] / PICTURE_SIZE[0], 1])
    low, high = (across - slope * nearer).amin(0), (across + slope * nearer).amax(0)  # in the plane of the middle
    distance = float(((high - low) / slope).amax()) / 2 + margin
    return Viewpoint(torch.eye(3), middle + (low + high) / 2 @ axes[:2], distance)


def _hides(points: Tensor) -> Tensor:
    """(N,) bool: the ceiling, and of the outermost points, sector by sector around the middle, those on our side."""
    if len(points) == 0:
        return torch.zeros(0, dtype=torch.bool)
    low, high = points.amin(0), points.amax(0)
    x, y, _ = (points - (low + high) / 2).unbind(1)
    sector = ((torch.atan2(y, x) / math.pi + 1) * 45).long()  # of 4 degrees
    radius = torch.hypot(x, y)
    outermost = torch.zeros(91).scatter_reduce(0, sector, radius, "amax")[sector]
    height = points[:, 2] - low[2]
    return (height > 0.92 * (high - low)[2]) | ((radius > outermost - 0.3) & (y < 0) & (height > 0.2))


def draw_curves(log: Path, path: Path, names: Sequence[str]) -> None:
    """Columns of a CSVLogger's metrics.csv, from 0 to at most 1, over the epochs: SVG or PNG, by the ending.

    A column without a value, as of a validation that was left out, has no curve; without any nothing is drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = [(*epochs_of(log, name), name, color) for name, color in zip(names, COLORS, strict=False)]
    curves = sorted((c for c in curves if c[0]), key=lambda c: c[1][-1])
    if not curves:
        return
    highest = max(max(values) for _, values, *_ in curves)
    top = next((t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8) if t >= highest), 1.0)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    place = -top
    for epochs, values, name, color in curves:
        axes.plot(epochs, values, color=color, linewidth=1.8, marker=".", clip_on=False)  # one epoch has no line
        place = max(values[-1], place + 0.055 * top)  # not onto the one below
        text = f"{name} {values[-1]:.3f}"
        axes.text(1.01, place, text, color=color, va="center", fontsize=9, transform=axes.get_yaxis_transform())
    axes.set_xlabel("epoch", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(0, top)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    figure.savefig(path, dpi=130)


def epochs_of(log: Path, name: str) -> tuple[list[int], list[float]]:
    """The epochs in which a column of metrics.csv has a value, not NaN, from 1 on, and the last value of each."""
    with open(log, newline="") as file:
        rows = [row for row in csv.DictReader(file) if math.isfinite(float(row.get(name) or "nan"))]
    found = {int(row["epoch"]) + 1: float(row[name]) for row in rows}
    return list(found), list(found.values())
