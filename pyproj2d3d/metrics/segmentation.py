"""How well are pixels or points classified? Accuracy and intersection over union, counted over a whole dataset."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._check import check_count, check_range, check_same_device, integers


class SegmentationScores(NamedTuple):
    """float64, from 0 to 1; NaN where there is nothing to score."""

    pixel_accuracy: Tensor  # () of all labelled pixels, how many are right
    mean_accuracy: Tensor  # () mean of class_accuracy
    miou: Tensor  # () mean of class_iou
    class_accuracy: Tensor  # (C,) of the pixels of a class, how many are right
    class_iou: Tensor  # (C,) intersection over union of all pixels that are, or were predicted to be, of a class


def confusion_matrix(prediction: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """How many pixels of each class were predicted to be what; matrices of several images add up.

    Args:
        prediction: integers of any shape, from 0 to C - 1, or -1 for none, which is wrong wherever there is a target.
        target: integers of the same shape, from 0 to C - 1, or -1 for a pixel that is not counted.
        n_classes: C.

    Returns:
        (C, C + 1) int64: row the target, column the prediction, the last column those predicted to be none.

    Raises:
        TypeError, ValueError: an argument of another type, shape, range or device than said here.

    >>> confusion_matrix(torch.tensor([0, 1, 1, -1, 0]), torch.tensor([0, 0, 1, 1, -1]), 2)
    tensor([[1, 1, 0],
            [0, 1, 1]])
    """
    return pair_counts(prediction, target, n_classes)[:n_classes]


def segmentation_scores(confusion: Tensor) -> SegmentationScores:
    """The scores of a dataset, from the sum of its confusion matrices.

    A class in no target has accuracy NaN, and one in no prediction either has IoU NaN; NaN is left out of the means. A
    class that is only predicted has IoU 0, and that counts. ScanNet's ``evaluate_semantic_label.py`` has the same IoU,
    NaN included, and no means. The PSPNet script (hszhao/semseg, ``tool/test.py``) from which the evaluation of the
    3D-to-2D distillation is made takes 0 for NaN; wherever every class occurs the two agree.

    Args:
        confusion: (C, C + 1) integers, as :func:`confusion_matrix` returns them.

    Raises:
        TypeError, ValueError: another type or shape.

    >>> scores = segmentation_scores(torch.tensor([[1, 1, 0], [0, 1, 1]]))
    >>> scores.pixel_accuracy.item(), scores.class_accuracy.tolist(), [round(x, 3) for x in scores.class_iou.tolist()]
    (0.5, [0.5, 0.5], [0.5, 0.333])
    """
    counts = integers("confusion", confusion).double()
    n_classes = len(counts) if counts.ndim else 0
    if n_classes == 0 or counts.shape != (n_classes, n_classes + 1):
        raise ValueError(f"confusion must have shape (C, C + 1), got {tuple(confusion.shape)}")
    right = counts.diagonal()
    of_class = counts.sum(dim=1)
    union = of_class + counts[:, :n_classes].sum(dim=0) - right
    accuracy, iou = right / of_class, right / union
    return SegmentationScores(right.sum() / of_class.sum(), accuracy.nanmean(), iou.nanmean(), accuracy, iou)


def pair_counts(prediction: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """(C + 1, C + 1) int64: as the confusion matrix, with one row more, of the pixels whose target is -1."""
    check_count("n_classes", n_classes)
    prediction, target = integers("prediction", prediction), integers("target", target)
    if prediction.shape != target.shape:
        raise ValueError(f"prediction must have shape {tuple(target.shape)} like target, got {tuple(prediction.shape)}")
    check_same_device("prediction", prediction, "target", target)
    check_range("prediction", prediction, -1, n_classes - 1)
    check_range("target", target, -1, n_classes - 1)
    width = n_classes + 1
    pair = (target * width + prediction).flatten() + width + 1  # -1 comes first, and is rolled to the end
    return torch.bincount(pair, minlength=width**2).view(width, width).roll((-1, -1), (0, 1))
