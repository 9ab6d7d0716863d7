"""How much do boxes overlap, and which of many stand for the rest? IoU and non-maximum suppression of boxes in 3D.

A box is 7 numbers: its centre x, y, z and full sizes along its own three axes, in metres, z up; and its heading, the
angle in radians from the x axis to its own first axis, counter-clockwise seen from above. VoteNet's ``heading_angle``
has the other sign, and its SUN RGB-D files store half the sizes. Without the heading, so of 6 numbers, it stands along
the axes. A box with a size that is not positive is empty: its IoU is 0.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .ops._check import GEOMETRY, check_device, check_number, check_tensor

_PAIRS_AT_A_TIME = 1 << 18  # each takes about a kilobyte while its IoU is computed
_TESTS_AT_A_TIME = 1 << 20  # of whether boxes are near each other: they take 20 bytes


def box_iou_3d(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of the volumes of all pairs.

    Args:
        one: (A, 7) or (A, 6), float32 or float64, boxes as the module says; or (B, A, 7) and (B, A, 6) for a batch.
        other: (C, 7), (C, 6), (B, C, 7) or (B, C, 6), as many numbers and batches as ``one``.

    Returns:
        (A, C) or (B, A, C) float64, without gradient.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here, or not finite.

    >>> cube = torch.tensor([[0.0, 0, 0, 1, 1, 1]])
    >>> box_iou_3d(cube, cube + torch.tensor([0.5, 0, 0, 0, 0, 0])).item()
    0.3333333333333333
    """
    batched = isinstance(one, Tensor) and one.ndim == 3
    _check_boxes("one", one, *([None] if batched else []), None)
    _check_boxes("other", other, *([len(one)] if batched else []), None)
    if one.shape[-1] != other.shape[-1]:
        raise ValueError(f"other must have {one.shape[-1]} numbers like one, got {other.shape[-1]}")
    check_device("other", other, "one", one)
    return iou_of_pairs(one.detach().double()[..., :, None, :], other.detach().double()[..., None, :, :])


def nms_3d(boxes: Tensor, scores: Tensor, labels: Tensor | None = None, *, threshold: float) -> Tensor:
    """Boxes that no better one stands for: from the highest score down, each that is left removes those of its label
    whose IoU with it is above ``threshold``.

    Args:
        boxes: (N, 7) or (N, 6), float32 or float64, as the module says.
        scores: (N,) float32 or float64, finite. Of equal ones the lower index goes first.
        labels: (N,) int64: boxes of different labels leave each other alone. None: all are of one.
        threshold: from 0 to 1. An IoU of exactly that removes nothing.

    Returns:
        (K,) int64, the boxes that are left, from the highest score down. An empty box removes nothing and stays: its
        IoU is 0, where VoteNet's divides 0 by 0.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here, or not finite.

    The IoU is computed for boxes that are near each other alone; the choice is made on the host. On CUDA it
    synchronises.

    >>> cubes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [0.1, 0, 0, 1, 1, 1], [3.0, 0, 0, 1, 1, 1]])
    >>> nms_3d(cubes, torch.tensor([0.5, 0.9, 0.1]), threshold=0.25)
    tensor([1, 2])
    """
    _check_boxes("boxes", boxes, None)
    check_tensor("scores", scores, GEOMETRY, len(boxes))
    check_device("scores", scores, "boxes", boxes)
    if not bool(scores.isfinite().all()):
        raise ValueError(f"scores must be finite, got {scores[~scores.isfinite()][0].item()}")
    if labels is not None:
        check_tensor("labels", labels, (torch.int64,), len(boxes))
        check_device("labels", labels, "boxes", boxes)
    if not 0 <= check_number("threshold", threshold) <= 1:
        raise ValueError(f"threshold must be from 0 to 1, got {threshold}")
    order = scores.detach().argsort(descending=True, stable=True)
    ranked, of = boxes.detach().double()[order], None if labels is None else labels[order]
    better, worse = _above(ranked, of, threshold)
    begin = torch.searchsorted(better, torch.arange(len(boxes) + 1, device=better.device)).tolist()
    removed, left = worse.tolist(), [True] * len(boxes)
    for i, (first, last) in enumerate(pairwise(begin)):
        if left[i]:
            for j in removed[first:last]:
                left[j] = False
    return order[torch.tensor(left, dtype=torch.bool, device=order.device)]


def _above(boxes: Tensor, labels: Tensor | None, threshold: float) -> tuple[Tensor, Tensor]:
    """Pairs (P,), (P,) of a box and a later one, of one label, with an IoU above the threshold, by the first."""
    n, ends = len(boxes), _half_extents(boxes)
    ones, others = [torch.arange(0, device=boxes.device)], [torch.arange(0, device=boxes.device)]
    rows = max(1, _TESTS_AT_A_TIME // max(n, 1))
    for first in range(0, n, rows):
        some = slice(first, first + rows)
        near = torch.ones(len(boxes[some]), n - first, dtype=torch.bool, device=boxes.device).triu(1)
        if labels is not None:
            near &= labels[some, None] == labels[first:]
        for axis in range(3):
            apart = (boxes[some, None, axis] - boxes[first:, axis]).abs()
            near &= apart <= ends[some, None, axis] + ends[first:, axis]
        one, other = (near.nonzero() + first).unbind(1)
        for a, b in zip(one.split(_PAIRS_AT_A_TIME), other.split(_PAIRS_AT_A_TIME), strict=True):
            above = iou_of_pairs(boxes[a], boxes[b]) > threshold
            ones.append(a[above])
            others.append(b[above])
    return torch.cat(ones), torch.cat(others)


def _half_extents(boxes: Tensor) -> Tensor:
    """(..., 3) along x, y and z, a trifle more than they are, so that rounding parts no boxes that overlap."""
    half = boxes[..., 3:6].clamp(min=0) / 2
    if boxes.shape[-1] == 7:
        cos, sin = boxes[..., 6].cos().abs(), boxes[..., 6].sin().abs()
        length, width, height = half.unbind(-1)
        half = torch.stack((cos * length + sin * width, sin * length + cos * width, height), dim=-1)
    return half * (1 + 1e-9)


def _check_boxes(name: str, boxes: Tensor, *shape: int | None) -> None:
    numbers = 6 if isinstance(boxes, Tensor) and boxes.ndim and boxes.shape[-1] == 6 else 7
    check_tensor(name, boxes, GEOMETRY, *shape, numbers)
    if not bool(boxes.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {boxes[~boxes.isfinite()][0].item()}")


def iou_of_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes (..., 7) and (..., 7) that broadcast, or (..., 6) and (..., 6); finite."""
    up, half_a, half_b = a[..., 2] - b[..., 2], a[..., 5] / 2, b[..., 5] / 2
    height = torch.minimum(up + half_a, half_b) - torch.maximum(up - half_a, -half_b)
    shared = (_shared_footprint if a.shape[-1] == 7 else _shared_rectangle)(a, b) * height.clamp(min=0)
    union = a[..., 3:6].prod(dim=-1) + b[..., 3:6].prod(dim=-1) - shared
    near = ((a[..., :3] - b[..., :3]).abs() <= _half_extents(a) + _half_extents(b)).all(dim=-1)
    iou = (shared / union).clamp(max=1)  # rounding can make it more
    return torch.where(near & (shared > 0), iou, 0)  # far apart, what is shared is rounding


def _shared_rectangle(a: Tensor, b: Tensor) -> Tensor:
    """Area that the rectangles of two boxes share which stand along the axes."""
    apart, half_a, half_b = a[..., :2] - b[..., :2], a[..., 3:5] / 2, b[..., 3:5] / 2
    sides = torch.minimum(apart + half_a, half_b) - torch.maximum(apart - half_a, -half_b)
    return sides.clamp(min=0).prod(dim=-1)


def _shared_footprint(a: Tensor, b: Tensor) -> Tensor:
    """Area that the rectangles of two boxes share, seen from above.

    In the frame of b its rectangle is |x| <= X, |y| <= Y. Moving every place to the nearest one of that rectangle
    leaves what is inside as it is and flattens the rest onto its border, so the border of a, moved so, still surrounds
    exactly the shared area: the integral of clamp(x) d clamp(y) along it. There are no corners to find, to sort or to
    compare with a tolerance.
    """
    half_a, half_b = a[..., 3:5].clamp(min=0) / 2, b[..., 3:5].clamp(min=0) / 2
    cos_b, sin_b, turn = b[..., 6].cos(), b[..., 6].sin(), a[..., 6] - b[..., 6]
    east, north = (a[..., :2] - b[..., :2]).unbind(dim=-1)
    length, width = half_a.unbind(dim=-1)
    long_x, long_y, wide_x, wide_y = turn.cos() * length, turn.sin() * length, -turn.sin() * width, turn.cos() * width
    x = [cos_b * east + sin_b * north + i * long_x + j * wide_x for i, j in _COUNTER_CLOCKWISE]
    y = [cos_b * north - sin_b * east + i * long_y + j * wide_y for i, j in _COUNTER_CLOCKWISE]
    edges = (_edge_integral(x[i - 1], y[i - 1], x[i], y[i], *half_b.unbind(dim=-1)) for i in range(4))
    return torch.stack(list(edges)).sum(dim=0).clamp(min=0)


_COUNTER_CLOCKWISE = ((1, 1), (-1, 1), (-1, -1), (1, -1))


def _edge_integral(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, half_x: Tensor, half_y: Tensor) -> Tensor:
    """Of clamp(x) d clamp(y) along an edge: trapezoids between the places where it crosses a bound."""
    dx, dy = x1 - x0, y1 - y0
    begin, end = _crossings(y0, dy, half_y)
    middle = [torch.clamp(s, begin, end) for s in _crossings(x0, dx, half_x)]
    s = torch.stack((begin, *middle, end), dim=-1)
    x = torch.clamp(x0[..., None] + s * dx[..., None], -half_x[..., None], half_x[..., None])
    return dy * torch.trapezoid(x, s, dim=-1)


def _crossings(start: Tensor, step: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Where, from 0 to 1, a way from ``start`` by ``step`` enters and leaves -half to half; anywhere if it stands."""
    divisor = torch.where(step == 0, 1, step)
    low, high = (-half - start) / divisor, (half - start) / divisor
    return torch.minimum(low, high).clamp(0, 1), torch.maximum(low, high).clamp(0, 1)
