"""Does the sort that voxels and gradients stand on sort, and leave what is equal as it was?"""

import pytest
import torch

from pyproj2d3d.ops._register import sort_keys

WIDTHS = [(torch.int32, bits) for bits in range(1, 32)] + [(torch.int64, bits) for bits in range(1, 64)]
every_width = pytest.mark.parametrize(("dtype", "bits"), WIDTHS, ids=[f"{d}-{b}" for d, b in WIDTHS])


def random_keys(n: int, end: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """From 0 to end - 1, both of them there, many twice, some of a single bit."""
    rng = torch.Generator().manual_seed(seed)
    key = torch.randint(end, (n,), generator=rng)
    quarter = n // 4
    key[quarter : 2 * quarter] = key[:quarter]
    step = 1 << torch.randint(max((end - 1).bit_length(), 1), (n // 8,), generator=rng)
    key[: n // 8] = torch.where(step < end, step, 0)
    key[n // 3], key[n // 5] = 0, end - 1
    return key.to(dtype)


def assert_sorted_as_torch_sorts(key: torch.Tensor, end: int) -> None:
    before = key.clone()
    found, order = sort_keys(key, end)
    wanted, where = torch.sort(key, stable=True)
    assert torch.equal(found, wanted)
    assert torch.equal(order, where)
    assert (found.dtype, order.dtype) == (key.dtype, torch.int64)
    assert torch.equal(key, before)


def test_keys_ascend_and_say_where_they_came_from(device):
    for dtype in (torch.int32, torch.int64):
        key, order = sort_keys(torch.tensor([5, 0, 3, 5, 0], device=device, dtype=dtype), 6)
        assert key.tolist() == [0, 0, 3, 5, 5]
        assert order.tolist() == [1, 4, 2, 0, 3]


@every_width
def test_keys_of_every_width(dtype, bits, device):
    """Nine bits are a pass: so 9, 18, 27 ... are where one more begins."""
    for end in (2**bits, 2 ** (bits - 1) + 1):
        if end - 1 <= torch.iinfo(dtype).max:
            assert_sorted_as_torch_sorts(random_keys(700, min(end, 2**63 - 1), dtype).to(device), end)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 2, 511, 512, 1023, 1024, 5000, 100_003])
def test_keys_of_any_number_with_any_number_of_threads(n, threads, set_threads):
    """A thread takes 512 keys or more."""
    set_threads(threads)
    for dtype, bits in ((torch.int32, 8), (torch.int32, 31), (torch.int64, 20), (torch.int64, 63)):
        end = min(2**bits, 2**63 - 1)
        key = random_keys(n, end, dtype) if n > 2 else torch.arange(n, 0, -1).to(dtype)
        assert_sorted_as_torch_sorts(key, end)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("end", [1, 512, 2**18, 2**31 - 1])
def test_equal_keys_keep_their_order(end, dtype, device):
    for value in {0, end // 2, end - 1}:
        key, order = sort_keys(torch.full((3000,), value, device=device, dtype=dtype), end)
        assert (key == value).all()
        assert torch.equal(order, torch.arange(3000, device=device))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_keys_in_order_and_in_the_reverse_of_it(dtype, device):
    ascending = torch.arange(5000, device=device, dtype=dtype) // 3
    for key in (ascending, ascending.flip(0)):
        assert_sorted_as_torch_sorts(key, 1667)


def test_every_second_key_of_memory(device):
    wide = random_keys(4000, 1000, torch.int64).to(device)
    assert_sorted_as_torch_sorts(wide[::2], 1000)
    assert_sorted_as_torch_sorts(wide.view(4, 1000).T[:, 1], 1000)
