"""How good can labels get that are given to whole superpoints? The share of points that follow their majority."""

from __future__ import annotations

import torch
from torch import Tensor

from ._check import check_range, check_same_device, check_shape, integers


def purity(superpoint: Tensor, labels: Tensor) -> float:
    """Of the labelled points, how many have the label that most labelled points of their superpoint have.

    It is the accuracy of the best labels that are constant within each superpoint: 1 if none of them crosses an object.
    Superpoints of one point each are always pure: say how many there are beside it.

    Args:
        superpoint: (N,) integers from 0, as :func:`pyproj2d3d.superpoints` returns them; any others do too.
        labels: (N,) integers, -1 for a point that is not counted.

    Returns:
        From 0 to 1; NaN where no point is labelled.

    Raises:
        TypeError, ValueError: an argument of another type, shape, range or device than said here.

    >>> purity(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([7, 7, 2, 5, -1]))
    0.75
    """
    check_shape("superpoint", superpoint, None)
    check_shape("labels", labels, len(superpoint))
    check_same_device("labels", labels, "superpoint", superpoint)
    superpoint, labels = integers("superpoint", superpoint), integers("labels", labels)
    check_range("superpoint", superpoint, 0, torch.iinfo(torch.int64).max)
    check_range("labels", labels, -1, torch.iinfo(torch.int64).max)
    labelled = labels >= 0
    if not bool(labelled.any()):
        return float("nan")
    segments, segment = superpoint[labelled].unique(return_inverse=True)
    classes, label = labels[labelled].unique(return_inverse=True)
    pair, count = (segment * len(classes) + label).unique(return_counts=True)
    most = count.new_zeros(len(segments)).scatter_reduce(0, pair // len(classes), count, "amax")
    return most.sum().item() / len(label)
