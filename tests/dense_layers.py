"""What do sparse layers compute, said with dense grids and a mask? The twin of whole networks in their tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pyproj2d3d.nn.sparse import SparseTensor


@dataclass
class Grid:
    values: Tensor  # (B, C, X, Y, Z), 0 where no voxel is
    mask: Tensor  # (B, 1, X, Y, Z)

    def at(self, indices: Tensor) -> Tensor:
        b, x, y, z = indices.long().unbind(1)
        return self.values[b, :, x, y, z]


def grid_of(x: SparseTensor) -> Grid:
    there = SparseTensor(torch.ones_like(x.features[:, :1]), x.indices, x.spatial_shape, x.batch_size)
    return Grid(x.dense(), there.dense())


def submanifold(g: Grid, weight: Tensor) -> Grid:
    return Grid(F.conv3d(g.values, weight.permute(0, 4, 1, 2, 3), padding=weight.shape[1] // 2) * g.mask, g.mask)


def linear(g: Grid, weight: Tensor, bias: Tensor | None = None) -> Grid:
    """A kernel of 1, whose weight spconv reads as (C_in, C_out)."""
    out = torch.einsum("bcxyz,cd->bdxyz", g.values, weight.view(weight.shape[4], weight.shape[0]))
    return Grid((out if bias is None else out + bias.view(-1, 1, 1, 1)) * g.mask, g.mask)


def down(g: Grid, weight: Tensor) -> Grid:
    pad = [n for d in g.values.shape[:1:-1] for n in (0, d % 2)]
    mask = F.max_pool3d(F.pad(g.mask, pad), 2)
    return Grid(F.conv3d(F.pad(g.values, pad), weight.permute(0, 4, 1, 2, 3), stride=2) * mask, mask)


def up(g: Grid, weight: Tensor, fine: Grid) -> Grid:
    x, y, z = fine.mask.shape[2:]
    out = F.conv_transpose3d(g.values, weight.permute(4, 0, 1, 2, 3), stride=2)[:, :, :x, :y, :z]
    return Grid(out * fine.mask, fine.mask)


def norm(g: Grid, weight: Tensor, bias: Tensor, eps: float) -> Grid:
    """By the mean and variance of the voxels, as in training."""
    there = g.mask[:, 0] > 0
    rows = g.values.movedim(1, -1)[there]
    rows = (rows - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt() * weight + bias
    out = torch.zeros_like(g.values).movedim(1, -1).index_put(there.nonzero(as_tuple=True), rows)
    return Grid(out.movedim(-1, 1), g.mask)


def relu(g: Grid) -> Grid:
    return Grid(g.values.relu(), g.mask)


def add(a: Grid, b: Grid) -> Grid:
    return Grid(a.values + b.values, a.mask)


def beside(a: Grid, b: Grid) -> Grid:
    return Grid(torch.cat((a.values, b.values), 1), a.mask)
