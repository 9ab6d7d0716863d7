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
from .report_3d import CloudView, Viewpoint, cloud_picture, first_viewpoint
from .report_colors import label_colors

INK, GRID = "#222222", "#dddddd"


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

    there = points.isfinite().all(1)
    points, target, prediction = points[there].float(), target[there], prediction[there]
    wrong = torch.where((prediction == target)[:, None], 225, torch.tensor([200, 30, 30]))
    panels = {
        "colour": torch.full((len(points), 3), 160) if colors is None else colors[there],
        "labels": label_colors(target),
        "prediction": label_colors(prediction),
        "wrong": torch.where((target >= 0)[:, None], wrong, 150),
    }
    shown = sorted({c for c in (*target.unique().tolist(), *prediction.unique().tolist()) if c >= 0})
    figure = Figure(figsize=(13, 8))
    figure.subplots_adjust(0.01, 0.12, 0.99, 0.96, 0.02, 0.08)
    for axes, (name, values) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        with torch.autocast("cpu", enabled=False):  # which a validation step may be under: places must not be rounded
            axes.imshow(_picture(points, values).numpy())
        axes.set_title(name, color=INK, fontsize=11)
        axes.set_axis_off()
    swatches = label_colors(torch.tensor(shown, dtype=torch.int64)).double() / 255
    _legend(figure, [classes[c] for c in shown], swatches.tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _legend(figure: Any, names: Sequence[str], colors: Sequence[Any]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=color, label=name) for name, color in zip(names, colors, strict=True)]
    if patches:
        figure.legend(handles=patches, loc="lower center", ncols=8, frameon=False, fontsize=9)


def _picture(points: Tensor, colors: Tensor) -> Tensor:
    """(H, W, 4) uint8"""
    seen = ~_hides(points)
    points, colors = points[seen], colors[seen]
    if len(points) == 0:
        return torch.zeros(9, 16, 4, dtype=torch.uint8)
    spacing = 2 * float((points.amax(0) - points.amin(0))[:2].amax()) / len(points) ** 0.5
    above = points + torch.tensor([0.0, 0.0, 1.0])
    cloud = CloudView(points, above, {"": colors}, torch.eye(4)[None], spacing)
    target, distance = first_viewpoint(points)
    return cloud_picture(cloud, Viewpoint(torch.eye(3), target, 1.1 * distance))


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
    """Columns of a CSVLogger's metrics.csv over the epochs, from 0 to 1, as a picture; by the ending SVG or PNG.

    A column without a value, as of a validation that was left out, has no curve.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, color in zip(names, ("#1f6fb4", "#d1622b", "#3c8f3c", "#7d55a3"), strict=False):
        epochs, values = epochs_of(log, name)
        if not epochs:
            continue
        axes.plot(epochs, values, color=color, linewidth=1.8)
        axes.annotate(f" {name} {values[-1]:.3f}", (epochs[-1], values[-1]), color=color, va="center", fontsize=9)
    axes.set_xlabel("epoch", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.25)
    figure.savefig(path, dpi=130)


def epochs_of(log: Path, name: str) -> tuple[list[int], list[float]]:
    """The epochs in which a column of metrics.csv has a value, from 1 on, and the last value of each."""
    with open(log, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(name)]
    found = {int(row["epoch"]) + 1: float(row[name]) for row in rows}
    return list(found), list(found.values())
