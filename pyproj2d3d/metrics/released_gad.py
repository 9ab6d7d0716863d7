"""What would the released evaluation of geometry-aware distillation print? An mIoU not to be compared with others.

Jiao et al., "Geometry-Aware Distillation for Indoor Semantic Segmentation" (CVPR 2019); ``get_iou`` and ``accuracy`` in
``main.py`` of the released code, https://bitbucket.org/JianboJiao/semseggap. It differs from the IoU of
:func:`segmentation_scores` in five ways, of which the second makes it nearly blind to missed objects:

1. the IoU of a class is a mean over images, not a ratio of counts over the dataset;
2. an image where a class is there but was missed completely (IoU 0) is left out of that mean;
3. a class predicted in an image where it is not costs nothing;
4. pixels without a label are in the union of the class that they were predicted to be;
5. a class that was never found is 0 in the mean, also one that is in no image.

The mean accuracy is a mean over images of the mean over the classes of each. Only the pixel accuracy is the usual one.
What the script does before it scores (labels halved, cropped and enlarged again, a random flip of the test images) is
not done here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ._check import check_count, check_shape
from .segmentation import pair_counts


class ReleasedGadCounts(NamedTuple):
    """Of one image, or added up field by field of several."""

    iou_sum: Tensor  # (C,) float64
    images_found: Tensor  # (C,) int64, images where a class has an IoU other than 0
    accuracy_sum: Tensor  # () float64, of the mean accuracy of each image
    images: Tensor  # () int64, images with a labelled pixel
    right: Tensor  # () int64, pixels
    labelled: Tensor  # () int64, pixels


class ReleasedGadScores(NamedTuple):
    """float64, from 0 to 1."""

    pixel_accuracy: Tensor  # ()
    mean_accuracy: Tensor  # ()
    miou: Tensor  # () mean of class_iou
    class_iou: Tensor  # (C,) 0 for a class that was never found


def released_gad_scores(images: Iterable[tuple[Tensor, Tensor]], n_classes: int) -> ReleasedGadScores:
    """PixAcc, mAcc and mIoU as the released code prints them; the module says how they differ from the usual ones.

    Args:
        images: pairs of prediction and target, each (H, W) integers from 0 to C - 1, -1 for none; one pair per image.
        n_classes: C, 40 for NYUv2.

    An image without a labelled pixel stops the script; here it is left out. Without any the accuracies are NaN.

    Raises:
        TypeError, ValueError: an argument of another type, shape, range or device than said here.

    Class 1 is in both images, found in half of its union in the first and missed in the second, which is left out:

    >>> first = torch.tensor([[1, 0]]), torch.tensor([[1, 1]])
    >>> second = torch.tensor([[0, 0]]), torch.tensor([[0, 1]])
    >>> released_gad_scores([first, second], 2).class_iou.tolist()
    [0.5, 0.5]
    """
    check_count("n_classes", n_classes)
    total = [released_gad_counts(prediction, target, n_classes) for prediction, target in images]
    if not total:
        total = [released_gad_counts(torch.zeros(0, 0).long(), torch.zeros(0, 0).long(), n_classes)]
    return gad_scores_of(ReleasedGadCounts(*(torch.stack(field).sum(dim=0) for field in zip(*total, strict=True))))


def released_gad_counts(prediction: Tensor, target: Tensor, n_classes: int) -> ReleasedGadCounts:
    """What one image adds; arguments as of :func:`released_gad_scores`."""
    check_shape("target", target, None, None)
    counts = pair_counts(prediction, target, n_classes)
    right = counts.diagonal()[:n_classes]
    of_class = counts[:n_classes].sum(dim=1)
    union = of_class + counts[:, :n_classes].sum(dim=0) - right
    iou = right.double() / union.clamp(min=1)
    accuracy = (right.double() / of_class).nanmean().nan_to_num()  # 0 for an image without labels, which is not counted
    labelled = of_class.sum()
    return ReleasedGadCounts(iou, (iou > 0).long(), accuracy, (labelled > 0).long(), right.sum(), labelled)


def gad_scores_of(total: ReleasedGadCounts) -> ReleasedGadScores:
    class_iou = total.iou_sum / total.images_found.clamp(min=1)
    pixel_accuracy = total.right.double() / total.labelled
    return ReleasedGadScores(pixel_accuracy, total.accuracy_sum / total.images, class_iou.mean(), class_iou)
