"""Does each point know its own pixel among all others? The loss of PPKT (Liu et al., 2021, arXiv:2104.04687)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops._check import FEATURES, check_device, check_number, check_tensor

__all__ = ["info_nce"]


def info_nce(anchors: Tensor, candidates: Tensor, temperature: float = 0.04) -> Tensor:
    """How surprised is each anchor by its own candidate among all of them? PPNCE, equation 3, averaged over the rows.

    -1/n sum_i log(exp(a_i . c_i / t) / sum_j exp(a_i . c_j / t)). In PPKT the anchors are 3D points and the candidates
    the pixels that see them, so that the negatives of a point are pixels; it has no term the other way round.

    Args:
        anchors: (n, D) floating, rows of unit length if their products are to be cosines.
        candidates: (n, D) of the same dtype or another; row i belongs to anchor i, all other rows do not.
        temperature: t, positive.

    Returns:
        A scalar, in float64 if an input is and else in float32, under autocast too. Rows that are all alike give log n,
        whatever they are; one row gives 0, and no gradient. NaN or infinity in a row makes the loss NaN or infinite.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here; also no rows.

    Builds n x n products: 67 MB for 4,096 rows, and twice that for the gradient.

    >>> info_nce(torch.eye(4), torch.eye(4), temperature=0.04) < 1e-6, info_nce(torch.ones(4, 2), torch.ones(4, 2))
    (tensor(True), tensor(1.3863))
    """
    check_tensor("anchors", anchors, FEATURES, None, None)
    check_tensor("candidates", candidates, FEATURES, *anchors.shape)
    check_device("candidates", candidates, "anchors", anchors)
    if len(anchors) == 0:
        raise ValueError("anchors must have at least one row, got none")
    if not 0 < check_number("temperature", temperature) < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    dtype = torch.promote_types(torch.promote_types(anchors.dtype, candidates.dtype), torch.float32)
    with torch.autocast(anchors.device.type, enabled=False):
        logits = anchors.to(dtype) @ candidates.to(dtype).T / temperature
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
