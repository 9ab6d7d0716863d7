"""Is SR-UNet the network of the table, and does it compute what dense layers with its weights compute?"""

import dense_layers as dense
import pytest
import torch
from sparse_scenes import outputs_and_gradients, seeded, some_voxels
from torch import nn

from pyproj2d3d.nn import sparse as sparse_layers
from pyproj2d3d.nn.sparse import SparseTensor
from pyproj2d3d.nn.sparse_blocks import BatchNorm
from pyproj2d3d.nn.sr_unet import LAYERS_18, LAYERS_34, PLANES_A, PLANES_BASE, PLANES_C, SRUNet, sr_unet18, sr_unet34

SMALL = ((1, 2, 1, 1, 1, 1, 2, 1), (4, 6, 6, 8, 6, 5, 5, 4))  # widths that differ, and one that does not


def small(c=3, out=7, **options) -> SRUNet:
    return SRUNet(c, out, *SMALL, init_dim=4, **options)


# The table, in parameters.


def stage(before: int, width: int, n: int) -> int:
    """n residual blocks: two 3x3x3 convolutions and norms each; the first has a 1x1 and a norm if the width changes."""
    first = 27 * before * width + 27 * width**2 + 2 * 2 * width
    shortcut = before * width + 2 * width if before != width else 0
    return first + shortcut + (n - 1) * (2 * 27 * width**2 + 2 * 2 * width)


def parameters(into, out, layers, planes, size=3) -> int:
    p, n = planes, layers
    total = size**3 * into * 32 + 2 * 32
    for i, before in enumerate((32, p[0], p[1], p[2])):  # the strided convolution keeps the width
        total += 8 * before**2 + 2 * before + stage(before, p[i], n[i])
    for i, skip in ((4, p[2]), (5, p[1]), (6, p[0]), (7, 32)):
        total += 8 * p[i - 1] * p[i] + 2 * p[i] + stage(p[i] + skip, p[i], n[i])
    return total + p[7] * out + out


COUNTS = {
    "18A": (sr_unet18, LAYERS_18, PLANES_A, 15_483_764),
    "34C": (sr_unet34, LAYERS_34, PLANES_C, 37_846_644),
    "18": (lambda *a, **k: SRUNet(*a, LAYERS_18, PLANES_BASE, **k), LAYERS_18, PLANES_BASE, 40_993_524),
    "34": (lambda *a, **k: SRUNet(*a, LAYERS_34, PLANES_BASE, **k), LAYERS_34, PLANES_BASE, None),
}


@pytest.mark.parametrize(("make", "layers", "planes", "by_hand"), COUNTS.values(), ids=COUNTS.keys())
def test_the_parameters_are_those_of_the_table(make, layers, planes, by_hand):
    for size in (3, 5):
        with torch.device("meta"):
            net = make(3, 20, conv1_kernel_size=size)
        assert sum(p.numel() for p in net.parameters()) == parameters(3, 20, layers, planes, size)
    if by_hand is not None:
        assert parameters(3, 20, layers, planes) == by_hand


def test_minkunet14b_has_the_parameters_that_minkowskiengine_counts():
    """MinkowskiEngine's issue 29 prints the network, of 1 channel and 20 classes, and 8953588."""
    net = SRUNet(1, 20, [1] * 8, (32, 64, 128, 256, 128, 128, 128, 128), conv1_kernel_size=5)
    assert sum(p.numel() for p in net.parameters()) == 8_953_588


def test_18_has_about_half_the_size_of_34():
    """So says PPKT of its two."""
    assert 0.4 < COUNTS["18A"][3] / COUNTS["34C"][3] < 0.5


def test_a_width_scales_all_channels_but_those_of_input_and_output():
    half, planes = sr_unet18(3, 20, width=0.5), [channels // 2 for channels in PLANES_A]
    assert (half.conv0p1s1.out_channels, half.block8[-1].conv2.out_channels) == (16, 48)
    same = SRUNet(3, 20, LAYERS_18, planes, init_dim=16)
    assert [p.shape for p in half.parameters()] == [p.shape for p in same.parameters()]


# The same, on a dense grid.


class Twin:
    """SR-UNet on a dense grid, step by step as in the table, with the weights of ``net`` in training."""

    def __init__(self, net: SRUNet):
        self.w, self.eps = dict(net.named_parameters()), net.bn0.eps

    def norm(self, g, name):
        return dense.norm(g, self.w[f"{name}.weight"], self.w[f"{name}.bias"], self.eps)

    def blocks(self, g, name):
        i = 0
        while (block := f"{name}.{i}") + ".conv1.weight" in self.w:
            out = dense.relu(self.norm(dense.submanifold(g, self.w[f"{block}.conv1.weight"]), f"{block}.norm1"))
            out = self.norm(dense.submanifold(out, self.w[f"{block}.conv2.weight"]), f"{block}.norm2")
            if f"{block}.downsample.0.weight" in self.w:
                g = self.norm(dense.linear(g, self.w[f"{block}.downsample.0.weight"]), f"{block}.downsample.1")
            g, i = dense.relu(dense.add(out, g)), i + 1
        return g

    def down(self, g, conv, i):
        return self.blocks(dense.relu(self.norm(dense.down(g, self.w[f"{conv}.weight"]), f"bn{i}")), f"block{i}")

    def up(self, g, skip, conv, i):
        out = dense.relu(self.norm(dense.up(g, self.w[f"{conv}.weight"], skip), f"bntr{i}"))
        return self.blocks(dense.beside(out, skip), f"block{i + 1}")

    def __call__(self, x: SparseTensor) -> SparseTensor:
        p1 = dense.submanifold(dense.grid_of(x), self.w["conv0p1s1.weight"])
        p1 = dense.relu(self.norm(p1, "bn0"))
        p2 = self.down(p1, "conv1p1s2", 1)
        p4 = self.down(p2, "conv2p2s2", 2)
        p8 = self.down(p4, "conv3p4s2", 3)
        out = self.down(p8, "conv4p8s2", 4)
        out = self.up(out, p8, "convtr4p16s2", 4)
        out = self.up(out, p4, "convtr5p8s2", 5)
        out = self.up(out, p2, "convtr6p4s2", 6)
        out = self.up(out, p1, "convtr7p2s2", 7)
        return x.replace_feature(dense.linear(out, self.w["final.weight"], self.w["final.bias"]).at(x.indices))

    def parameters(self):
        return self.w.values()


@pytest.mark.parametrize("widen_early", [False, True])
@pytest.mark.parametrize("size", [3, 5])
def test_values_and_all_gradients_equal_those_of_a_dense_network(size, widen_early, device):
    """The extents are odd at every level."""
    x, net = some_voxels(device=device), seeded(small(conv1_kernel_size=size, widen_early=widen_early), device=device)
    for mine, wanted in zip(outputs_and_gradients(net, x), outputs_and_gradients(Twin(net), x), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-8)
        assert wanted.abs().max() > 0


def test_a_gradient_reaches_every_parameter():
    net = sr_unet18(3, 5)
    net(some_voxels(shape=(33, 20, 18), share=0.05, dtype=torch.float32)).features.square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


# Voxels in, voxels out.


def test_the_voxels_come_out_in_the_order_in_which_they_went_in():
    x, net = some_voxels(), seeded(small()).eval()
    out = net(x)
    assert out.indices is x.indices
    assert (out.spatial_shape, out.batch_size, out.features.shape[1]) == (x.spatial_shape, 2, 7)
    order = torch.randperm(len(x.indices), generator=torch.Generator().manual_seed(3))
    again = net(SparseTensor(x.features[order], x.indices[order], x.spatial_shape, 2))
    torch.testing.assert_close(again.features, out.features[order], rtol=1e-10, atol=1e-10)


def test_scenes_of_a_batch_do_not_see_each_other():
    x, net = some_voxels(), seeded(small()).eval()
    first = x.indices[:, 0] == 0
    alone = net(SparseTensor(x.features[first], x.indices[first], x.spatial_shape, 1)).features
    torch.testing.assert_close(alone, net(x).features[first], rtol=1e-10, atol=1e-10)


def test_an_offset_by_a_multiple_of_16_changes_nothing():
    x, net = some_voxels(), seeded(small()).eval()
    moved = SparseTensor(x.features, x.indices + torch.tensor([0, 16, 32, 48]).int(), [25, 45, 66], 2)
    torch.testing.assert_close(net(moved).features, net(x).features, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 1, 33), (15, 31, 16)], ids=str)
def test_the_last_planes_of_odd_extents_are_seen_like_any_other(shape):
    x, net = some_voxels(shape=shape, share=0.9), seeded(small()).eval()
    last = (x.indices[:, 1:] == torch.tensor(shape) - 1).any(1)
    changed = x.replace_feature(torch.where(last[:, None], -x.features, x.features))
    before, after = net(x).features[last], net(changed).features[last]
    off = ((before == net.final.bias) & (after == net.final.bias)).all(1)  # the last ReLU gives 0 in all four channels
    assert ((before != after).any(1) | off).all()
    assert off.double().mean() < 0.05


@pytest.mark.parametrize("voxels", [[], [[0, 0, 0, 0]], [[0, 0, 0, 0], [0, 99, 99, 99]], [[1, 5, 5, 5]]], ids=str)
def test_isolated_voxels_one_and_none_train(voxels):
    """torch's own norm raises on one value per channel, and its statistics become NaN on none."""
    indices = torch.tensor(voxels).int().view(-1, 4)
    net = small(bn_momentum=0.5)
    out = net(SparseTensor(torch.ones(len(voxels), 3), indices, [100, 100, 100], 2))
    assert out.features.shape == (len(voxels), 7)
    assert out.features.isfinite().all()
    out.features.sum().backward()
    assert all(t.isfinite().all() for t in net.state_dict().values())
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_networks_follow_each_other():
    x = some_voxels(dtype=torch.float32)
    assert small(7, 2)(small()(x)).features.shape == (len(x.indices), 2)
    assert x.indice_dict == {}


def test_the_encoder_gives_each_stride():
    levels = small().encode(some_voxels(shape=(16, 33, 48), dtype=torch.float32))
    shapes = [[16, 33, 48], [8, 17, 24], [4, 9, 12], [2, 5, 6], [1, 3, 3]]
    assert [p.spatial_shape for p in levels] == shapes
    assert [p.features.shape[1] for p in levels] == [4, 4, 6, 6, 8]


@pytest.mark.parametrize(("size", "maps"), [(3, 9), (5, 10)])
def test_a_level_has_one_kernel_map_down_and_up(size, maps, monkeypatch):
    x, made, kernel_map = some_voxels(dtype=torch.float32), [], sparse_layers.kernel_map
    monkeypatch.setattr(sparse_layers, "kernel_map", lambda *a, **k: made.append(a) or kernel_map(*a, **k))
    small(conv1_kernel_size=size)(x)
    assert len(made) == maps  # five levels and four strides; the first kernel of 5 has its own


# Precision, bits, options, learning.


def test_momentum_and_eps_reach_every_norm():
    norms = [m for m in small(bn_momentum=0.02, bn_eps=1e-3).modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 9 + 2 * 10 + 6  # of the strides, the blocks and the six of those that change the width
    assert all((m.momentum, m.eps) == (0.02, 1e-3) for m in norms)
    assert {m.momentum for m in small().modules() if isinstance(m, BatchNorm)} == {0.05}


def test_one_batch_overfits(device, set_threads):
    """Of labels that say where a voxel is, which its own features do not."""
    x = some_voxels(shape=(9, 9, 6), share=0.1, dtype=torch.float32, device=device)
    labels = (x.indices[:, 1] // 4 + x.indices[:, 2] // 4 + x.indices[:, 0]).long() % 3
    set_threads(1)
    torch.manual_seed(0)
    net = SRUNet(3, 3, (1,) * 8, (8, 12, 16, 16, 16, 12, 12, 12), init_dim=8).to(device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        scores = net(x.replace_feature(x.features.detach())).features
        loss = nn.functional.cross_entropy(scores, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert (scores.argmax(1) == labels).all()


BAD = {
    "seven layers": (lambda: SRUNet(3, 4, [1] * 7), ValueError, "layers must be eight integers, got 7"),
    "a width of 0": (lambda: SRUNet(3, 4, planes=[0] * 8), ValueError, "planes must be at least 1, got 0"),
    "no input": (lambda: SRUNet(0, 4), ValueError, "in_channels must be at least 1, got 0"),
    "no output": (lambda: SRUNet(3, 0), ValueError, "out_channels must be at least 1, got 0"),
    "no width": (lambda: SRUNet(3, 4, width=0), ValueError, "width must be positive and finite, got 0"),
    "half a channel": (lambda: SRUNet(3, 4, init_dim=0.5), TypeError, "init_dim must be an integer, got 0.5"),
    "a first kernel of 4": (lambda: SRUNet(3, 4, conv1_kernel_size=4), ValueError, "size must be 3 or 5, got 4"),
    "a momentum above 1": (lambda: sr_unet18(3, 4, bn_momentum=5.0), ValueError, "momentum must be from 0 to 1, got 5"),
    "a momentum below 0": (lambda: BatchNorm(4, momentum=-0.1), ValueError, "momentum must be from 0 to 1, got -0.1"),
    "a momentum of NaN": (lambda: BatchNorm(4, momentum=float("nan")), ValueError, "momentum must be a number"),
    "no momentum": (lambda: BatchNorm(4, momentum=None), TypeError, "momentum must be a number, got None"),
    "other channels": (lambda: small(4)(some_voxels()), ValueError, "x must have 4 channels, got 3"),
    "a tensor": (lambda: small()(torch.zeros(2, 3)), TypeError, "x must be a SparseTensor, got Tensor"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_sr_unet_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()
