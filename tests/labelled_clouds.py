"""The smallest dataset that a network can learn: a red floor, a blue box on it, a few points without label."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from pyproj2d3d.data import Cloud, Scene, SceneDataset

TRAIN, VAL = 4, 2


class Clouds(SceneDataset):
    """``Clouds("train")``; made of numbers, so that a process that is started anew has the same."""

    def __init__(self, split: str | None = None, *, colors: bool = True, labels: bool = True, share: float = 0.98):
        n = {"train": TRAIN, "val": VAL, None: TRAIN + VAL}[split]
        object.__setattr__(self, "root", Path("clouds"))
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "names", tuple(f"{split}{i}" for i in range(n)))
        object.__setattr__(self, "classes", ("floor", "box", "none of it"))
        object.__setattr__(self, "kinds", (colors, labels, share))

    is_in = None

    def _open(self, name):
        return Scene(name, read_cloud=partial(cloud_of, name, *self.kinds))


def cloud_of(name: str, colors: bool = True, labels: bool = True, share: float = 0.98) -> Cloud:
    rng = torch.Generator().manual_seed(sum(map(ord, name)))
    floor = torch.rand(300, 3, generator=rng) * torch.tensor([2.0, 2.0, 0.02])
    box = torch.rand(150, 3, generator=rng) * torch.tensor([0.5, 0.5, 0.5]) + torch.rand(3, generator=rng)
    color = torch.tensor([[200, 30, 30], [30, 30, 200]], dtype=torch.uint8).repeat_interleave(
        torch.tensor([300, 150]), 0
    )
    label = torch.arange(2).repeat_interleave(torch.tensor([300, 150]))
    label[torch.rand(450, generator=rng) >= share] = -1
    return Cloud(torch.cat((floor, box)), color if colors else None, semantic=label if labels else None)
