"""Is the most similar candidate a query's own?"""

import doctest
import importlib
import math

import pytest
import torch
import torch.nn.functional as F

from pyproj2d3d.metrics import retrieved


def test_retrieval_by_hand(device):
    pixel = torch.eye(3, device=device)
    assert retrieved(pixel, pixel).tolist() == [1, 1, 1]
    assert retrieved(pixel[[1, 0, 2]], pixel).tolist() == [0, 0, 1]
    alike = torch.ones(4, 2, device=device)
    assert retrieved(alike, alike).tolist() == [0.25] * 4  # no better than chance
    assert retrieved(torch.full((2, 2), math.nan), torch.ones(2, 2)).tolist() == [0, 0]
    assert retrieved(torch.ones(0, 2), torch.ones(0, 2)).tolist() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n", [7, 1000, 1025])
def test_rows_that_are_all_alike_are_no_better_than_chance(n, dtype, device):
    row = F.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(0)), dim=1).to(device, dtype)
    alike = row.repeat(n, 1)
    torch.testing.assert_close(retrieved(alike, alike), torch.full((n,), 1 / n, device=device))


def test_more_queries_than_are_compared_at_a_time(device):
    rng = torch.Generator().manual_seed(0)
    many = F.normalize(torch.randn(2500, 8, generator=rng), dim=1)
    noisy = F.normalize(many + 0.2 * torch.randn(2500, 8, generator=rng), dim=1)
    wanted = (noisy.double() @ many.double().T).argmax(1) == torch.arange(2500)
    assert 0.1 < wanted.double().mean() < 0.9
    assert torch.equal(retrieved(noisy.to(device), many.to(device)).bool().cpu(), wanted)


def test_similarities_are_not_rounded_under_autocast(device):
    near = torch.tensor([[1.0], [1.0001]], device=device)
    with torch.autocast(device.type, torch.bfloat16):
        assert retrieved(near, near).tolist() == [0, 1]


def test_what_does_not_belong_together_is_named():
    with pytest.raises(ValueError, match=r"queries must have shape \(\*, \*\), got \(3,\)"):
        retrieved(torch.ones(3), torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"candidates must have shape \(3, 2\), got \(4, 2\)"):
        retrieved(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(TypeError, match="candidates must be a tensor, got list"):
        retrieved(torch.ones(3, 2), [[1.0, 2.0]])
    with pytest.raises(TypeError, match="candidates must be floating, got int64"):
        retrieved(torch.ones(3, 2), torch.ones(3, 2, dtype=torch.int64))


def test_the_example_of_the_docstring_shows_what_it_returns():
    result = doctest.testmod(importlib.import_module("pyproj2d3d.metrics.retrieval"))
    assert (result.attempted, result.failed) == (1, 0)
