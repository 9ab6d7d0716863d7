"""Which predictions were right, at which threshold and score, and what average precision do they make?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Verdicts(NamedTuple):
    """What a benchmark's rules say of the predictions of one scene; those of several are put one after the other."""

    rows: Tensor  # (R, 4) float64: class and threshold, both as indices; score; 1 where right, 0 where wrong
    targets: Tensor  # (C,) int64, the objects of each class that should be found


def average_precision(
    verdicts: Sequence[Verdicts], n_thresholds: int, area: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Area under the curve, and how much was found at the lowest score, for every class and threshold.

    Predictions of equal score are one point of the curve, so that nothing depends on the order of scenes or processes.

    Args:
        verdicts: one for each scene.
        n_thresholds: T.
        area: of precision and recall, both in the order of descending scores.

    Returns:
        ap, recall: (C, T) float64. NaN for a class without targets, 0 for one with targets and no row.
    """
    if not verdicts:
        raise ValueError("verdicts must be of at least one scene, got none")
    label, threshold, score, right = torch.cat([v.rows for v in verdicts]).cpu().unbind(dim=1)
    targets = torch.stack([v.targets for v in verdicts]).sum(dim=0).tolist()
    curve = (label * n_thresholds + threshold).long()  # of each class and threshold there is one
    order = curve.argsort(stable=True)
    lengths = torch.bincount(curve, minlength=len(targets) * n_thresholds).tolist()
    scores, rights = score[order].split(lengths), right[order].split(lengths)
    ap, final_recall = torch.full((2, len(targets) * n_thresholds), torch.nan, dtype=torch.float64)
    for i in range(len(ap)):
        n_targets = targets[i // n_thresholds]
        if n_targets:
            precision, recall = _curve(scores[i], rights[i], n_targets)
            ap[i] = area(precision, recall) if len(recall) else 0
            final_recall[i] = recall[-1] if len(recall) else 0
    device, shape = verdicts[0].rows.device, (len(targets), n_thresholds)
    return ap.view(shape).to(device), final_recall.view(shape).to(device)


def _curve(score: Tensor, right: Tensor, n_targets: int) -> tuple[Tensor, Tensor]:
    """Precision and recall of all predictions from each score that occurs upwards, the highest score first."""
    _, rank = (-score).unique(return_inverse=True)
    predicted = torch.bincount(rank).cumsum(dim=0)
    found = torch.bincount(rank, weights=right).cumsum(dim=0)  # of whole numbers: exact
    return found / predicted, found / n_targets
