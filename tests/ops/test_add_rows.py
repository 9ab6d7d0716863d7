"""Are rows added where they belong, in enough precision?"""

import pytest
import torch
from scenes import assert_same_bits

from pyproj2d3d.ops._register import add_rows


def test_each_row_is_added_to_its_own(device):
    out = torch.ones(3, 2, device=device)
    add_rows(out, torch.tensor([2, 0], device=device).int(), torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device))
    assert out.tolist() == [[4, 5], [1, 1], [2, 3]]


@pytest.mark.parametrize("channels", [1, 4, 66, 130])
@pytest.mark.parametrize("n", [0, 1, 5000])
def test_equals_index_add(n, channels, device, feature_dtype):
    rng = torch.Generator().manual_seed(0)
    wide = torch.float64 if feature_dtype == torch.float64 else torch.float32
    rows = torch.randn(n, channels, generator=rng).to(device, feature_dtype)
    row = torch.randperm(n + 7, generator=rng)[:n].int().to(device)
    out = torch.randn(n + 7, channels, generator=rng).to(device, wide)
    wanted = out.index_add(0, row, rows.to(wide))
    add_rows(out, row, rows)
    assert_same_bits(out, wanted)


def test_a_sum_of_shorter_floats_is_made_in_float32(device):
    out = torch.zeros(1, 1, device=device)
    for _ in range(4096):  # where bfloat16 would stay at 256
        add_rows(out, torch.zeros(1, device=device).int(), torch.ones(1, 1, device=device, dtype=torch.bfloat16))
    assert out.item() == 4096
