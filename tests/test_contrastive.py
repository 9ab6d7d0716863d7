"""Is the contrastive loss equation 3 of PPKT, at any temperature and in any precision?"""

import doctest
import importlib
import math
import re

import pytest
import torch
import torch.nn.functional as F

from pyproj2d3d.losses.contrastive import info_nce


def unit_rows(n, d=16, seed=0, dtype=torch.float64, device="cpu"):
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=rng, dtype=torch.float64), dim=1).to(device, dtype)


def equation_3(anchors, candidates, t):
    """Term by term."""
    a, c = anchors.tolist(), candidates.tolist()
    total = 0.0
    for i in range(len(a)):
        scores = [math.exp(sum(x * y for x, y in zip(a[i], row, strict=True)) / t) for row in c]
        total -= math.log(scores[i] / sum(scores))
    return total / len(a)


def test_two_anchors_by_hand(device):
    """The first is between the candidates; the second is its own: log 2 and log(1 + e^-1), by half."""
    anchors = torch.tensor([[0.5, 0.5], [0.0, 1.0]], device=device)
    candidates = torch.eye(2, device=device)
    wanted = (math.log(2) + math.log(1 + math.exp(-1))) / 2
    assert info_nce(anchors, candidates, temperature=1.0).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize("t", [0.04, 1.0])
def test_rows_that_are_all_alike_give_the_logarithm_of_their_number(n, t, device):
    rows = unit_rows(1, dtype=torch.float32, device=device).expand(n, -1)
    assert info_nce(rows, rows, t).item() == pytest.approx(math.log(n), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("t", [0.04, 0.07, 0.4])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_it_is_equation_3(n, t, device):
    anchors, candidates = unit_rows(n, seed=1, device=device), unit_rows(n, seed=2, device=device)
    assert info_nce(anchors, candidates, t).item() == pytest.approx(equation_3(anchors, candidates, t), rel=1e-10)


def test_the_papers_temperature_is_the_default():
    anchors, candidates = unit_rows(9, seed=1), unit_rows(9, seed=2)
    assert torch.equal(info_nce(anchors, candidates), info_nce(anchors, candidates, 0.04))


def test_negatives_are_candidates_and_not_anchors():
    """One candidate that resembles all anchors costs much; one anchor that resembles all candidates, little."""
    own = torch.eye(4)
    everyone = torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    candidate, anchor = info_nce(own, everyone, 0.1), info_nce(everyone, own, 0.1)
    assert candidate.item() == pytest.approx(3 / 4 * math.log(2), abs=1e-3)
    assert anchor.item() == pytest.approx(1 / 4 * math.log(4), abs=1e-3)


def test_the_order_of_the_pairs_does_not_matter_but_who_is_paired_does():
    anchors, candidates = unit_rows(20, seed=1), unit_rows(20, seed=2)
    near = F.normalize(anchors + 0.3 * candidates, dim=1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert info_nce(anchors[order], near[order]).item() == pytest.approx(info_nce(anchors, near).item(), rel=1e-12)
    assert info_nce(anchors, near.roll(1, 0)) > 10 * info_nce(anchors, near)


def test_one_pair_has_no_negative_and_no_gradient():
    anchors, candidates = unit_rows(1, seed=1).requires_grad_(), unit_rows(1, seed=2).requires_grad_()
    loss = info_nce(anchors, candidates)
    loss.backward()
    assert loss == 0
    assert not anchors.grad.any()
    assert not candidates.grad.any()


def test_gradients_reach_both_sides(device):
    inputs = [unit_rows(6, 4, seed, device=device).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda a, c: info_nce(a, c, 0.3), inputs)


def test_its_step_pulls_a_point_to_its_pixel_and_away_from_the_others():
    anchors = unit_rows(8, seed=1).requires_grad_()
    candidates = unit_rows(8, seed=2)
    info_nce(anchors, candidates, 0.5).backward()
    moved = (anchors - 0.1 * anchors.grad).detach() @ candidates.T - anchors.detach() @ candidates.T
    own = moved.diagonal()
    assert (own > 0).all()
    assert (own > (moved.sum(1) - own) / 7).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_is_computed_in_float32_or_float64_whatever_comes_in(dtype, device):
    anchors, candidates = unit_rows(50, seed=1, device=device), unit_rows(50, seed=2, device=device)
    loss = info_nce(anchors.to(dtype), candidates.to(dtype))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wanted = info_nce(anchors.to(dtype).double(), candidates.to(dtype).double()).item()
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_autocast_changes_no_bit(device):
    """In bfloat16 a product of 0.999 would be 1, and at the temperature of 0.04 that is a fortieth."""
    anchors, candidates = (unit_rows(50, seed=s, dtype=torch.float32, device=device).requires_grad_() for s in (1, 2))
    wanted = info_nce(anchors, candidates)
    gradients = torch.autograd.grad(wanted, [anchors, candidates])
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        loss = info_nce(anchors, candidates)
    assert torch.equal(loss, wanted)
    for a, b in zip(torch.autograd.grad(loss, [anchors, candidates]), gradients, strict=True):
        assert torch.equal(a, b)


def test_both_sides_may_have_their_own_precision():
    anchors, candidates = unit_rows(9, seed=1, dtype=torch.bfloat16), unit_rows(9, seed=2, dtype=torch.float32)
    assert torch.equal(info_nce(anchors, candidates), info_nce(anchors.float(), candidates))


def test_a_small_temperature_does_not_overflow():
    rows = unit_rows(30, dtype=torch.float32)
    assert 0 <= info_nce(rows, rows, 1e-4) < 1e-6
    assert info_nce(rows, rows.roll(1, 0), 1e-4).isfinite()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_is_not_hidden(side, value):
    for seed in range(10):
        sides = [unit_rows(12, 4, 2 * seed), unit_rows(12, 4, 2 * seed + 1)]
        sides[side][seed, seed % 4] = value
        assert not info_nce(*sides).isfinite()


ROWS = torch.zeros(5, 3)
FLOATS = "float16 or bfloat16 or float32 or float64"
BAD = {
    "fewer candidates": (lambda: info_nce(ROWS, ROWS[:4]), ValueError, "candidates must have shape (5, 3), got (4, 3)"),
    "narrower candidates": (
        lambda: info_nce(ROWS, ROWS[:, :2]),
        ValueError,
        "candidates must have shape (5, 3), got (5, 2)",
    ),
    "a map": (lambda: info_nce(ROWS[None], ROWS), ValueError, "anchors must have shape (*, *), got (1, 5, 3)"),
    "no rows": (lambda: info_nce(ROWS[:0], ROWS[:0]), ValueError, "anchors must have at least one row, got none"),
    "integers": (lambda: info_nce(ROWS.long(), ROWS), TypeError, f"anchors must be {FLOATS}, got int64"),
    "a list": (lambda: info_nce(ROWS, [1.0]), TypeError, "candidates must be a tensor, got list"),
    "a device": (
        lambda: info_nce(ROWS, ROWS.to("meta")),
        ValueError,
        "candidates must be on cpu like anchors, got meta",
    ),
    "no temperature": (
        lambda: info_nce(ROWS, ROWS, 0.0),
        ValueError,
        "temperature must be positive and finite, got 0.0",
    ),
    "a negative one": (lambda: info_nce(ROWS, ROWS, -1), ValueError, "temperature must be positive and finite, got -1"),
    "an infinite one": (
        lambda: info_nce(ROWS, ROWS, math.inf),
        ValueError,
        "temperature must be positive and finite, got inf",
    ),
    "a word": (lambda: info_nce(ROWS, ROWS, "low"), TypeError, "temperature must be a number, got 'low'"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_it_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_the_docstring_shows_what_it_returns():
    module = importlib.import_module("pyproj2d3d.losses.contrastive")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
