"""Where should the points of a scene vote, and around which boxes? Targets from labels, after all augmentation.

Everything is packed: N points and K boxes of a batch of B samples, sample after sample, with (B + 1,) offsets.

VoteNet's two ways: its scannet_detection_dataset.py takes the box around the points of an instance, its sunrgbd_data.py
all boxes that a point is in. In ScanNet it makes boxes of all vertices and turns them with the points, which makes them
larger; here they are around the points as they are.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..ops._check import GEOMETRY, check_device, check_ptr, check_tensor
from .votenet_boxes import points_inside

__all__ = ["PackedBoxes", "boxes_of_instances", "vote_targets", "votes_in_boxes"]

MOST_VOTES = 3  # boxes that one point can be in


class PackedBoxes(NamedTuple):
    """The boxes of a batch."""

    box: Tensor  # (K, 7), as pyproj2d3d.boxes says
    label: Tensor  # (K,) int64 class
    ptr: Tensor  # (B + 1,) int64: the boxes of sample b are ptr[b] to ptr[b + 1]


class _Objects(NamedTuple):
    of_point: Tensor  # (N,) int64, -1 for none
    low: Tensor  # (K, 3)
    high: Tensor  # (K, 3)
    label: Tensor  # (K,) int64
    ptr: Tensor  # (B + 1,) int64


def boxes_of_instances(points: Tensor, semantic: Tensor, instance: Tensor, ptr: Tensor) -> PackedBoxes:
    """The boxes along the axes around the objects of each sample, in the order of their instance numbers.

    Args:
        points: (N, 3) float32 or float64, metres. Those that are not finite belong to no object.
        semantic: (N,) int64: the class of boxes, -1 for what gets no box, such as walls.
        instance: (N,) int64 object, -1 for none. The same number in another sample is another object.
        ptr: (B + 1,) int64, the points of each sample.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here.

    An object has the class of most of its points that have one, the lowest of several; one whose points all have none
    is no object. One that is flat along an axis, or a single point, has a box with a size of 0, which no detection
    overlaps.
    """
    found = _objects(points, semantic, instance, ptr)
    heading = points.new_zeros(len(found.label), 1)
    return PackedBoxes(
        torch.cat(((found.low + found.high) / 2, found.high - found.low, heading), dim=1), found.label, found.ptr
    )


def vote_targets(points: Tensor, semantic: Tensor, instance: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """The way from each point to the centre of the box of its object; arguments as of :func:`boxes_of_instances`.

    Returns:
        votes: (N, 1, 3), 0 for a point of no object. VoteNet stores it three times.
        voting: (N,) bool, whether the point is of an object.
    """
    found = _objects(points, semantic, instance, ptr)
    votes, voting = torch.zeros_like(points), found.of_point >= 0
    center = (found.low + found.high) / 2
    votes[voting] = center[found.of_point[voting]] - points[voting]
    return votes[:, None], voting


def votes_in_boxes(points: Tensor, ptr: Tensor, boxes: PackedBoxes) -> tuple[Tensor, Tensor]:
    """The ways from each point to the centres of the boxes that it is in. It may be called with the seeds alone.

    Returns:
        votes: (N, 3, 3): to the three lowest of its boxes; of fewer, the first is repeated; 0 for a point in none.
            VoteNet has the last box for the third.
        voting: (N,) bool, whether the point is in a box.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here.
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    check_ptr("ptr", ptr, points)
    check_tensor("boxes.box", boxes.box, GEOMETRY, None, 7)
    check_ptr("boxes.ptr", boxes.ptr, boxes.box, samples=len(ptr) - 1)
    votes, voting = points.new_zeros(len(points), MOST_VOTES, 3), points.new_zeros(len(points), dtype=torch.bool)
    for (first, end), (low, high) in zip(pairwise(ptr.tolist()), pairwise(boxes.ptr.tolist()), strict=True):
        if end == first or high == low:
            continue
        some, box = points[first:end], boxes.box[low:high]
        inside = points_inside(some, box)
        best = inside.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :MOST_VOTES]
        chosen = torch.where(inside.gather(1, best), best, best[:, :1])  # (n, 3 or fewer)
        chosen = torch.cat((chosen, chosen[:, :1].expand(-1, MOST_VOTES - chosen.shape[1])), dim=1)
        voting[first:end] = inside.any(1)
        way = box[:, :3].to(points.dtype)[chosen] - some[:, None]
        votes[first:end] = torch.where(voting[first:end, None, None], way, 0)
    return votes, voting


def _objects(points: Tensor, semantic: Tensor, instance: Tensor, ptr: Tensor) -> _Objects:
    check_tensor("points", points, GEOMETRY, None, 3)
    for name, of_point in (("semantic", semantic), ("instance", instance)):
        check_tensor(name, of_point, (torch.int64,), len(points))
        check_device(name, of_point, "points", points)
    check_ptr("ptr", ptr, points)
    samples = len(ptr) - 1
    sample = torch.repeat_interleave(ptr.diff(), output_size=len(points))
    some = ((instance >= 0) & points.isfinite().all(1)).nonzero()[:, 0]
    numbers, number = instance[some].unique(return_inverse=True)
    key, member = (sample[some] * len(numbers) + number).unique(return_inverse=True)
    n, sample_of = len(key), key // max(len(numbers), 1)

    known = semantic[some] >= 0
    names, name = semantic[some][known].unique(return_inverse=True)
    classes = max(len(names), 1)
    votes = torch.bincount(member[known] * classes + name, minlength=n * classes).view(n, classes)
    most, of_names = votes.max(1)
    label = names[of_names] if len(names) else of_names
    kept = most > 0  # those that have a class
    place = torch.where(kept, kept.cumsum(0) - 1, -1)

    at = member[:, None].expand(-1, 3)
    low = points.new_zeros(n, 3).scatter_reduce(0, at, points[some], "amin", include_self=False)
    high = points.new_zeros(n, 3).scatter_reduce(0, at, points[some], "amax", include_self=False)
    of_point = torch.full_like(instance, -1).index_copy(0, some, place[member])
    counts = torch.bincount(sample_of[kept], minlength=samples)
    new_ptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return _Objects(of_point, low[kept], high[kept], label[kept], new_ptr)
