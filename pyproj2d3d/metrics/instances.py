"""How well are object instances found in a cloud? ScanNet's average precision: over nine thresholds, at 50 and 25 %."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ._check import check_bool, check_count, check_same_device, check_shape, finite_floats, integers
from .average_precision import Verdicts, average_precision

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.25)  # 0.95 is not among them


class InstanceScores(NamedTuple):
    """float64, from 0 to 1; NaN where there is nothing to score."""

    ap: Tensor  # () mean of class_ap
    ap50: Tensor  # ()
    ap25: Tensor  # ()
    class_ap: Tensor  # (C,) mean over the thresholds 0.5, 0.55, ... 0.9
    class_ap50: Tensor  # (C,) at 0.5
    class_ap25: Tensor  # (C,) at 0.25


def match_instances(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    target_labels: Tensor,
    target_instances: Tensor,
    classes: Sequence[int],
    *,
    min_region: int = 100,
) -> Verdicts:
    """Which predicted instances of one scene are right, by the rules of ScanNet's ``evaluate_semantic_instance.py``.

    * A target is all points of one label and one instance. A prediction may only find one of its own label, and does so
      where their IoU, counted in points, is above the threshold.
    * Targets are visited by ascending instance, predictions in the order given. Of several that find one target the
      one with the highest score is right, the others are wrong.
    * A prediction that finds none is wrong, unless more of it than the threshold lies on void points (no instance, or
      a label that is not in ``classes``) and on targets of its label that are too small.
    * Predictions and targets of fewer than ``min_region`` points, and predictions of a label that is not in
      ``classes``, do not count.

    The script marks only the first prediction that finds a target as used: at 0.25 another may be wrong there and right
    at the next target. That is the one case in which the order of the predictions matters; sort them by descending
    score if it is arbitrary. A row is written for every such mention, as the script does.

    Args:
        masks: (P, N) bool, the points of each prediction; predictions may overlap.
        labels: (P,) integers.
        scores: (P,) floating, finite.
        target_labels: (N,) integers, -1 for none.
        target_instances: (N,) integers, below 0 for none.
        classes: the labels that are scored, in the order of the result; ScanNet's are 18 of its 20, not wall and floor.
        min_region: in points; 100 for ScanNet's vertices.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here.
    """
    classes = check_classes(classes)
    check_count("min_region", min_region)
    check_shape("masks", masks, None, None)
    check_bool("masks", masks)
    n_predictions, n_points = masks.shape
    for name, tensor, length in (
        ("labels", labels, n_predictions),
        ("scores", scores, n_predictions),
        ("target_labels", target_labels, n_points),
        ("target_instances", target_instances, n_points),
    ):
        check_shape(name, tensor, length)
        check_same_device(name, tensor, "masks", masks)
    labels, scores = integers("labels", labels), finite_floats("scores", scores)
    owner, object_class = _objects(
        integers("target_labels", target_labels), integers("target_instances", target_instances), classes
    )

    # How many points each prediction shares with each object; the last column is the void.
    width = len(object_class) + 1
    prediction, point = masks.nonzero(as_tuple=True)
    shared = torch.bincount(prediction * width + owner[point], minlength=n_predictions * width)
    shared = shared.view(n_predictions, width).cpu()
    size = torch.bincount(owner, minlength=width)[:-1].cpu()
    scene = _Overlaps(
        iou=(shared[:, :-1] / (size + shared.sum(dim=1, keepdim=True) - shared[:, :-1]).double()).tolist(),
        shared=shared.tolist(),
        score=scores.tolist(),
    )
    predicted_size, object_size = shared.sum(dim=1).tolist(), size.tolist()
    found_class = labels.tolist()

    rows: list[tuple[float, float, float, bool]] = []
    targets = torch.zeros(len(classes), dtype=torch.int64, device=masks.device)
    for c, label in enumerate(classes):
        objects = [g for g, of in enumerate(object_class) if of == c]
        large = [g for g in objects if object_size[g] >= min_region]
        small = [g for g in objects if object_size[g] < min_region]
        predictions = [p for p in range(n_predictions) if found_class[p] == label and predicted_size[p] >= min_region]
        targets[c] = len(large)
        for t, threshold in enumerate(THRESHOLDS):
            rows += [(c, t, *verdict) for verdict in scene.verdicts(predictions, large, small, threshold)]
    return Verdicts(torch.tensor(rows, dtype=torch.float64, device=masks.device).view(-1, 4), targets)


def instance_scores(verdicts: Sequence[Verdicts]) -> InstanceScores:
    """The scores of a dataset, from what :func:`match_instances` says of each of its scenes.

    The curve starts at precision 1 and recall 0 and runs through those at each score that occurs; the area is that of
    the trapezoids below it, up to the highest recall. A class without targets is NaN and left out of the means, as in
    ScanNet's script; one with targets and without predictions is 0. So is one whose predictions all lie on void points,
    where the script stops with an error.

    Raises:
        ValueError: no scene.
    """
    ap, _ = average_precision(verdicts, len(THRESHOLDS), _trapezoids)
    class_ap, class_ap50, class_ap25 = ap[:, :-1].mean(dim=1), ap[:, 0], ap[:, -1]
    per_class = (class_ap, class_ap50, class_ap25)
    return InstanceScores(class_ap.nanmean(), class_ap50.nanmean(), class_ap25.nanmean(), *per_class)


class _Overlaps(NamedTuple):
    """Of the predictions and the objects of one scene, on the host."""

    iou: list[list[float]]  # P x G
    shared: list[list[int]]  # P x (G + 1), points; the last is the void
    score: list[float]  # P

    def verdicts(
        self, predictions: list[int], targets: list[int], too_small: list[int], threshold: float
    ) -> list[tuple[float, bool]]:
        """Score and right or wrong, of predictions and objects of one class at one threshold."""
        rows: list[tuple[float, bool]] = []
        used: set[int] = set()
        for g in targets:
            finders = [p for p in predictions if p not in used and self.iou[p][g] > threshold]
            if finders:
                used.add(finders[0])
                *others, best = sorted(self.score[p] for p in finders)
                rows += [(best, True), *((score, False) for score in others)]
        for p in predictions:  # one that finds an object too small to count lies on it with more than the threshold
            if all(self.iou[p][g] <= threshold for g in targets):
                shared = self.shared[p]
                ignored = shared[-1] + sum(shared[g] for g in too_small)
                if ignored / sum(shared) <= threshold:
                    rows.append((self.score[p], False))
        return rows


def _objects(labels: Tensor, instances: Tensor, classes: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Which object each point is of, (N,), numbered by class and then instance, G for void; and the class of each."""
    same = labels[:, None] == torch.tensor(classes, device=labels.device)  # (N, C)
    valid = same.any(dim=1) & (instances >= 0)
    known, instance = instances.unique(return_inverse=True)
    keys, owner = (same.byte().argmax(dim=1) * len(known) + instance)[valid].unique(return_inverse=True)
    owners = torch.full_like(labels, len(keys))
    owners[valid] = owner
    return owners, (keys // max(len(known), 1)).tolist()


def _trapezoids(precision: Tensor, recall: Tensor) -> Tensor:
    start = precision.new_tensor([1.0]), recall.new_tensor([0.0])
    return torch.trapezoid(torch.cat((start[0], precision)), torch.cat((start[1], recall)))


def check_classes(classes: Sequence[int]) -> list[int]:
    classes = list(classes)
    for label in classes:
        check_count("a label of classes", label, at_least=0)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be at least one label, each once, got {classes}")
    return classes
