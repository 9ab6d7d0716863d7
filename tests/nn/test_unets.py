"""What do both sparse U-Nets promise beside their layers?"""

import pytest
import torch
from scenes import assert_same_bits
from sparse_scenes import outputs_and_gradients, seeded, some_voxels

from pyproj2d3d.nn.pointgroup_unet import PointGroupUNet
from pyproj2d3d.nn.sr_unet import SRUNet


@pytest.fixture(params=["SRUNet", "PointGroupUNet"])
def net(request, device):
    if request.param == "SRUNet":
        net = SRUNet(3, 7, (1, 2, 1, 1, 1, 1, 2, 1), (4, 6, 6, 8, 6, 5, 5, 4), init_dim=4)
    else:
        net = PointGroupUNet(3, 4, levels=4)
    return seeded(net, torch.float32, device)


def test_the_same_bits_twice(net, device):
    x = some_voxels(dtype=torch.float32, device=device)
    assert_same_bits(tuple(outputs_and_gradients(net, x)), tuple(outputs_and_gradients(net, x)))


def test_autocast_to_bfloat16_is_near_and_trains(net, device):
    x = some_voxels(dtype=torch.float32, device=device)
    wanted = net.eval()(x).features
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        out = net(x).features
        assert out.dtype == torch.bfloat16
        assert (out - wanted).square().mean() < 1e-3 * wanted.square().mean()
        net.train()(x).features.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())
