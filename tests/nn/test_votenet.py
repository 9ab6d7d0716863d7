"""Do voxels vote, and are votes gathered into proposals, as in VoteNet? Packed, however many there are."""

import math

import pytest
import torch
from scenes import assert_same_bits
from sparse_scenes import seeded
from torch import Tensor, nn

from pyproj2d3d import reference
from pyproj2d3d.losses.votenet import votenet_loss
from pyproj2d3d.losses.votenet_boxes import BoxCoder, detections, mean_sizes
from pyproj2d3d.losses.votenet_targets import boxes_of_instances, vote_targets
from pyproj2d3d.metrics import box_iou, detection_scores, match_boxes
from pyproj2d3d.nn.sparse import SparseSequential, SparseTensor, SubMConv3d
from pyproj2d3d.nn.sparse_blocks import BatchNorm
from pyproj2d3d.nn.sr_unet import sr_unet34
from pyproj2d3d.nn.votenet import Proposals, VoteNet
from pyproj2d3d.nn.voxel_input import voxel_tensor

C, D = 8, 20


def small(n_seeds=30, n_proposals=10, dtype=torch.float64, device="cpu", c=3) -> VoteNet:
    net = VoteNet(SubMConv3d(c, C, 3), C, D, n_seeds=n_seeds, n_proposals=n_proposals, radius=0.5, neighbours=4)
    return seeded(net, dtype, device)


def places_of(x: SparseTensor, dtype=torch.float64) -> Tensor:
    """About where the voxels of 10 cm are."""
    rng = torch.Generator().manual_seed(5)
    jitter = torch.rand(len(x.indices), 3, generator=rng, dtype=torch.float64)
    return (0.1 * (x.indices[:, 1:].cpu() + jitter)).to(x.features.device, dtype)


def voxels(*counts: int, dtype=torch.float64, device="cpu") -> tuple[SparseTensor, Tensor]:
    """So many of each sample, in no order."""
    rng = torch.Generator().manual_seed(len(counts))
    each = [
        torch.cat((torch.full((n, 1), b), torch.stack(torch.unravel_index(chosen, (12, 12, 12)), 1)), dim=1)
        for b, n in enumerate(counts)
        for chosen in [torch.randperm(12**3, generator=rng)[:n]]
    ]
    indices = torch.cat(each)[torch.randperm(sum(counts), generator=rng)].int()
    features = torch.randn(len(indices), 3, generator=rng, dtype=torch.float64)
    x = SparseTensor(features.to(device, dtype).requires_grad_(), indices.to(device), [12] * 3, len(counts))
    return x, places_of(x, dtype)


# Against a slow twin.


def activated(rows: Tensor, conv: nn.Module, bn: nn.Module) -> Tensor:
    """Of one row or more, in evaluation."""
    rows = rows @ conv.weight.flatten(1).T + (0 if conv.bias is None else conv.bias)
    return ((rows - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias).clamp(min=0)


def twin(net: VoteNet, x: SparseTensor, xyz: Tensor) -> list[list[tuple]]:
    """Sample by sample and place by place: per sample (seed, vote_xyz) of each seed, (vote, xyz, numbers) of each
    proposal."""
    features, samples = net.backbone(x).features, []
    for b in range(x.batch_size):
        mine = (x.indices[:, 0] == b).nonzero()[:, 0]
        if len(mine) == 0:
            samples.append(([], []))
            continue
        seed = mine[reference.farthest_point_sample(xyz[mine], min(net.n_seeds, len(mine)))]
        hidden = activated(features[seed], net.vgen.conv1, net.vgen.bn1)
        hidden = activated(hidden, net.vgen.conv2, net.vgen.bn2)
        said = hidden @ net.vgen.conv3.weight[..., 0].T + net.vgen.conv3.bias
        votes, carried = xyz[seed] + said[:, :3], features[seed] + said[:, 3:]
        carried = carried / carried.square().sum(1, keepdim=True).sqrt()
        chosen = reference.farthest_point_sample(votes, min(net.pnet.vote_aggregation.n, len(votes)))
        proposals = []
        for p in chosen.tolist():
            pool = net.pnet.vote_aggregation
            near = [i for i in range(len(votes)) if (votes[i] - votes[p]).square().sum() < pool.radius**2][: pool.k]
            rows = torch.stack([torch.cat(((votes[i] - votes[p]) / pool.radius, carried[i])) for i in near])
            for layer in pool.mlp_module.children():
                rows = activated(rows, layer.conv, layer.bn.bn)
            rows = activated(rows.amax(0), net.pnet.conv1, net.pnet.bn1)
            rows = activated(rows, net.pnet.conv2, net.pnet.bn2)
            proposals.append((p, votes[p], rows @ net.pnet.conv3.weight[..., 0].T + net.pnet.conv3.bias))
        samples.append((list(zip(seed.tolist(), votes, strict=True)), proposals))
    return samples


@pytest.mark.parametrize("counts", [(200, 90), (40, 0, 12, 31, 1), (0, 3)], ids=str)
def test_seeds_votes_and_proposals_equal_those_of_a_slow_twin(counts):
    x, xyz = voxels(*counts)
    net = small().eval()
    out, first = net(x, xyz), 0
    assert out.seed_ptr.diff().tolist() == [min(n, 30) for n in counts]
    assert out.ptr.diff().tolist() == [min(n, 10) for n in counts]
    for b, (seeds, proposals) in enumerate(twin(net, x, xyz)):
        s, p = slice(*out.seed_ptr[b : b + 2]), slice(*out.ptr[b : b + 2])
        assert out.seed[s].tolist() == [seed for seed, _ in seeds]
        assert (out.vote[p] - first).tolist() == [vote for vote, _, _ in proposals]
        if proposals:
            torch.testing.assert_close(out.vote_xyz[s], torch.stack([v for _, v in seeds]))
            torch.testing.assert_close(out.xyz[p], torch.stack([v for _, v, _ in proposals]))
            torch.testing.assert_close(out.numbers[p], torch.stack([v for _, _, v in proposals]))
        first += len(seeds)
    assert torch.equal(out.seed_xyz, xyz[out.seed])
    assert torch.equal(out.xyz, out.vote_xyz[out.vote])


def test_the_gradients_are_those_of_the_twin():
    x, xyz = voxels(60, 20)
    net = small().eval()

    def outcome(said: list[Tensor]) -> list[Tensor]:
        rng = torch.Generator().manual_seed(2)
        total = sum((t * torch.randn(t.shape, generator=rng, dtype=t.dtype)).sum() for t in said)
        return list(torch.autograd.grad(total, [x.features, *net.parameters()]))

    out, samples = net(x, xyz), twin(net, x, xyz)
    of_twin = [torch.stack([v for seeds, _ in samples for _, v in seeds])]
    of_twin += [torch.stack([row[i] for _, proposals in samples for row in proposals]) for i in (1, 2)]
    for mine, wanted in zip(outcome([out.vote_xyz, out.xyz, out.numbers]), outcome(of_twin), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-10)
        assert wanted.abs().max() > 0


def test_samples_of_a_batch_do_not_see_each_other():
    x, xyz = voxels(50, 70, 9)
    net = small().eval()
    together = net(x, xyz)
    for b in range(3):
        mine = (x.indices[:, 0] == b).nonzero()[:, 0]
        indices = x.indices[mine] * torch.tensor([0, 1, 1, 1]).int()
        alone = net(SparseTensor(x.features[mine], indices, [12] * 3, 1), xyz[mine])
        s, p = slice(*together.seed_ptr[b : b + 2]), slice(*together.ptr[b : b + 2])
        assert torch.equal(mine[alone.seed], together.seed[s])
        torch.testing.assert_close(alone.vote_xyz, together.vote_xyz[s])
        torch.testing.assert_close(alone.numbers, together.numbers[p])


# Sizes, precision, bits.


def test_the_weights_have_the_names_and_shapes_of_votenet():
    with torch.device("meta"):
        net = VoteNet(sr_unet34(3, 256), 256, 2 + 3 + 2 * 12 + 4 * 10 + 10)
    shapes = {n: tuple(t.shape) for n, t in net.state_dict().items() if not n.startswith("backbone.")}
    wide = {f"vgen.conv{i}": (256, 256, 1) for i in (1, 2)} | {f"pnet.conv{i}": (128, 128, 1) for i in (1, 2)}
    wide |= {"vgen.conv3": (259, 256, 1), "pnet.conv3": (79, 128, 1)}
    norms = {f"vgen.bn{i}": 256 for i in (1, 2)} | {f"pnet.bn{i}": 128 for i in (1, 2)}
    pool = "pnet.vote_aggregation.mlp_module.layer"
    norms |= {f"{pool}{i}.bn.bn": 128 for i in range(3)}
    wanted = {f"{n}.weight": shape for n, shape in wide.items()} | {f"{n}.bias": s[:1] for n, s in wide.items()}
    wanted |= {f"{pool}{i}.conv.weight": (128, 128 if i else 259, 1, 1) for i in range(3)}
    for name, n in norms.items():
        wanted |= {f"{name}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")}
        wanted[f"{name}.num_batches_tracked"] = ()
    assert shapes == wanted


def test_the_defaults_are_those_of_pointcontrast():
    net = VoteNet(nn.Identity(), C, D)
    pool = net.pnet.vote_aggregation
    assert (net.n_seeds, net.pnet.vote_aggregation.n, pool.radius, pool.k) == (1024, 256, 0.3, 16)


@pytest.mark.parametrize("counts", [(0,), (0, 0), (1,), (2, 0)], ids=str)
def test_hardly_any_voxels_train(counts):
    x, xyz = voxels(*counts)
    net = small()
    out = net(x, xyz)
    assert out.numbers.shape == (sum(counts), D)
    (out.numbers.sum() + out.vote_xyz.sum()).backward()
    assert all(t.isfinite().all() for t in net.state_dict().values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_autocast_to_bfloat16_keeps_places_in_float32_and_trains(device):
    x, xyz = voxels(90, 40, dtype=torch.float32, device=device)
    net, code = small(dtype=torch.float32, device=device), BoxCoder(torch.ones(3, 3, device=device))
    net = VoteNet(net.backbone, C, code.n_numbers, n_seeds=30, n_proposals=10).to(device)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        out = net(x, xyz)
        assert {t.dtype for t in (out.seed_xyz, out.vote_xyz, out.xyz, out.numbers)} == {torch.float32}
        instance = (xyz[:, 0] > 0.6).long() - 1
        ptr = torch.tensor([0, 90, 130], device=device)
        boxes = boxes_of_instances(xyz, instance, instance, ptr)
        votes, voting = vote_targets(xyz, instance, instance, ptr)
        losses = votenet_loss(code, out, boxes, votes[out.seed], voting[out.seed])
    assert losses.total.dtype == torch.float32
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


def both_ways(net: VoteNet, x: SparseTensor, xyz: Tensor) -> tuple[Tensor, ...]:
    out = net(x, xyz)
    leaves = [x.features, *net.parameters()]
    return (*out, *torch.autograd.grad((out.numbers.square().sum() + out.vote_xyz.square().sum()), leaves))


def test_the_same_bits_twice(device):
    x, xyz = voxels(300, 200, dtype=torch.float32, device=device)
    net = small(150, 60, torch.float32, device)
    assert_same_bits(both_ways(net, x, xyz), both_ways(net, x, xyz))


def test_threads_change_neither_seeds_nor_proposals_and_the_rest_by_rounding(set_threads):
    x, xyz = voxels(300, 200)
    results = []
    for threads in (1, 3):
        set_threads(threads)
        results.append(both_ways(small(150, 60), x, xyz))
    for one, other in zip(*results, strict=True):
        if one.dtype == torch.int64:
            assert torch.equal(one, other)
        else:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


# Learning.


def rooms() -> list[Tensor]:
    """Points, class, object and ptr of two rooms: a floor, and on it a long thing and a tall one each."""
    rng = torch.Generator().manual_seed(0)
    things = [
        [([0.6, 0.6, 0.3], [0.8, 0.5, 0.6], 0), ([2.3, 1.8, 0.5], [0.5, 0.5, 1.0], 1)],
        [([1.8, 1.5, 0.4], [1.2, 0.6, 0.8], 0), ([0.5, 0.6, 0.35], [0.4, 0.6, 0.7], 1)],
    ]
    parts, counts = [], []
    for room in things:
        floor = torch.rand(60, 3, generator=rng) * torch.tensor([3.0, 2.4, 0])
        parts.append((floor, torch.full((60,), -1), torch.full((60,), -1)))
        for number, (centre, size, label) in enumerate(room):
            on_faces = torch.rand(300, 3, generator=rng) - 0.5
            face = torch.arange(300)
            on_faces[face, face % 3] = (face // 3 % 2) - 0.5
            xyz = on_faces * torch.tensor(size) + torch.tensor(centre)
            parts.append((xyz, torch.full((300,), label), torch.full((300,), number)))
        counts.append(660)
    return [*(torch.cat(part) for part in zip(*parts, strict=True)), torch.tensor([0, *counts]).cumsum(0)]


def test_two_rooms_overfit_until_their_boxes_are_found(set_threads, device):
    set_threads(1)
    points, semantic, instance, ptr = (t.to(device) for t in rooms())
    boxes = boxes_of_instances(points, semantic, instance, ptr)
    votes, voting = vote_targets(points, semantic, instance, ptr)
    x, voxelized = voxel_tensor(points, points, 0.15, ptr)
    first = voxelized.order[voxelized.ptr[:-1]]
    torch.manual_seed(0)
    backbone = SparseSequential(
        *(SubMConv3d(3, 32, 3, indice_key="a"), BatchNorm(32), nn.ReLU()),
        *(SubMConv3d(32, 32, 3, indice_key="a"), BatchNorm(32), nn.ReLU()),
        SubMConv3d(32, 32, 3, indice_key="a"),
    )
    code = BoxCoder(mean_sizes(boxes.box, boxes.label, 2))
    net = VoteNet(backbone, 32, code.n_numbers, n_seeds=128, n_proposals=128).to(device)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=120)
    for _ in range(120):
        out = net(x, points[first])
        at = first[out.seed]
        losses = votenet_loss(code.to(device), out, boxes, votes[at], voting[at])
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = detections(code, net.eval()(x, points[first]))
    verdicts = []
    for b, one in enumerate(found):
        mine = slice(*boxes.ptr[b : b + 2])
        iou = box_iou(one.box, boxes.box[mine])
        sure = (one.label[:, None] == boxes.label[mine]) & (one.score[:, None] > 0.5)
        assert torch.where(sure, iou, 0).amax(0).min() > 0.5
        verdicts.append(match_boxes(*one, boxes.box[mine], boxes.label[mine], 2))
    assert detection_scores(verdicts).map25 == 1


# Bad input.


def with_nan(t: Tensor) -> Tensor:
    t = t.clone()
    t[3, 1] = math.nan
    return t


def diverged() -> Proposals:
    net = small()
    net.vgen.conv3.bias.data[1] = math.inf
    return net(*voxels(9))


X, XYZ = voxels(9)
BAD = {
    "no seeds": (lambda: small(n_seeds=0), ValueError, "n_seeds must be at least 1, got 0"),
    "no proposals": (lambda: small(n_proposals=0), ValueError, "n_proposals must be at least 1, got 0"),
    "half a number": (lambda: VoteNet(nn.Identity(), C, 0.5), TypeError, "n_numbers must be an integer, got 0.5"),
    "no channels": (lambda: VoteNet(nn.Identity(), 0, D), ValueError, "channels must be at least 1, got 0"),
    "a radius of 0": (lambda: VoteNet(nn.Identity(), 3, D, radius=0).double()(X, XYZ), ValueError, "radius must be"),
    "a tensor": (lambda: small()(X.features, XYZ), TypeError, "x must be a SparseTensor, got Tensor"),
    "a place less": (lambda: small()(X, XYZ[1:]), ValueError, r"xyz must have shape \(9, 3\), got \(8, 3\)"),
    "places in cells": (lambda: small()(X, X.indices[:, 1:]), TypeError, "xyz must be float32 or float64, got int32"),
    "a place nowhere": (lambda: small()(X, with_nan(XYZ)), ValueError, "xyz must be finite, got nan"),
    "other channels": (
        lambda: VoteNet(nn.Identity(), C, D)(X, XYZ), ValueError,
        "backbone must return 8 channels for each of the 9 voxels, got SparseTensor.M=9, C=3",
    ),
    "votes to infinity": (diverged, ValueError, "votes must be finite, got inf: the network has diverged"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_votenet_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_backbone_that_drops_voxels_is_an_error():
    class Half(nn.Module):
        def forward(self, x):
            return SparseTensor(x.features[::2], x.indices[::2], x.spatial_shape, x.batch_size)

    with pytest.raises(ValueError, match="backbone must return 3 channels for each of the 9 voxels"):
        VoteNet(Half(), 3, D)(X, XYZ)
