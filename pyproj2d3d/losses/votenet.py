"""How far are votes and proposals from what they should be? VoteNet's loss (Qi et al., 2019, arXiv:1904.09664).

total = 10 (vote + 0.5 objectness + centre + 0.1 heading bin + heading residual + 0.1 size class + size residual
+ 0.1 class), with the parts of :class:`VoteNetLosses`. Source: models/loss_helper.py of facebookresearch/votenet.

Where it differs:

- There, a batch's boxes are padded with boxes at the origin, and a proposal near it can be matched to one. Here a
  proposal sees the boxes of its sample alone; without any it is no object.
- There, a mean is a sum divided by the number + 1e-6, and a distance the root of its square + 1e-6 (0.2999983 m counts
  as 0.3). Here they are what they are, and a mean of nothing is 0.
- A box of a sample without proposals, because it has no voxels, is left out of the mean over boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops._check import check_device, check_ptr, check_tensor
from .votenet_boxes import BoxCoder, Code, Proposed, Reading
from .votenet_targets import PackedBoxes

__all__ = ["VoteNetLosses", "Voted", "votenet_loss"]

NEAR, FAR = 0.3, 0.6  # metres from a centre: an object below the one, none above the other
OBJECTNESS_WEIGHTS = (0.2, 0.8)  # of no object and object

Mean = Callable[[Tensor, Tensor], Tensor]  # of a sum () and how many () int64 it is of


class Voted(Proposed, Protocol):
    """What :class:`pyproj2d3d.nn.votenet.Proposals` holds for the loss: also S votes."""

    @property
    def seed_xyz(self) -> Tensor:
        """(S, 3) metres"""

    @property
    def vote_xyz(self) -> Tensor:
        """(S, 3) metres"""


class VoteNetLosses(NamedTuple):
    """All (), means over the batch. The last three are for the log, without gradient."""

    total: Tensor
    vote: Tensor  # over seeds of objects: L1 distance, metres, to the nearest of their targets
    objectness: Tensor  # over proposals that are near or far: weighted cross entropy, not divided by the weights
    center: Tensor  # squared metres: over positives to the nearest box, plus over boxes to the nearest proposal
    heading_class: Tensor  # this and all below: over positives, of the box nearest to the proposal's place
    heading_residual: Tensor  # Huber, of the residual that is said for the right bin
    size_class: Tensor
    size_residual: Tensor  # Huber, mean of three, of the residuals that are said for the right class
    label: Tensor
    positive: Tensor  # share of the proposals that are near a box
    negative: Tensor  # share that is far from all
    accuracy: Tensor  # share of these whose objectness is right


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return total / count.clamp(min=1)


def votenet_loss(
    coder: BoxCoder, proposals: Voted, boxes: PackedBoxes, votes: Tensor, voting: Tensor, *, mean: Mean = _mean
) -> VoteNetLosses:
    """The loss of a batch.

    Args:
        coder: whose numbers the proposals have.
        proposals: what :class:`pyproj2d3d.nn.votenet.VoteNet` returned.
        boxes: of the same samples, as many in each as there are, also none.
        votes: (S, G, 3) metres: ways from each seed to the G centres for which it may vote; the nearest counts.
        voting: (S,) bool: whether it is of an object at all.
        mean: of a sum and a number. Several processes that train together give one that takes both over all of them,
            as :func:`pyproj2d3d.nn.distributed.joint_mean`; it is called as often in each.

    Raises:
        TypeError, ValueError: an argument of another type, shape, range or device than said here.

    A proposal's box is the one whose centre is nearest to its place, the lowest of several; places of proposals get no
    gradient from that. It is finite for finite proposals, whatever boxes there are; where there is nothing to average
    it is 0 and so are its gradients. It synchronises.
    """
    said, places = coder.read(proposals.numbers, proposals.xyz), proposals.xyz.detach()
    check_ptr("proposals.ptr", proposals.ptr, places)
    check_ptr("boxes.ptr", boxes.ptr, boxes.box, samples=len(proposals.ptr) - 1)
    check_device("boxes.box", boxes.box, "proposals", places)
    truth = coder.encode(boxes.box.to(places.dtype), boxes.label)
    vote = _vote_loss(proposals, votes, voting, mean)

    squared, found = nearest(places, proposals.ptr, truth.center, boxes.ptr)
    distance = squared.sqrt()
    positive, known = distance < NEAR, (distance < NEAR) | (distance > FAR)
    weights = said.objectness.new_tensor(OBJECTNESS_WEIGHTS)
    entropy = F.cross_entropy(said.objectness, positive.long(), weights, reduction="none")
    objectness = mean(entropy[known].sum(), known.sum())

    center = _center_loss(said.center, proposals.ptr, truth.center, boxes.ptr, positive, mean)
    of_box = _box_losses(Reading(*(t[positive] for t in said)), Code(*(t[found[positive]] for t in truth)), mean)
    heading_class, heading_residual, size_class, size_residual, label = of_box
    box = center + 0.1 * heading_class + heading_residual + 0.1 * size_class + size_residual
    total = 10 * (vote + 0.5 * objectness + box + 0.1 * label)

    with torch.no_grad():
        right = (said.objectness.argmax(1) == positive)[known].sum()
        everything = known.new_tensor(len(known), dtype=torch.int64)
        positives, negatives = positive.sum(), (known & ~positive).sum()
        log = [
            mean(n.to(total.dtype), of)
            for n, of in ((positives, everything), (negatives, everything), (right, known.sum()))
        ]
    return VoteNetLosses(total, vote, objectness, center, *of_box, *log)


def nearest(queries: Tensor, query_ptr: Tensor, points: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """(Q,) squared distance to, and (Q,) int64 row of, the nearest point of the query's sample, the lowest of several;
    inf and -1 where it has none. Differentiable; without atomics."""
    distances, rows = [queries.new_empty(0)], [ptr.new_empty(0)]
    for (low, high), (first, end) in zip(pairwise(query_ptr.tolist()), pairwise(ptr.tolist()), strict=True):
        if end > first:
            distance, row = (queries[low:high, None] - points[first:end]).square().sum(2).min(1)
        else:
            distance, row = queries.new_full((high - low,), torch.inf), ptr.new_full((high - low,), -1 - first)
        distances.append(distance)
        rows.append(row + first)
    return torch.cat(distances), torch.cat(rows)


def _vote_loss(proposals: Voted, votes: Tensor, voting: Tensor, mean: Mean) -> Tensor:
    offset = proposals.vote_xyz - proposals.seed_xyz
    check_tensor("votes", votes, (offset.dtype,), len(offset), None, 3)
    check_tensor("voting", voting, (torch.bool,), len(offset))
    for name, target in (("votes", votes), ("voting", voting)):
        check_device(name, target, "proposals", offset)
    if votes.shape[1] == 0:
        raise ValueError(f"votes must have at least one target for each seed, got {tuple(votes.shape)}")
    miss = (offset[:, None] - votes).abs().sum(2).amin(1)  # (S,)
    return mean(miss[voting].sum(), voting.sum())


def _center_loss(said: Tensor, ptr: Tensor, truth: Tensor, box_ptr: Tensor, positive: Tensor, mean: Mean) -> Tensor:
    """From proposals to boxes by what they say, not by their places; and from boxes to proposals of any kind."""
    to_boxes, _ = nearest(said, ptr, truth, box_ptr)
    to_proposals, found = nearest(truth, box_ptr, said, ptr)
    reached = found >= 0
    return mean(to_boxes[positive].sum(), positive.sum()) + mean(to_proposals[reached].sum(), reached.sum())


def _box_losses(said: Reading, truth: Code, mean: Mean) -> list[Tensor]:
    """Of positives and their boxes, row by row: heading bin and residual, size class and residual, class."""
    row = torch.arange(len(truth.label), device=truth.label.device)
    sums = [
        F.cross_entropy(said.heading, truth.heading, reduction="sum"),
        F.huber_loss(said.heading_residual[row, truth.heading], truth.heading_residual, reduction="sum"),
        F.cross_entropy(said.size, truth.label, reduction="sum"),
        F.huber_loss(said.size_residual[row, truth.label], truth.size_residual, reduction="sum") / 3,
        F.cross_entropy(said.label, truth.label, reduction="sum"),
    ]
    count = torch.tensor(len(row), device=row.device)
    return [mean(total, count) for total in sums]
