"""Does each row find its own partner among all others? The score of contrastive learning, beside its loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ._check import check_same_device, check_shape

ROWS = 1024  # compared with all candidates at a time


def retrieved(queries: Tensor, candidates: Tensor) -> Tensor:
    """(n,): 1 for a query whose own candidate, that of the same row, is the most similar of all, by the inner product.

    Args:
        queries: (n, D) floating.
        candidates: (n, D) floating; row i is of query i.

    Returns:
        float32: 1, 0, or 1/k where k candidates are equally similar in float32, so that rows that are all alike are no
        better than chance. A query with NaN in it finds nothing.

    Raises:
        TypeError, ValueError: not two floating matrices of one shape and device.

    >>> retrieved(torch.eye(3)[[1, 0, 2]], torch.eye(3))
    tensor([0., 0., 1.])
    """
    check_shape("queries", queries, None, None)
    check_shape("candidates", candidates, *queries.shape)
    for name, rows in (("queries", queries), ("candidates", candidates)):
        if not rows.is_floating_point():
            raise TypeError(f"{name} must be floating, got {str(rows.dtype).removeprefix('torch.')}")
    check_same_device("candidates", candidates, "queries", queries)
    found = [torch.zeros(0, device=queries.device)]
    with torch.autocast(queries.device.type, enabled=False):
        for begin in range(0, len(queries), ROWS):
            similar = (queries[begin : begin + ROWS].double() @ candidates.double().T).float()
            own = similar.diagonal(begin)[:, None]
            found.append((similar <= own).all(1) / (similar == own).sum(1).clamp(min=1))
    return torch.cat(found)
