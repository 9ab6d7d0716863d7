"""Features of points reduced voxel by voxel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..results import Voxels
from ._shared import accumulated


def scatter(
    features: Tensor, voxels: Voxels, reduce: str = "mean", *, return_arg: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    point = (voxels.inverse >= 0).nonzero()[:, 0]
    voxel = voxels.inverse[point]
    if reduce == "first":
        arg = voxels.order[voxels.ptr[:-1]]
        return (features[arg], arg) if return_arg else features[arg]
    if reduce == "mode":
        return _mode(features[point], voxel, len(voxels))
    wide = accumulated(features)[point]
    shape = (len(voxels), wide.shape[1])
    if reduce in ("mean", "sum"):
        out = wide.new_zeros(shape).index_add(0, voxel, wide)
        return (out / voxels.counts[:, None] if reduce == "mean" else out).to(features.dtype)
    to = voxel[:, None].expand_as(wide)
    best = wide.detach().new_zeros(shape).scatter_reduce(0, to, wide.detach(), f"a{reduce}", include_self=False)
    wins = (wide == best[voxel]) | (wide.isnan() & best[voxel].isnan())
    arg = torch.full(shape, len(features), device=voxel.device)
    arg = arg.scatter_reduce(0, to, torch.where(wins, point[:, None], len(features)), "amin")
    out = features.gather(0, arg)
    return (out, arg) if return_arg else out


def _mode(labels: Tensor, voxel: Tensor, n: int) -> Tensor:
    """The most frequent label that is not negative, the smallest of several, -1 where there is none."""
    if labels.ndim == 2:
        columns = [_mode(c, voxel, n) for c in labels.T]
        return torch.stack(columns, 1) if columns else labels.new_zeros(n, 0)
    known, which = labels[labels >= 0].unique(return_inverse=True)
    count = torch.zeros(n, len(known) + 1, dtype=torch.int64, device=labels.device)
    count.index_put_((voxel[labels >= 0], which), torch.ones_like(which), accumulate=True)
    known = torch.cat((known, known.new_full((1,), -1)))
    best = torch.where(count.amax(1) > 0, count.argmax(1), len(known) - 1)
    return known[best]
