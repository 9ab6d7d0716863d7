"""Points, each the farthest from those before it: one round after the other."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ._shared import squared_length


def farthest_point_sample(points: Tensor, n: int, *, ptr: Tensor | None = None, start: int = 0) -> Tensor:
    bounds = [0, len(points)] if ptr is None else ptr.tolist()
    out = torch.full((len(bounds) - 1, n), -1, device=points.device)
    for cloud, (begin, end) in enumerate(pairwise(bounds)):
        p = points[begin:end].detach()
        finite = p.isfinite().all(1)
        distance = torch.where(finite, torch.inf, -1.0).to(p.dtype)
        for s in range(min(n, int(finite.sum()))):
            chosen = start if s == 0 and finite[start] else int(distance.argmax())  # the first of several
            out[cloud, s] = begin + chosen
            distance = torch.minimum(distance, torch.where(finite, squared_length(p[chosen] - p), -1))
            distance[chosen] = -1
    return out.flatten()
