"""What does a whole dataset score? Each metric as a torchmetrics class, for loops that train and for several processes.

Needs torchmetrics: ``pip install "pyproj2d3d[train]"``. ``update`` takes a batch or a scene and checks it before
anything is counted; ``compute`` returns the scores of all processes together, a named tuple: ``metric.compute().miou``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ._check import check_count, check_shape
from .average_precision import Verdicts
from .detection import DetectionScores, detection_scores, match_boxes
from .instances import InstanceScores, check_classes, instance_scores, match_instances
from .released_gad import ReleasedGadCounts, ReleasedGadScores, gad_scores_of, released_gad_counts
from .segmentation import SegmentationScores, confusion_matrix, segmentation_scores

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError(f'{__name__} needs torchmetrics: pip install "pyproj2d3d[train]" ({error})') from error

__all__ = ["DetectionMetric", "InstanceMetric", "ReleasedGadMetric", "SegmentationMetric"]


class _Scores(Metric):
    """A metric of ours. torchmetrics makes a number of every tensor of one element, also where that is a class."""

    is_differentiable, higher_is_better, full_state_update = False, True, False

    def _wrap_compute(self, compute: Callable[[], Any]) -> Callable[[], Any]:
        squeezed = super()._wrap_compute(compute)

        @wraps(compute)
        def scores() -> Any:
            all_of_them = squeezed()
            if not hasattr(all_of_them, "_asdict"):  # of a subclass
                return all_of_them
            of_classes = {name: value for name, value in all_of_them._asdict().items() if name.startswith("class_")}
            return all_of_them._replace(**{name: value.reshape(-1) for name, value in of_classes.items()})

        return scores


class SegmentationMetric(_Scores):
    """:func:`segmentation_scores` of all batches. ``kwargs`` are those of every torchmetrics class."""

    confusion: Tensor  # (C, C + 1) int64

    def __init__(self, n_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_count("n_classes", n_classes)
        self.n_classes = n_classes
        zeros = torch.zeros(n_classes, n_classes + 1, dtype=torch.int64)
        self.add_state("confusion", zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Integers of any shape, as of :func:`confusion_matrix`."""
        self.confusion = self.confusion + confusion_matrix(prediction, target, self.n_classes)

    def compute(self) -> SegmentationScores:
        return segmentation_scores(self.confusion)


class ReleasedGadMetric(_Scores):
    """:func:`released_gad_scores` of all images: another mIoU, not to be compared with others."""

    iou_sum: Tensor
    images_found: Tensor
    accuracy_sum: Tensor
    images: Tensor
    right: Tensor
    labelled: Tensor

    def __init__(self, n_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_count("n_classes", n_classes)
        self.n_classes = n_classes
        no_pixel = torch.zeros(0, 0, dtype=torch.int64)
        for name, nothing in released_gad_counts(no_pixel, no_pixel, n_classes)._asdict().items():
            self.add_state(name, nothing, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """(B, H, W) integers, as of :func:`released_gad_scores`."""
        check_shape("target", target, None, None, None)
        check_shape("prediction", prediction, *target.shape)
        for image in zip(prediction, target, strict=True):
            counts = released_gad_counts(*image, self.n_classes)
            total = ReleasedGadCounts(*(x + y for x, y in zip(self._total(), counts, strict=True)))
            self.iou_sum, self.images_found, self.accuracy_sum, self.images, self.right, self.labelled = total

    def compute(self) -> ReleasedGadScores:
        return gad_scores_of(self._total())

    def _total(self) -> ReleasedGadCounts:
        return ReleasedGadCounts(
            self.iou_sum, self.images_found, self.accuracy_sum, self.images, self.right, self.labelled
        )


class _AveragePrecisionMetric(_Scores):
    """What average precisions accumulate: the verdicts of every scene."""

    rows: list[Tensor] | Tensor  # one (R, 4) for each scene; put together by torchmetrics where it gathered them
    targets: Tensor  # (C,) int64

    def __init__(self, n_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("targets", torch.zeros(n_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """For a process that saw no scene, torchmetrics gathers an empty float32 vector, which fits no rows."""
        if isinstance(self.rows, list) and not self.rows:
            self.rows = [_no_rows(self.targets)]
        super().sync(*args, **kwargs)

    def _add(self, verdicts: Verdicts) -> None:
        assert isinstance(self.rows, list)
        self.rows.append(verdicts.rows)
        self.targets = self.targets + verdicts.targets

    def _verdicts(self) -> list[Verdicts]:
        rows = self.rows if isinstance(self.rows, list) else [self.rows]
        return [Verdicts(torch.cat(rows) if rows else _no_rows(self.targets), self.targets)]


def _no_rows(like: Tensor) -> Tensor:
    return like.new_zeros(0, 4, dtype=torch.float64)


class InstanceMetric(_AveragePrecisionMetric):
    """:func:`instance_scores` of all scenes; arguments as of :func:`match_instances`, one scene for each update."""

    def __init__(self, classes: Sequence[int], *, min_region: int = 100, **kwargs: Any):
        classes = check_classes(classes)
        check_count("min_region", min_region)
        super().__init__(len(classes), **kwargs)
        self.classes, self.min_region = classes, min_region

    def update(
        self, masks: Tensor, labels: Tensor, scores: Tensor, target_labels: Tensor, target_instances: Tensor
    ) -> None:
        """One scene: (P, N) bool, (P,), (P,), (N,), (N,)."""
        targets = (target_labels, target_instances)
        self._add(match_instances(masks, labels, scores, *targets, self.classes, min_region=self.min_region))

    def compute(self) -> InstanceScores:
        return instance_scores(self._verdicts())


class DetectionMetric(_AveragePrecisionMetric):
    """:func:`detection_scores` of all scenes; arguments as of :func:`match_boxes`, one scene for each update."""

    def __init__(self, n_classes: int, **kwargs: Any):
        check_count("n_classes", n_classes)
        super().__init__(n_classes, **kwargs)
        self.n_classes = n_classes

    def update(
        self, boxes: Tensor, labels: Tensor, scores: Tensor, target_boxes: Tensor, target_labels: Tensor
    ) -> None:
        """One scene: (P, 7), (P,), (P,), (G, 7), (G,)."""
        self._add(match_boxes(boxes, labels, scores, target_boxes, target_labels, self.n_classes))

    def compute(self) -> DetectionScores:
        return detection_scores(self._verdicts())
