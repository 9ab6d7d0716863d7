"""nms_3d: which boxes stand for the rest? The proposals of one scene, and many, of 18 classes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyproj2d3d.boxes import box_iou_3d, nms_3d

from .conftest import OURS, Timed
from .measuring import Contender
from .peers import on_cpu

FULL, TINY = {"boxes": 256}, {"boxes": 32}
MANY, TINY_MANY = {"boxes": 2_000}, {"boxes": 64}
THRESHOLD = 0.25  # VoteNet's
NUMPY = "NumPy (one box at a time, in VoteNet's manner)"
ONE = "torch (IoU of one box at a time)"


def proposals(device: torch.device, boxes: int, numbers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 6) or (N, 7), scores and classes: eight near each object, and objects that nearly touch."""
    random = torch.Generator().manual_seed(0)
    objects = max(boxes // 8, 1)
    of = torch.randint(0, objects, (boxes,), generator=random)
    centre = torch.rand(objects, 3, generator=random) * torch.tensor([8.0, 8.0, 1.5])
    size = 0.4 + torch.rand(objects, 3, generator=random)
    turn = 2 * math.pi * torch.rand(objects, 1, generator=random)
    near = torch.cat((centre, size, turn), 1)[of]
    spread = torch.tensor([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.1])
    near = near + spread * torch.randn(boxes, 7, generator=random)
    near[:, 3:6] = near[:, 3:6].clamp(min=0.05)
    label = torch.randint(0, 18, (objects,), generator=random)[of]
    label = torch.where(torch.rand(boxes, generator=random) < 0.1, 3, label)
    return near[:, :numbers].to(device), torch.rand(boxes, generator=random).to(device), label.to(device)


def standing(device: torch.device, boxes: int) -> dict[str, Contender | str]:
    """nms_3d, IoU 0.25, along the axes."""
    box, score, label = proposals(device, boxes, 6)
    corners = torch.cat((box[:, :3] - box[:, 3:] / 2, box[:, :3] + box[:, 3:] / 2), 1).double().cpu().numpy()
    in_numpy = corners, score.double().cpu().numpy(), label.cpu().numpy()
    return {
        OURS: lambda: nms_3d(box, score, label, threshold=THRESHOLD),
        NUMPY: on_cpu(device, lambda: numpy_nms(*in_numpy)),
        ONE: lambda: one_at_a_time(box, score, label),
    }


def turned(device: torch.device, boxes: int) -> dict[str, Contender | str]:
    """nms_3d, IoU 0.25, with headings."""
    box, score, label = proposals(device, boxes, 7)
    return {
        OURS: lambda: nms_3d(box, score, label, threshold=THRESHOLD),
        ONE: lambda: one_at_a_time(box, score, label),
    }


def bench_nms_3d(timed: Timed) -> None:
    assert_same(timed(standing, full=FULL, tiny=TINY))


def bench_nms_3d_of_many(timed: Timed) -> None:
    assert_same(timed(standing, full=MANY, tiny=TINY_MANY, memory=True))


def bench_nms_3d_of_turned(timed: Timed) -> None:
    assert_same(timed(turned, full=FULL, tiny=TINY))


def bench_nms_3d_of_many_turned(timed: Timed) -> None:
    assert_same(timed(turned, full=MANY, tiny=TINY_MANY, memory=True, rounds=2))


def numpy_nms(corners: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """From (N, 6) lowest and highest corners: the best, its IoU with all that are left, those above go."""
    low, high = corners[:, :3], corners[:, 3:]
    volume = (high - low).prod(axis=1)
    left, kept = np.argsort(scores), []
    while len(left):
        best, left = left[-1], left[:-1]
        kept.append(best)
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        shared = np.maximum(sides, 0).prod(axis=1)
        iou = shared / (volume[best] + volume[left] - shared) * (labels[best] == labels[left])
        left = left[iou <= THRESHOLD]
    return np.array(kept)


def one_at_a_time(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """The same with box_iou_3d: no IoU of boxes that are gone already, and a call for each that stays."""
    left, kept = scores.argsort(descending=True), []
    while len(left):
        best, left = left[:1], left[1:]
        kept.append(best)
        iou = box_iou_3d(boxes[best], boxes[left])[0]
        left = left[(iou <= THRESHOLD) | (labels[best] != labels[left])]
    return torch.cat(kept)


def assert_same(results: dict[str, object]) -> None:
    for name, theirs in results.items():
        assert torch.equal(torch.as_tensor(theirs).cpu(), results[OURS].cpu()), name
