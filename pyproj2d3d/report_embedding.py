"""What do features look like? Their three principal components as colours, pixels beside points."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

INK = "#222222"
NOWHERE = 96  # grey, where there are no features


def component_colors(*sets: Tensor) -> list[Tensor]:
    """Features to colours that are near where features are: their principal components as red, green and blue.

    Args:
        sets: (N, D) each, floating and finite, of one space.

    Returns:
        (N, 3) uint8 for each. The components are common to all sets, of which each counts as much, however many rows
        it has and however far they spread; each is centred by itself, since pixels and points of a contrastive loss may
        keep a distance between them. From the 2nd to the 98th percentile of a set its component goes from 0 to 255. The
        sign of a component is chosen so that its largest entry is positive. Components that a set does not vary along,
        or that D below 3 does not have, are grey (127).
    """
    centred = [features.double() - features.double().mean(0) for features in sets]
    spread = [features.square().sum().clamp(min=1e-24).sqrt() for features in centred]
    together = torch.cat([features / by for features, by in zip(centred, spread, strict=True)])
    axes = torch.linalg.eigh(together.T @ together).eigenvectors.flip(1)[:, :3]  # the largest first
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return [
        _scaled(features @ axes, 1e-6 * by / max(len(features), 1) ** 0.5)
        for features, by in zip(centred, spread, strict=True)
    ]


def _scaled(places: Tensor, least: Tensor) -> Tensor:
    """(N, up to 3) to (N, 3) uint8; 127 for what spreads less than ``least``."""
    out = torch.full((len(places), 3), 127, dtype=torch.uint8, device=places.device)
    if len(places):
        low, high = (places.kthvalue(1 + round(share * (len(places) - 1)), dim=0).values for share in (0.02, 0.98))
        scaled = ((places - low) / (high - low).clamp(min=1e-24)).clamp(0, 1) * 255
        out[:, : places.shape[1]] = torch.where(high - low > least, scaled.round(), 127).to(torch.uint8)
    return out


def draw_embedding(path: Path, color: Tensor, pixels: Tensor, points: Tensor, seen: Tensor) -> None:
    """One view: its image, the features of its pixels as colours, and of the points at the pixels that see them.

    See :func:`component_colors` for what the colours are. Needs matplotlib.

    Args:
        path: of the PNG, in a folder that is made where there is none.
        color: (H, W, 3) uint8.
        pixels: (H, W, D) features.
        points: (H, W, D) features of the same space; what they are where ``seen`` is False does not matter.
        seen: (H, W) bool, which pixels see a point.
    """
    from matplotlib.figure import Figure

    of_pixels, of_seen = component_colors(pixels.flatten(0, 1), points[seen])
    of_points = torch.full_like(color, NOWHERE)
    of_points[seen] = of_seen
    panels = {"image": color, "pixel features": of_pixels.view_as(color), "point features": of_points}
    height, width = seen.shape
    figure = Figure(figsize=(13, 13 / 3 * height / width + 0.4), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(values.numpy())
        axes.set_title(name, color=INK, fontsize=11)
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
