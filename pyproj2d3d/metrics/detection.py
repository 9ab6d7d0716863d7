"""How well are objects boxed? IoU of boxes that turn about the up axis, and VoteNet's mean average precision.

A box is 7 numbers, as :mod:`pyproj2d3d.boxes` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..boxes import iou_of_pairs
from ._check import check_count, check_range, check_same_device, check_shape, finite_floats, integers
from .average_precision import Verdicts, average_precision

THRESHOLDS = (0.25, 0.5)


class DetectionScores(NamedTuple):
    """float64, from 0 to 1; NaN where there is nothing to score."""

    map25: Tensor  # () mean of class_ap25
    map50: Tensor  # ()
    class_ap25: Tensor  # (C,) at an IoU of 0.25
    class_ap50: Tensor  # (C,) at an IoU of 0.5
    class_recall25: Tensor  # (C,) of the objects, how many any prediction found
    class_recall50: Tensor  # (C,)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of the volumes of all pairs.

    Args:
        a: (A, 7) float32 or float64, boxes as the module says.
        b: (B, 7).

    Returns:
        (A, B) float64, without gradient.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device, or not finite.

    A cube of 1 m and the same turned by 45 degrees share an octagon:

    >>> cube = torch.tensor([[0.0, 0, 0, 1, 1, 1, 0]])
    >>> turned = torch.tensor([[0.0, 0, 0, 1, 1, 1, torch.pi / 4]])
    >>> round(box_iou(cube, turned).item(), 3)
    0.707
    """
    check_shape("a", a, None, 7)
    check_shape("b", b, None, 7)
    check_same_device("b", b, "a", a)
    return iou_of_pairs(finite_floats("a", a)[:, None], finite_floats("b", b)[None])


def match_boxes(
    boxes: Tensor, labels: Tensor, scores: Tensor, target_boxes: Tensor, target_labels: Tensor, n_classes: int
) -> Verdicts:
    """Which predicted boxes of one scene are right, by the rules of VoteNet's ``eval_det.py``.

    A prediction goes to the target of its class with which its IoU is highest (of equal ones the lower index). It is
    right where that IoU is above the threshold and no prediction of a higher score (of equal ones a lower index) was
    right there. It has no second choice: another target, not yet found, does not save it.

    Args:
        boxes: (P, 7) float32 or float64, as the module says.
        labels: (P,) integers from 0 to C - 1.
        scores: (P,) floating, finite.
        target_boxes: (G, 7).
        target_labels: (G,).
        n_classes: C.

    Raises:
        TypeError, ValueError: an argument of another type, shape, range or device than said here, or not finite.
    """
    check_count("n_classes", n_classes)
    check_shape("boxes", boxes, None, 7)
    check_shape("target_boxes", target_boxes, None, 7)
    check_same_device("target_boxes", target_boxes, "boxes", boxes)
    for name, tensor, length in (
        ("labels", labels, len(boxes)),
        ("scores", scores, len(boxes)),
        ("target_labels", target_labels, len(target_boxes)),
    ):
        check_shape(name, tensor, length)
        check_same_device(name, tensor, "boxes", boxes)
    labels, target_labels = integers("labels", labels), integers("target_labels", target_labels)
    check_range("labels", labels, 0, n_classes - 1)
    check_range("target_labels", target_labels, 0, n_classes - 1)
    scores = finite_floats("scores", scores)
    boxes, target_boxes = finite_floats("boxes", boxes), finite_floats("target_boxes", target_boxes)

    same_class = labels[:, None] == target_labels
    iou = boxes.new_full((len(boxes), len(target_boxes) + 1), -1.0)  # the last column: there may be no target
    p, g = same_class.nonzero(as_tuple=True)
    iou[p, g] = iou_of_pairs(boxes[p], target_boxes[g])
    best, target = (t.cpu() for t in iou.max(dim=1))
    order = scores.cpu().argsort(descending=True, stable=True)
    threshold_rows = [
        torch.stack((labels, torch.full_like(labels, t), scores, _first(best > threshold, target, order).to(labels)), 1)
        for t, threshold in enumerate(THRESHOLDS)
    ]
    return Verdicts(torch.cat(threshold_rows), torch.bincount(target_labels, minlength=n_classes))


def detection_scores(verdicts: Sequence[Verdicts]) -> DetectionScores:
    """The scores of a dataset, from what :func:`match_boxes` says of each of its scenes.

    The area is VOC's: precision at a recall is the highest at that recall or above, and recall that is never reached
    adds nothing. Equal scores make one point of the curve; VoteNet's script leaves their order to an unstable sort, and
    what is returned here is the least that any order gives. A class without targets is NaN and left out of the means,
    where the script makes the whole mean NaN if such a class was predicted; one with targets and without predictions is
    0.

    Raises:
        ValueError: no scene.
    """
    ap, recall = average_precision(verdicts, len(THRESHOLDS), _voc_area)
    per_class = (ap[:, 0], ap[:, 1], recall[:, 0], recall[:, 1])
    return DetectionScores(ap[:, 0].nanmean(), ap[:, 1].nanmean(), *per_class)


def _first(found: Tensor, target: Tensor, order: Tensor) -> Tensor:
    """(P,) bool: found, and the first in the order to have found this target."""
    finder: dict[int, int] = {}
    order = order[found[order]]
    for p, g in zip(order.tolist(), target[order].tolist(), strict=True):
        finder.setdefault(g, p)
    first = torch.zeros_like(found)
    first[list(finder.values())] = True
    return first


def _voc_area(precision: Tensor, recall: Tensor) -> Tensor:
    envelope = precision.flip(0).cummax(dim=0).values.flip(0)
    return (envelope * recall.diff(prepend=recall.new_zeros(1))).sum()
