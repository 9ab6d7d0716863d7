"""How much do boxes overlap, and which of many stand for the rest? What turned boxes share: test_metrics_detection."""

import math

import pytest
import torch
from torch import Tensor

from pyproj2d3d import box_iou_3d, nms_3d
from pyproj2d3d.metrics import box_iou


def cubes(*x: float, numbers: int = 7, device=None) -> Tensor:
    """Of 1 m on the x axis: 0.1 m apart their IoU is 9/11, 0.5 m apart 1/3."""
    rows = [[float(at), 0, 0, 1, 1, 1, 0][:numbers] for at in x]
    return torch.tensor(rows, dtype=torch.float32, device=device).view(-1, numbers)


def some_boxes(n: int, numbers: int = 7, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    centre, size, heading = torch.rand(3, n, 3, generator=rng, dtype=torch.float64)
    return torch.cat((2 * centre, 0.3 + 1.5 * size, 10 * heading[:, :1] - 5), dim=1)[:, :numbers]


def one_after_the_other(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i)):
        better = [k for k in kept if labels[k] == labels[i]]
        if all(box_iou_3d(boxes[[k]], boxes[[i]]).item() <= threshold for k in better):
            kept.append(i)
    return kept


@pytest.mark.parametrize("numbers", [6, 7])
def test_cubes_half_a_side_apart_share_a_third(numbers, device):
    a, b = cubes(0, 5, numbers=numbers, device=device), cubes(0.5, 0, 9, numbers=numbers, device=device)
    iou = box_iou_3d(a, b)
    assert iou.tolist() == [[pytest.approx(1 / 3), 1, 0], [0, 0, 0]]
    assert iou.dtype == torch.float64


def test_boxes_along_the_axes_are_turned_by_nothing():
    a, b = some_boxes(40, 6), some_boxes(30, 6, seed=1)
    turned = [torch.cat((t, torch.zeros(len(t), 1, dtype=t.dtype)), dim=1) for t in (a, b)]
    torch.testing.assert_close(box_iou_3d(a, b), box_iou_3d(*turned), rtol=0, atol=1e-14)
    assert (box_iou_3d(a, b) > 0).sum() > 100


def test_turned_boxes_share_what_the_metrics_say():
    a, b = some_boxes(20), some_boxes(30, seed=1)
    assert torch.equal(box_iou_3d(a, b), box_iou(a, b))


@pytest.mark.parametrize("numbers", [6, 7])
def test_a_batch_is_its_scenes_one_by_one(numbers):
    a, b = some_boxes(12, numbers).view(3, 4, numbers), some_boxes(15, numbers, seed=1).view(3, 5, numbers)
    assert torch.equal(box_iou_3d(a, b), torch.stack([box_iou_3d(x, y) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize("numbers", [6, 7])
def test_an_empty_box_shares_nothing_and_removes_nothing(numbers, device):
    boxes = cubes(0, 0, 0, 0, numbers=numbers, device=device)
    boxes[:3, 5] = torch.tensor([0.0, 0.0, -1.0])
    assert box_iou_3d(boxes, boxes).tolist() == [[0.0] * 4] * 3 + [[0, 0, 0, 1]]
    assert nms_3d(boxes, torch.arange(4.0, device=device), threshold=0).tolist() == [3, 2, 1, 0]


def test_a_box_shares_no_more_than_all_of_itself():
    """In one of a hundred turned boxes rounding made it more, and then nms_3d removed it at a threshold of 1."""
    boxes = some_boxes(500)
    turned = boxes + torch.tensor([0, 0, 0, 0, 0, 0, math.pi], dtype=boxes.dtype)
    for other in (boxes, turned):
        shared = torch.cat([box_iou_3d(a, b) for a, b in zip(boxes[:, None], other[:, None], strict=True)])
        assert shared.max() <= 1
        assert shared.min() > 1 - 1e-12
    scores = torch.arange(1000.0)
    assert len(nms_3d(torch.cat((boxes, boxes)), scores, threshold=1.0)) == 1000


def test_a_better_box_removes_what_it_covers(device):
    boxes = cubes(0, 0.1, 3, 0.5, device=device)
    scores = torch.tensor([0.5, 0.9, 0.1, 0.8], device=device)
    assert nms_3d(boxes, scores, threshold=0.25).tolist() == [1, 2]
    assert nms_3d(boxes, scores, threshold=0.5).tolist() == [1, 3, 2]


def test_what_was_removed_removes_nothing():
    """The second covers the third, and is itself covered by the first, which does not reach so far."""
    assert nms_3d(cubes(0, 0.5, 1), torch.tensor([0.9, 0.8, 0.7]), threshold=0.25).tolist() == [0, 2]


def test_iou_must_be_above_the_threshold():
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [0, 0, -0.25, 1, 1, 0.5]])
    assert nms_3d(boxes, torch.tensor([0.9, 0.8]), threshold=0.5).tolist() == [0, 1]
    assert nms_3d(boxes, torch.tensor([0.9, 0.8]), threshold=0.499).tolist() == [0]


def test_of_equal_scores_the_lower_index_stays(device):
    assert nms_3d(cubes(3, 0, 0, 0, device=device), torch.ones(4, device=device), threshold=0.25).tolist() == [0, 1]


def test_other_labels_are_left_alone(device):
    labels = torch.tensor([1, 0, 1, 0], device=device)
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4], device=device)
    assert nms_3d(cubes(0, 0, 0, 0, device=device), scores, labels, threshold=0.25).tolist() == [3, 2]


@pytest.mark.parametrize("numbers", [6, 7])
@pytest.mark.parametrize("n", [0, 1])
def test_no_box_and_one_box(n, numbers):
    boxes = cubes(*range(n), numbers=numbers)
    assert nms_3d(boxes, torch.ones(n), threshold=0.25).tolist() == [0] * n
    assert box_iou_3d(boxes, cubes(1, 2, numbers=numbers)).shape == (n, 2)


@pytest.mark.parametrize("numbers", [6, 7])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_going_from_box_to_box(numbers, seed):
    rng = torch.Generator().manual_seed(seed)
    boxes, labels = some_boxes(60, numbers, seed), torch.randint(2, (60,), generator=rng)
    scores = torch.randint(10, (60,), generator=rng) / 10  # many are equal
    for threshold in (0.0, 0.1, 0.25):
        wanted = one_after_the_other(boxes, scores, labels, threshold)
        assert nms_3d(boxes, scores, labels, threshold=threshold).tolist() == wanted
        assert len(wanted) < 55


def test_many_boxes_go_in_pieces(monkeypatch):
    boxes, scores = some_boxes(50), torch.arange(50.0)
    whole = nms_3d(boxes, scores, threshold=0.1)
    monkeypatch.setattr("pyproj2d3d.boxes._PAIRS_AT_A_TIME", 120)
    assert torch.equal(nms_3d(boxes, scores, threshold=0.1), whole)


ONES = torch.ones(2)
BAD = {
    "boxes of 5 numbers": ({"boxes": cubes(0, 1)[:, :5]}, ValueError, r"boxes must have shape \(\*, 7\), got \(2, 5\)"),
    "boxes of integers": ({"boxes": cubes(0, 1).int()}, TypeError, "boxes must be float32 or float64, got int32"),
    "boxes not finite": ({"boxes": cubes(0, math.inf)}, ValueError, "boxes must be finite, got inf"),
    "too few scores": ({"scores": ONES[:1]}, ValueError, r"scores must have shape \(2\), got \(1,\)"),
    "a score of NaN": ({"scores": ONES * math.nan}, ValueError, "scores must be finite, got nan"),
    "scores elsewhere": ({"scores": ONES.to("meta")}, ValueError, "scores must be on cpu like boxes, got meta"),
    "floating labels": ({"labels": ONES}, TypeError, "labels must be int64, got float32"),
    "a threshold of 2": ({"threshold": 2}, ValueError, "threshold must be from 0 to 1, got 2"),
    "a threshold of NaN": ({"threshold": math.nan}, ValueError, "threshold must be a number, got NaN"),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "error", "message"), BAD.values(), ids=BAD.keys())
def test_nms_says_what_is_wrong(changed, error, message):
    with pytest.raises(error, match=message):
        nms_3d(**{"boxes": cubes(0, 1), "scores": ONES, "threshold": 0.25} | changed)


def test_what_has_no_iou_is_named():
    with pytest.raises(TypeError, match="one must be a tensor, got list"):
        box_iou_3d([[0.0] * 7], cubes(0))
    with pytest.raises(ValueError, match=r"other must have shape \(2, \*, 7\), got \(3, 1, 7\)"):
        box_iou_3d(cubes(0, 1)[:, None], cubes(0, 1, 2)[:, None])
    with pytest.raises(ValueError, match="other must have 7 numbers like one, got 6"):
        box_iou_3d(cubes(0), cubes(0, numbers=6))
    with pytest.raises(ValueError, match="other must be finite, got nan"):
        box_iou_3d(cubes(0), cubes(math.nan))
