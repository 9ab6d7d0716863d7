"""Is the U-Net PointGroup's, and does it compute what dense layers with its weights compute?"""

import dense_layers as dense
import pytest
import torch
from sparse_scenes import outputs_and_gradients, seeded, some_voxels
from torch import nn

from pyproj2d3d.nn.pointgroup_unet import PointGroupUNet, UBlock
from pyproj2d3d.nn.sparse import SparseTensor
from pyproj2d3d.nn.sparse_blocks import BatchNorm


def small(c=3, m=4, **options) -> PointGroupUNet:
    return PointGroupUNet(c, m, **{"levels": 4} | options)


def parameters(into: int, m: int, levels: int, blocks: int) -> int:
    """By hand: a block has two norms of what comes in and goes out, two 3x3x3 kernels, and a 1x1 where they differ."""

    def block(a, b):
        return 2 * a + 27 * a * b + 2 * b + 27 * b * b + (a * b if a != b else 0)

    total = 27 * into * m + 2 * m
    for i in range(1, levels + 1):
        c, below = i * m, (i + 1) * m
        total += blocks * block(c, c)
        if i < levels:
            total += 2 * c + 8 * c * below  # down
            total += 2 * below + 8 * below * c  # up
            total += block(2 * c, c) + (blocks - 1) * block(c, c)
    return total


@pytest.mark.parametrize(("m", "by_hand"), [(16, 7_532_128), (32, 30_106_304)])
def test_the_parameters_are_those_of_the_public_code(m, by_hand):
    with torch.device("meta"):
        net = PointGroupUNet(6, m)
    assert sum(p.numel() for p in net.parameters()) == parameters(6, m, 7, 2) == by_hand


@pytest.mark.parametrize(("levels", "blocks"), [(1, 1), (2, 3), (4, 2)])
def test_levels_and_blocks_can_be_chosen(levels, blocks):
    net = small(levels=levels, blocks=blocks)
    assert sum(p.numel() for p in net.parameters()) == parameters(3, 4, levels, blocks)
    assert net(some_voxels(dtype=torch.float32)).features.shape[1] == 4


class Twin:
    """The same on a dense grid, in training."""

    def __init__(self, net: PointGroupUNet):
        self.w, self.eps = dict(net.named_parameters()), net.output_layer[0].eps

    def parameters(self):
        return self.w.values()

    def norm_relu(self, g, name):
        return dense.relu(dense.norm(g, self.w[f"{name}.weight"], self.w[f"{name}.bias"], self.eps))

    def blocks(self, g, name):
        i = 0
        while (block := f"{name}.block{i}") + ".conv_branch.2.weight" in self.w:
            out = self.norm_relu(g, f"{block}.conv_branch.0")
            out = self.norm_relu(
                dense.submanifold(out, self.w[f"{block}.conv_branch.2.weight"]), f"{block}.conv_branch.3"
            )
            out = dense.submanifold(out, self.w[f"{block}.conv_branch.5.weight"])
            if f"{block}.i_branch.0.weight" in self.w:
                g = dense.linear(g, self.w[f"{block}.i_branch.0.weight"])
            g, i = dense.add(out, g), i + 1
        return g

    def level(self, g, name):
        g = self.blocks(g, f"{name}.blocks")
        if f"{name}.conv.2.weight" in self.w:
            low = dense.down(self.norm_relu(g, f"{name}.conv.0"), self.w[f"{name}.conv.2.weight"])
            low = self.norm_relu(self.level(low, f"{name}.u"), f"{name}.deconv.0")
            g = dense.beside(g, dense.up(low, self.w[f"{name}.deconv.2.weight"], g))  # (skip, up)
            g = self.blocks(g, f"{name}.blocks_tail")
        return g

    def __call__(self, x: SparseTensor) -> SparseTensor:
        g = self.level(dense.submanifold(dense.grid_of(x), self.w["input_conv.0.weight"]), "unet")
        return x.replace_feature(self.norm_relu(g, "output_layer.0").at(x.indices))


def test_values_and_all_gradients_equal_those_of_a_dense_network(device):
    x, net = some_voxels(device=device), seeded(small(), device=device)
    for mine, wanted in zip(outputs_and_gradients(net, x), outputs_and_gradients(Twin(net), x), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-8)
        assert wanted.abs().max() > 0


def test_the_voxels_come_out_in_the_order_in_which_they_went_in():
    x, net = some_voxels(), seeded(small()).eval()
    out = net(x)
    assert out.indices is x.indices
    order = torch.randperm(len(x.indices), generator=torch.Generator().manual_seed(3))
    again = net(SparseTensor(x.features[order], x.indices[order], x.spatial_shape, 2))
    torch.testing.assert_close(again.features, out.features[order], rtol=1e-10, atol=1e-10)
    assert small(4)(small().double()(x).replace_feature(out.features.float())).features.shape == out.features.shape


@pytest.mark.parametrize("voxels", [[], [[0, 0, 0, 0]], [[0, 0, 0, 0], [0, 98, 98, 98]]], ids=str)
def test_isolated_voxels_one_and_none_train(voxels):
    indices = torch.tensor(voxels).int().view(-1, 4)
    net = PointGroupUNet(3, 4)
    out = net(SparseTensor(torch.ones(len(voxels), 3), indices, [99, 99, 99], 1))
    assert out.features.shape == (len(voxels), 4)
    out.features.sum().backward()
    assert all(t.isfinite().all() for t in net.state_dict().values())
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_a_u_block_alone_scores_thousands_of_small_grids():
    """PointGroup's score network: 14 voxels a side and no first convolution."""
    x = some_voxels(4, (14, 14, 14), 0.005, torch.float32, batch=300)
    net = UBlock([4, 8])
    assert net(x).features.shape == (len(x.indices), 4)


def test_momentum_and_eps_reach_every_norm():
    norms = [m for m in small(bn_momentum=0.02, bn_eps=1e-3).modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 1 + 2 * (4 * 2 + 3 * 2) + 2 * 3
    assert all((m.momentum, m.eps) == (0.02, 1e-3) for m in norms)
    assert {(m.momentum, m.eps) for m in small().modules() if isinstance(m, BatchNorm)} == {(0.1, 1e-4)}


def test_one_batch_overfits(device, set_threads):
    x = some_voxels(shape=(9, 9, 6), share=0.1, dtype=torch.float32, device=device)
    labels = (x.indices[:, 1] // 4 + x.indices[:, 2] // 4 + x.indices[:, 0]).long() % 3
    set_threads(1)
    torch.manual_seed(0)
    net, head = small(m=8).to(device), nn.Linear(8, 3, device=device)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        scores = head(net(x.replace_feature(x.features.detach())).features)
        loss = nn.functional.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert (scores.argmax(1) == labels).all()


BAD = {
    "no levels": (lambda: PointGroupUNet(levels=0), ValueError, "levels must be at least 1, got 0"),
    "no blocks": (lambda: PointGroupUNet(blocks=0), ValueError, "blocks must be at least 1, got 0"),
    "no channels": (lambda: PointGroupUNet(3, 0), ValueError, "channels must be at least 1, got 0"),
    "no input": (lambda: PointGroupUNet(0), ValueError, "in_channels must be at least 1, got 0"),
    "other channels": (lambda: small(4)(some_voxels()), ValueError, "x must have 4 channels, got 3"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_the_u_net_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()
