"""Do sums of millions of terms keep their digits, wherever an operation or its gradient sums?"""

import numpy as np
import pytest
import torch
from scenes import unit_camera
from torch import Tensor

from pyproj2d3d import Matches, back_project, sample, scatter, splat, three_nn, voxelize, zbuffer
from pyproj2d3d.ops import _register

BLOCK = 256  # terms


def all_in_one_pixel(n: int, device: torch.device) -> Matches:
    point = torch.arange(n, dtype=torch.int32, device=device)
    return Matches(torch.tensor([0, n], device=device), point, torch.zeros_like(point))


def gradient(of: Tensor, to: Tensor, incoming: Tensor) -> Tensor:
    return torch.autograd.grad(of, to, incoming)[0]


def by_scatter(terms: Tensor) -> Tensor:
    return scatter(terms[:, None], voxelize(torch.zeros(len(terms), 3, device=terms.device), 1.0), "sum")


def by_splat(terms: Tensor, reduce: str = "sum") -> Tensor:
    return splat(terms[:, None], all_in_one_pixel(len(terms), terms.device), (1, 1), reduce)


def by_the_gradient_of_splat(terms: Tensor) -> Tensor:
    features = torch.ones(1, 1, device=terms.device, requires_grad=True)
    index = torch.zeros(1, 1, len(terms), dtype=torch.int64, device=terms.device)
    return gradient(splat(features, index), features, terms.view(1, 1, 1, -1))


def by_the_gradient_of_sample(terms: Tensor, mode: str = "bilinear") -> Tensor:
    maps = torch.ones(1, 1, 1, 1, device=terms.device, requires_grad=True)
    rows = sample(maps, all_in_one_pixel(len(terms), terms.device), (1, 1), mode=mode)
    return gradient(rows, maps, terms[:, None])


def by_the_gradient_of_nearest_sample(terms: Tensor) -> Tensor:
    return by_the_gradient_of_sample(terms, "nearest")


def by_the_gradient_of_normalized_sample(terms: Tensor) -> Tensor:
    """d(x / |x|) at (3, 4) is ((16, -12), (-12, 9)) / 125: what comes in, less its part along x."""
    maps = torch.tensor([3.0, 4.0], device=terms.device).view(1, 2, 1, 1).requires_grad_()
    rows = sample(maps, all_in_one_pixel(len(terms), terms.device), (1, 1), normalize=True)
    incoming = torch.stack((terms, torch.zeros_like(terms)), dim=1)
    return gradient(rows, maps, incoming)[:, 0] * 125 / 16


def by_the_gradient_of_zbuffer(terms: Tensor) -> Tensor:
    uvz = torch.tensor([[[0.0, 0.0, 1.0]]], device=terms.device, requires_grad=True)
    depth = zbuffer(uvz, (1, len(terms)), radius=len(terms))[1]
    return gradient(depth, uvz, terms.view(1, 1, -1))[..., 2]


def by_the_gradient_of_back_project(terms: Tensor) -> Tensor:
    depth = torch.ones(1, 1, 1, device=terms.device, requires_grad=True)
    pixels = torch.zeros(len(terms), dtype=torch.int64, device=terms.device)
    points = back_project(depth, unit_camera(1, 1, device=terms.device), pixels=pixels).points
    return gradient(points[:, 2], depth, terms)


def by_the_gradient_of_three_nn(terms: Tensor) -> Tensor:
    """A distance of 0.5 pulls with 1."""
    point = torch.zeros(1, 3, device=terms.device, requires_grad=True)
    queries = torch.tensor([[-0.5, 0.0, 0.0]], device=terms.device).expand(len(terms), 3)
    return gradient(three_nn(point, queries)[0][:, 0], point, terms)[:, :1]


EXACT = {  # the terms are summed as they are
    f: 1_000_000 if f is by_the_gradient_of_three_nn else 4_000_000
    for f in (
        by_scatter,
        by_splat,
        by_the_gradient_of_splat,
        by_the_gradient_of_sample,
        by_the_gradient_of_nearest_sample,
        by_the_gradient_of_zbuffer,
        by_the_gradient_of_back_project,
        by_the_gradient_of_three_nn,
    )
}
ALL = EXACT | {by_the_gradient_of_normalized_sample: 4_000_000}


@pytest.mark.parametrize(("summed", "n"), ALL.items(), ids=[f.__name__ for f in ALL])
def test_millions_of_tenths_keep_three_digits(summed, n, device):
    """Four million in one running sum of float32 are 384525, a million 100958."""
    assert summed(torch.full((n,), 0.1, device=device)).item() == pytest.approx(n / 10, rel=1e-3)


def test_the_mean_of_millions_of_tenths_is_a_tenth(device):
    assert by_splat(torch.full((4_000_000,), 0.1, device=device), "mean").item() == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("n", [1, 2, BLOCK, BLOCK + 1, 3 * BLOCK, 5000])
@pytest.mark.parametrize("summed", EXACT, ids=[f.__name__ for f in EXACT])
def test_each_256_terms_are_a_sum_of_their_own(summed, n, device):
    terms = torch.randn(n, generator=torch.Generator().manual_seed(n))
    blocks = [running_sum(block.numpy()) for block in terms.split(BLOCK)]
    assert summed(terms.to(device)).item() == running_sum(np.array(blocks))


def running_sum(terms: np.ndarray) -> float:
    return np.add.accumulate(terms, dtype=np.float32)[-1].item()


@pytest.mark.parametrize("summed", ALL, ids=[f.__name__ for f in ALL])
def test_functors_of_cuda_rehearsed_on_the_cpu_sum_the_same_blocks(summed, monkeypatch):
    terms = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    on_the_cpu = summed(terms).item()
    monkeypatch.setattr(_register, "rehearse_cuda", True)
    assert summed(terms).item() == on_the_cpu
