"""How good can labels get that are given to whole superpoints?"""

import doctest
import importlib
import math
from collections import Counter, defaultdict

import pytest
import torch

from pyproj2d3d.metrics import purity


def of(superpoint, labels, device=None) -> float:
    return purity(torch.tensor(superpoint, device=device), torch.tensor(labels, device=device))


def test_three_of_four_points_have_the_label_of_their_majority(device):
    assert of([0, 0, 0, 1], [7, 7, 2, 5], device) == 0.75


def test_superpoints_that_cross_no_object_are_pure_and_so_are_single_points():
    assert of([0, 0, 1, 2], [3, 3, 8, 3]) == 1.0
    assert of([3, 1, 2, 0], [4, 4, 5, 6]) == 1.0


def test_one_superpoint_is_as_pure_as_the_commonest_label_is_common():
    assert of([0] * 5, [1, 1, 2, 2, 3]) == 0.4


def test_points_without_a_label_are_not_counted_and_outvote_nobody(device):
    assert of([0, 0, 0, 0, 1], [-1, -1, 4, 5, -1], device) == 0.5


@pytest.mark.parametrize("labels", [[], [-1, -1]])
def test_without_a_label_it_is_nan(labels, device):
    superpoint = torch.zeros(len(labels), dtype=torch.int64, device=device)
    assert math.isnan(purity(superpoint, torch.tensor(labels, dtype=torch.int64, device=device)))


def test_numbers_may_be_anything_and_of_any_integer_type():
    far = 2**63 - 1
    assert of([far, 5, far], [far, 0, far - 1]) == pytest.approx(2 / 3)
    superpoint, labels = torch.tensor([9, 9, 200]), torch.tensor([255, 255, 0])
    assert purity(superpoint.to(torch.uint8), labels.to(torch.int32)) == 1.0


def test_counted_point_by_point_it_is_the_same():
    rng = torch.Generator().manual_seed(0)
    superpoint, labels = torch.randint(40, (1000,), generator=rng), torch.randint(-1, 6, (1000,), generator=rng)
    votes = defaultdict(Counter)
    for s, label in zip(superpoint.tolist(), labels.tolist(), strict=True):
        votes[s].update([label] if label >= 0 else [])
    right = sum(max(v.values()) for v in votes.values())
    assert purity(superpoint, labels) == right / sum(v.total() for v in votes.values())
    order = torch.randperm(1000, generator=rng)
    assert purity(superpoint[order], labels[order]) == purity(superpoint, labels)


def test_the_example_of_the_docstring_shows_what_is_returned():
    module = importlib.import_module("pyproj2d3d.metrics.purity")
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert (result.attempted, result.failed) == (1, 0)


SUPERPOINT, LABELS = torch.tensor([0, 0, 1]), torch.tensor([3, 4, -1])
BAD = {
    "a table": ((SUPERPOINT[None], LABELS), ValueError, r"superpoint must have shape \(\*\), got \(1, 3\)"),
    "fewer labels": ((SUPERPOINT, LABELS[:2]), ValueError, r"labels must have shape \(3\), got \(2,\)"),
    "superpoints of floats": ((SUPERPOINT.float(), LABELS), TypeError, "superpoint must be integers, got float32"),
    "labels of floats": ((SUPERPOINT, LABELS.float()), TypeError, "labels must be integers, got float32"),
    "labels as a list": ((SUPERPOINT, [3, 4, -1]), TypeError, "labels must be a tensor, got list"),
    "a negative superpoint": ((SUPERPOINT - 1, LABELS), ValueError, r"superpoint must be from 0 to \d+, got -1"),
    "a label below -1": ((SUPERPOINT, LABELS - 1), ValueError, r"labels must be from -1 to \d+, got -2"),
    "labels elsewhere": (
        (SUPERPOINT, LABELS.to("meta")),
        ValueError,
        "labels must be on cpu like superpoint, got meta",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_purity_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        purity(*arguments)
