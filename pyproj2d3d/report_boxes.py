"""What does a detector find? A room from above, with the boxes that it has and those that were found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .report_colors import label_colors

INK = "#222222"
POINTS = 30_000  # that are drawn, at most
CEILING = 0.92  # of the height; what is above would hide the room


def draw_boxes(
    path: Path,
    points: Tensor,
    colors: Tensor | None,
    true: tuple[Tensor, Tensor],
    found: tuple[Tensor, Tensor],
    classes: Sequence[str],
) -> None:
    """One cloud from above, twice: with its boxes and with those found, each class that is there in its own colour.

    x is to the right and y up. A line from the middle of a box to its side is where it heads; one along the axes has
    none. Needs matplotlib.

    Args:
        path: of the PNG, in a folder that is made where there is none.
        points: (N, 3) metres; those that are not finite are left out, and so are boxes.
        colors: (N, 3) uint8, or None.
        true, found: boxes (K, 7) as :func:`pyproj2d3d.box_iou_3d` has them, and their classes (K,).
        classes: their names.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    place, shade = _seen_from_above(points, colors)
    true, found = ((box[there], label[there]) for box, label in (true, found) for there in [box.isfinite().all(1)])
    shown = torch.cat((true[1], found[1])).unique()
    rows = math.ceil(len(shown) / 8)
    all_places = torch.cat((place, *(outlines(box).flatten(0, 1).float() for box, _ in (true, found)))).T
    wide, tall = (float(along.amax() - along.amin()) if len(along) else 1.0 for along in all_places)
    tall = min(max(5 * tall / max(wide, 1e-6), 1.5), 6.5)  # of a panel, in inches
    figure = Figure(figsize=(10.2, tall + 0.7 + 0.2 * rows), layout="constrained")
    panels = {f"{len(true[1])} boxes": true, f"{len(found[1])} found": found}
    panes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (name, (box, label)) in zip(panes, panels.items(), strict=True):
        axes.scatter(*place.T.tolist(), c=shade.tolist(), s=2, linewidths=0)
        colors_of = label_colors(torch.searchsorted(shown, label)) / 255  # neighbours in the legend are far apart
        for outline, color in zip(outlines(box), colors_of.tolist(), strict=True):
            axes.plot(*outline.T.tolist(), color="white", linewidth=3.5, solid_joinstyle="miter")
            axes.plot(*outline.T.tolist(), color=color, linewidth=2, solid_joinstyle="miter")
        axes.set_title(name, color=INK, fontsize=11)
        axes.set_aspect("equal")
        axes.set_axis_off()
    swatches = (label_colors(torch.arange(len(shown))) / 255).tolist()
    patches = [Patch(color=color, label=classes[c]) for c, color in zip(shown.tolist(), swatches, strict=True)]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def outlines(boxes: Tensor) -> Tensor:
    """(K, 7, 2): around the footprint of each and then, where it is turned, from its middle to where it heads."""
    boxes = boxes.double()
    corners = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]]) * boxes[:, None, 3:5] / 2
    middle = torch.zeros(len(boxes), 1, 2, dtype=torch.float64)
    ahead = middle.clone()
    ahead[:, 0, 0] = boxes[:, 3] / 2
    turned = (boxes[:, 6] != 0)[:, None, None]
    ahead = torch.where(turned, torch.cat((ahead, middle), dim=1), corners[:, -1:].expand(-1, 2, -1))
    x, y = torch.cat((corners, ahead), dim=1).unbind(2)
    cos, sin = boxes[:, 6:].cos(), boxes[:, 6:].sin()
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=2) + boxes[:, None, :2]


def _seen_from_above(points: Tensor, colors: Tensor | None) -> tuple[Tensor, Tensor]:
    """(n, 2) places and (n, 3) colours from 0 to 1, light, from the lowest point up."""
    there = points.isfinite().all(1)
    points = points[there].float()
    shade = torch.full((len(points), 3), 170) if colors is None else colors[there]
    if len(points):
        low, high = points[:, 2].aminmax()
        below = points[:, 2] <= low + CEILING * (high - low)
        points, shade = points[below], shade[below]
    step = max(-(-len(points) // POINTS), 1)
    points, shade = points[::step], shade[::step]
    upwards = points[:, 2].argsort(stable=True)
    return points[upwards, :2], 0.4 + 0.6 * shade[upwards] / 255
