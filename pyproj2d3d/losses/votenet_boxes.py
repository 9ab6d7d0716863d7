"""Which box do the numbers of a VoteNet proposal mean, and which boxes does it find? The code, and its decoding.

A box is 7 numbers, as :mod:`pyproj2d3d.boxes` says: its heading is counter-clockwise seen from above, where VoteNet's
``heading_angle`` has the other sign. So a heading bin i here is bin -i there.

Numbers of a proposal, in this order, for C classes and H heading bins:

====================== ==== ==================================================================================
objectness             2    scores of "no object" and "object"
centre                 3    metres, from the place of the proposal
heading bin            H    scores; bin i is around i 2 pi / H
heading residual       H    from the middle of each bin, divided by half its width, pi / H: from -1 to 1
size class             C    scores of whose mean size is nearest: in training that of the box's own class
size residual          3 C  (size - mean size) / mean size of each class, class after class
class                  C    scores
====================== ==== ==================================================================================

Source: ``decode_scores`` of models/proposal_module.py, ``parse_predictions`` of models/ap_helper.py, and
sunrgbd/model_util_sunrgbd.py of facebookresearch/votenet.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..boxes import nms_3d
from ..ops._check import GEOMETRY, check_device, check_int, check_number, check_ptr, check_tensor

__all__ = ["BoxCoder", "Code", "Detections", "Proposed", "Reading", "detections", "mean_sizes", "points_inside"]


class Proposed(Protocol):
    """What :class:`pyproj2d3d.nn.votenet.Proposals` holds for decoding: P proposals of B samples."""

    @property
    def ptr(self) -> Tensor:
        """(B + 1,) int64: those of sample b are ptr[b] to ptr[b + 1]."""

    @property
    def xyz(self) -> Tensor:
        """(P, 3) metres, their places."""

    @property
    def numbers(self) -> Tensor:
        """(P, D), as the module says."""


class Reading(NamedTuple):
    """The numbers of P proposals by name; the heading's and the size's residuals still divided."""

    objectness: Tensor  # (P, 2)
    center: Tensor  # (P, 3) metres, in space
    heading: Tensor  # (P, H)
    heading_residual: Tensor  # (P, H)
    size: Tensor  # (P, C)
    size_residual: Tensor  # (P, C, 3)
    label: Tensor  # (P, C)


class Code(NamedTuple):
    """What a network should say of K boxes. The class of the size is ``label``."""

    center: Tensor  # (K, 3) metres
    heading: Tensor  # (K,) int64, the bin
    heading_residual: Tensor  # (K,)
    label: Tensor  # (K,) int64
    size_residual: Tensor  # (K, 3)


class Detections(NamedTuple):
    """What was found in one sample, as :func:`pyproj2d3d.metrics.match_boxes` takes it."""

    box: Tensor  # (D, 7)
    label: Tensor  # (D,) int64
    score: Tensor  # (D,) from 0 to 1


class BoxCoder(nn.Module):
    """Between boxes and numbers. It has no parameters; ``mean_sizes`` moves, and is saved, with the model.

    Args:
        mean_sizes: (C, 3) metres, of the boxes of each class along their own axes; see :func:`mean_sizes`.
        n_headings: H, 12 for SUN RGB-D. 1 means boxes that stand along the axes, as VoteNet has ScanNet: their
            heading is 0, whatever a network says of it.

    Raises:
        TypeError, ValueError: an argument of another type, shape or range than said here.
    """

    mean_sizes: Tensor

    def __init__(self, mean_sizes: Tensor, n_headings: int = 1):
        super().__init__()
        check_tensor("mean_sizes", mean_sizes, GEOMETRY, None, 3)
        if len(mean_sizes) == 0 or not bool((mean_sizes.isfinite() & (mean_sizes > 0)).all()):
            raise ValueError(f"mean_sizes must be positive and finite, one for each class, got {mean_sizes.tolist()}")
        self.n_headings = check_int("n_headings", n_headings, 1)
        self.register_buffer("mean_sizes", mean_sizes.detach().clone())

    @property
    def n_classes(self) -> int:
        return len(self.mean_sizes)

    @property
    def n_numbers(self) -> int:
        return 2 + 3 + 2 * self.n_headings + 5 * self.n_classes

    def encode(self, box: Tensor, label: Tensor) -> Code:
        """Of boxes (K, 7) and their classes (K,) int64.

        Raises:
            TypeError, ValueError: an argument of another type, shape or range than said here; a box with a heading
                where there is one bin, whose boxes stand along the axes.
        """
        _check_boxes(box, label, self.n_classes)
        center, size, heading = box.split((3, 3, 1), dim=1)
        heading = heading[:, 0].double()
        if self.n_headings == 1 and bool((heading != 0).any()):
            raise ValueError(
                f"box must have heading 0 where n_headings is 1, got {heading[heading != 0][0].item()}: "
                "align the scene, or use more bins"
            )
        width = 2 * math.pi / self.n_headings
        turned = (heading + width / 2).remainder(2 * math.pi)
        bins = (turned / width).floor().clamp(max=self.n_headings - 1)
        residual = 2 * (turned / width - bins) - 1
        size_residual = size / self.mean_sizes.to(box.dtype)[label] - 1
        return Code(center, bins.long(), residual.to(box.dtype), label, size_residual)

    def read(self, numbers: Tensor, xyz: Tensor) -> Reading:
        """The numbers (P, D) of proposals at (P, 3) by name. Differentiable."""
        check_tensor("numbers", numbers, GEOMETRY, None, self.n_numbers)
        check_tensor("xyz", xyz, (numbers.dtype,), len(numbers), 3)
        h, c = self.n_headings, self.n_classes
        objectness, offset, heading, residual, size, size_residual, label = numbers.split(
            (2, 3, h, h, c, 3 * c, c), dim=1
        )
        return Reading(objectness, xyz + offset, heading, residual, size, size_residual.unflatten(1, (c, 3)), label)

    def decode(self, numbers: Tensor, xyz: Tensor) -> Tensor:
        """(P, 7), of the best heading bin and size class of each, the heading from -pi to pi. A size may be negative,
        as the network says it."""
        said = self.read(numbers, xyz)
        bins, size = said.heading.argmax(1, keepdim=True), said.size.argmax(1)
        heading = (2 * bins + said.heading_residual.gather(1, bins)) * (math.pi / self.n_headings)
        heading = (heading + math.pi).remainder(2 * math.pi) - math.pi
        if self.n_headings == 1:
            heading = torch.zeros_like(heading)
        residual = said.size_residual[torch.arange(len(size), device=size.device), size]
        return torch.cat((said.center, self.mean_sizes.to(residual.dtype)[size] * (1 + residual), heading), dim=1)


def mean_sizes(box: Tensor, label: Tensor, n_classes: int) -> Tensor:
    """(C, 3): the mean size of the boxes (K, 7) of each class; of all boxes for a class without one. At least 1 cm
    along each axis: a size relative to that of flat things would be infinite.

    Raises:
        TypeError, ValueError: an argument of another type, shape or range than said here, or no box at all.
    """
    _check_boxes(box, label, check_int("n_classes", n_classes, 1))
    if len(box) == 0:
        raise ValueError("box must hold at least one box to take mean sizes of, got none")
    of_class = (label == torch.arange(n_classes, device=label.device)[:, None]).to(box.dtype)
    of_class = torch.where(of_class.any(1, keepdim=True), of_class, 1)
    return (of_class @ box[:, 3:6] / of_class.sum(1, keepdim=True)).clamp(min=0.01)


@torch.no_grad()
def detections(
    coder: BoxCoder,
    proposals: Proposed,
    *,
    threshold: float = 0.25,
    min_objectness: float = 0.05,
    per_class: bool = True,
    points: Tensor | None = None,
    point_ptr: Tensor | None = None,
    min_points: int = 5,
) -> list[Detections]:
    """The boxes that a batch's proposals find, sample by sample.

    Args:
        coder: that the network was trained with.
        proposals: what the network returned.
        threshold: of :func:`pyproj2d3d.nms_3d`: from the highest probability of being an object down, a box removes
            those whose likeliest class is its own and whose IoU with it is above this.
        min_objectness: only boxes that are an object with more than this probability.
        per_class: every box left is given once for each class, with the probability of an object times that of the
            class, as VoteNet's train.py does it. Otherwise once, for its likeliest class, with the probability of an
            object.
        points: (N, 3), with ``point_ptr`` (B + 1,): boxes with fewer than ``min_points`` of their sample's points in
            them are left out first, as VoteNet's eval.py does it, and its train.py does not.

    Returns:
        B of them, each from the best box down, class by class. Without gradient.

    Raises:
        TypeError, ValueError: an argument of another type, shape or range than said here, or numbers that are not
            finite.

    A box with a size that is not positive is left out; VoteNet turns it inside out. Its suppression compares upright
    boxes along the axes around the boxes, this one the boxes themselves.
    """
    check_number("min_objectness", min_objectness)
    check_ptr("proposals.ptr", proposals.ptr, proposals.numbers)
    if (points is None) != (point_ptr is None):
        raise ValueError("points and point_ptr must be given together, got one of them")
    if points is not None and point_ptr is not None:
        check_ptr("point_ptr", point_ptr, points, samples=len(proposals.ptr) - 1)
    if not bool(proposals.numbers.isfinite().all()):
        raise ValueError("proposals.numbers must be finite, got others: has the network diverged?")
    boxes, said = coder.decode(proposals.numbers, proposals.xyz), coder.read(proposals.numbers, proposals.xyz)
    object_probability = said.objectness.softmax(1)[:, 1]
    class_probability, likeliest = said.label.softmax(1), said.label.argmax(1)
    left = (boxes[:, 3:6] > 0).all(1)
    found = []
    for b, (first, end) in enumerate(pairwise(proposals.ptr.tolist())):
        row = first + left[first:end].nonzero()[:, 0]
        if points is not None and point_ptr is not None:
            inside = points_inside(points[int(point_ptr[b]) : int(point_ptr[b + 1])], boxes[row])
            row = row[inside.sum(0) >= min_points]
        row = row[nms_3d(boxes[row], object_probability[row], likeliest[row], threshold=threshold)]
        row = row[object_probability[row] > min_objectness]
        if per_class:
            label = torch.arange(coder.n_classes, device=row.device).repeat_interleave(len(row))
            score = (object_probability[row, None] * class_probability[row]).T.flatten()
            found.append(Detections(boxes[row].repeat(coder.n_classes, 1), label, score))
        else:
            found.append(Detections(boxes[row], likeliest[row], object_probability[row]))
    return found


def points_inside(points: Tensor, box: Tensor) -> Tensor:
    """(N, K) bool: which points (N, 3) are in which boxes (K, 7), those on a face included."""
    check_tensor("points", points, GEOMETRY, None, 3)
    check_tensor("box", box, GEOMETRY, None, 7)
    check_device("box", box, "points", points)
    east, north, up = (points[:, None] - box[:, :3].to(points.dtype)).unbind(2)
    half, (cos, sin) = box[:, 3:6].to(points.dtype) / 2, (box[:, 6].cos(), box[:, 6].sin())
    along, across = cos * east + sin * north, cos * north - sin * east
    return (along.abs() <= half[:, 0]) & (across.abs() <= half[:, 1]) & (up.abs() <= half[:, 2])


def _check_boxes(box: Tensor, label: Tensor, n_classes: int) -> None:
    check_tensor("box", box, GEOMETRY, None, 7)
    check_tensor("label", label, (torch.int64,), len(box))
    check_device("label", label, "box", box)
    if not bool(box.isfinite().all()):
        raise ValueError(f"box must be finite, got {box[~box.isfinite()][0].item()}")
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < n_classes:
        raise ValueError(
            f"label must be from 0 to {n_classes - 1}, got {int(label.min())} to {int(label.max())}: map the classes"
        )
