"""Are products along the pairs of a kernel map the sums that they should be, by whichever of both ways?"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import assert_same_bits

from pyproj2d3d import _native, kernel_map
from pyproj2d3d.nn._pairs import Pairs, convolve


def some_pairs(n: int, device: torch.device, shape=(20, 20, 6)) -> Pairs:
    """The submanifold 3 x 3 x 3 map of n voxels in no order."""
    cells = torch.randperm(shape[0] * shape[1] * shape[2], generator=torch.Generator().manual_seed(0))[:n]
    x, y, z = cells // (shape[1] * shape[2]), cells // shape[2] % shape[1], cells % shape[2]
    found = kernel_map(torch.stack((0 * x, x, y, z), 1).int().to(device), 3)
    return Pairs(found.ptr.tolist(), found.input, found.output, n, n, centre=13)


def some_layer(pairs: Pairs, inputs: int, outputs: int, device, dtype) -> list[torch.Tensor]:
    """Features, weight and the gradient of the result."""
    rng = torch.Generator().manual_seed(1)
    shapes = (pairs.n_sources, inputs), (outputs, len(pairs.ptr) - 1, inputs), (pairs.n_targets, outputs)
    return [torch.randn(shape, generator=rng).to(device, dtype) for shape in shapes]


def by_hand(features, weight, pairs: Pairs) -> torch.Tensor:
    offset = torch.repeat_interleave(torch.tensor(pairs.ptr).diff()).to(features.device)
    products = torch.einsum("pi,poi->po", features[pairs.source.long()], weight.movedim(1, 0)[offset])
    return features.new_zeros(pairs.n_targets, weight.shape[0]).index_add(0, pairs.target.long(), products)


def found(way, features, weight, grad, pairs: Pairs) -> list[torch.Tensor]:
    """The result and both gradients."""
    leaves = [t.clone().requires_grad_() for t in (features, weight)]
    out = way(*leaves, pairs)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def test_each_target_sums_its_sources_with_the_weight_of_the_offset(device):
    pairs = Pairs([0, 1, 3], *torch.tensor([[1, 0, 1], [0, 0, 2]], device=device).int(), 2, 3)
    features, weight = torch.tensor([[1.0], [10.0]], device=device), torch.tensor([[[2.0], [3.0]]], device=device)
    out, of_features, of_weight = found(convolve, features, weight, torch.ones(3, 1, device=device), pairs)
    assert out.tolist() == [[23], [0], [30]]
    assert of_features.tolist() == [[3], [5]]
    assert of_weight.tolist() == [[[10], [11]]]


WIDTHS = [(1, 1), (3, 32), (32, 3), (32, 32), (33, 31), (96, 50), (16, 17), (7, 100)]


@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_result_and_both_gradients_are_those_of_a_sum_over_all_pairs(inputs, outputs, dtype, device):
    pairs = some_pairs(1500, device)  # more than one block, and no whole number of them
    layer = some_layer(pairs, inputs, outputs, device, dtype)
    wanted = found(by_hand, *(t.double() for t in layer), pairs)
    bound = 1e-12 if dtype == torch.float64 else 1e-4
    for mine, right in zip(found(convolve, *layer, pairs), wanted, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=bound, atol=bound * float(right.abs().max()))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 4), st.integers(0, 30), st.integers(0, 30), st.integers(1, 40), st.integers(1, 40), st.randoms())
def test_any_pairs_with_each_target_once_an_offset(offsets, sources, targets, inputs, outputs, random):
    ptr, source, target = [0], [], []
    for _ in range(offsets):
        some = random.sample(range(targets), random.randint(0, targets) if sources else 0)
        taken = [random.randrange(sources) for _ in some]
        kept = dict(zip(taken, some, strict=True))  # nor is a source there twice
        source, target = source + list(kept), target + list(kept.values())
        ptr.append(len(source))
    pairs = Pairs(ptr, torch.tensor(source).int(), torch.tensor(target).int(), sources, targets)
    layer = some_layer(pairs, inputs, outputs, torch.device("cpu"), torch.float64)
    for mine, right in zip(found(convolve, *layer, pairs), found(by_hand, *layer, pairs), strict=True):
        torch.testing.assert_close(mine, right)


@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_the_same_bits_for_any_number_of_threads(inputs, outputs, set_threads):
    pairs = some_pairs(1500, torch.device("cpu"))
    layer = some_layer(pairs, inputs, outputs, torch.device("cpu"), torch.float32)
    set_threads(1)
    first = found(convolve, *layer, pairs)
    for threads in (2, 3, 7):
        set_threads(threads)
        assert_same_bits(found(convolve, *layer, pairs), first)


def test_instruction_sets_agree_and_those_with_fused_products_to_the_bit():
    pairs = some_pairs(1500, torch.device("cpu"))
    layer = some_layer(pairs, 33, 50, torch.device("cpu"), torch.float32)
    before, results = _native.isa(), {}
    try:
        for name in ("x86-64", "x86-64-v3", "x86-64-v4"):
            try:
                _native.set_isa(name)
            except ValueError:
                continue
            results[name] = found(convolve, *layer, pairs)
    finally:
        _native.set_isa(before)
    for name, result in results.items():
        for mine, other in zip(result, results["x86-64"], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-3, msg=name)
    if len(results) == 3:
        assert_same_bits(results["x86-64-v3"], results["x86-64-v4"])


def test_the_cpu_and_what_cuda_does_agree(monkeypatch):
    from pyproj2d3d.ops import _register

    pairs = some_pairs(1500, torch.device("cpu"))
    layer = some_layer(pairs, 33, 50, torch.device("cpu"), torch.float32)
    here = found(convolve, *layer, pairs)
    monkeypatch.setattr(_register, "rehearse_cuda", True)
    for mine, other in zip(here, found(convolve, *layer, pairs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-3)


def test_a_gradient_that_is_not_contiguous_counts_for_what_it_says(device):
    pairs = some_pairs(100, device)
    features, weight, grad = some_layer(pairs, 5, 6, device, torch.float32)
    wanted = found(convolve, features, weight, grad, pairs)
    mine = found(convolve, features.T.contiguous().T, weight.mT.contiguous().mT, grad.T.contiguous().T, pairs)
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_no_voxels_have_no_sums_and_a_gradient_of_zero(device):
    pairs = some_pairs(0, device)
    layer = some_layer(pairs, 3, 4, device, torch.float32)
    out, of_features, of_weight = found(convolve, *layer, pairs)
    assert out.shape == (0, 4)
    assert of_features.shape == (0, 3)
    assert not of_weight.any()
