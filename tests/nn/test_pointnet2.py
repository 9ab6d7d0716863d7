"""Does PointNet++ compute what its definition says, on packed clouds, and are public weights at home in it?"""

import re
from functools import partial
from itertools import pairwise

import pytest
import torch
from scenes import assert_same_bits
from sparse_scenes import seeded
from torch import nn

from pyproj2d3d import reference
from pyproj2d3d.nn._pointnet2_rows import gather, interpolate
from pyproj2d3d.nn.pointnet2 import FeaturePropagation, PointNet2, PointNet2Backbone, SetAbstraction, public_names
from pyproj2d3d.nn.sparse_blocks import BatchNorm
from pyproj2d3d.nn.weights import load_weights


def plain(channels: int) -> nn.Module:
    return nn.Identity()


def on_a_line(*x: float, dtype=torch.float32, device="cpu"):
    return torch.tensor([[float(v), 0.0, 0.0] for v in x], dtype=dtype, device=device).reshape(-1, 3)


def clouds(*sizes: int, channels=3, dtype=torch.float64, device="cpu", seed=0):
    """Points in a box of 2 m, features and ptr."""
    rng = torch.Generator().manual_seed(seed)
    points = 2 * torch.rand(sum(sizes), 3, generator=rng, dtype=torch.float64)
    features = torch.randn(sum(sizes), channels, generator=rng, dtype=torch.float64) if channels else None
    features = features.to(device, dtype).requires_grad_() if channels else None
    return points.to(device, dtype), features, torch.tensor([0, *sizes], device=device).cumsum(0)


# In the head.


def test_a_ball_gives_the_maximum_of_its_points(device, dtype):
    points = on_a_line(0, 1, 2, 10, dtype=dtype, device=device)
    features = torch.tensor([[1.0], [5.0], [7.0], [3.0]], device=device)
    net = SetAbstraction(1, [1], 2, 1.5, 4, use_xyz=False, norm=plain).to(device)
    nn.init.ones_(net.mlp_module.layer0.conv.weight)
    out = net(points, features, torch.tensor([0, 4], device=device))
    assert out.chosen.tolist() == [0, 3]
    assert out.features.tolist() == [[5.0], [3.0]]
    assert out.points.tolist() == points[[0, 3]].tolist()
    assert out.ptr.tolist() == [0, 2]


@pytest.mark.parametrize(("normalize", "seen"), [(True, [[0.5, 0, 0.5]]), (False, [[1.0, 0, 1.0]])])
def test_points_are_seen_from_the_centre_and_in_radii(normalize, seen, device):
    """The layer passes on x, y and -x."""
    points = on_a_line(7, 8, 6, device=device)
    net = SetAbstraction(0, [3], 1, 2.0, 4, normalize_xyz=normalize, norm=plain).to(device)
    net.mlp_module.layer0.conv.weight.data[:, :, 0, 0] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0]])
    assert net(points, None, torch.tensor([0, 3], device=device)).features.tolist() == seen


def carrying(known_channels=1, channels=0) -> FeaturePropagation:
    net = FeaturePropagation(known_channels, channels, [known_channels + channels], plain)
    net.mlp.layer0.conv.weight.data = torch.eye(known_channels + channels)[:, :, None, None]
    return net


def test_nearer_points_carry_more(device, dtype):
    known = on_a_line(0, 3, dtype=dtype, device=device)
    points = on_a_line(1, 3, dtype=dtype, device=device)
    ptr = torch.tensor([0, 2], device=device)
    features = torch.tensor([[4.0], [7.0]], device=device)
    out = carrying().to(device)(points, None, ptr, known, features, ptr)
    torch.testing.assert_close(out, torch.tensor([[5.0], [7.0]], device=device))  # 2/3 and 1/3; the known point's own


def test_what_is_carried_stands_before_the_points_own(device):
    ptr = torch.tensor([0, 1], device=device)
    one, own = on_a_line(0, device=device), torch.tensor([[1.0, 2.0]], device=device)
    out = carrying(1, 2).to(device)(one, own, ptr, one, torch.tensor([[9.0]], device=device), ptr)
    assert out.tolist() == [[9.0, 1.0, 2.0]]


def test_a_point_that_nothing_is_near_gets_0(device):
    """Of two clouds the second has no known point; in the first one point is not finite."""
    points = on_a_line(0, float("nan"), 1, device=device)
    known, features = on_a_line(0, 2, device=device), torch.tensor([[4.0], [float("inf")]], device=device)
    ptrs = torch.tensor([0, 2, 3], device=device), torch.tensor([0, 1, 1], device=device)
    out = carrying().to(device)(points, None, ptrs[0], known[:1], features[:1], ptrs[1])
    assert out.tolist() == [[4.0], [0.0], [0.0]]
    nothing = torch.tensor([0, 0, 0], device=device)
    assert carrying().to(device)(points, None, ptrs[0], known[:0], features[:0], nothing).tolist() == [[0.0]] * 3


def test_the_weights_give_no_gradient_to_the_points():
    """At a known point it would be 1e8 and, through the root, NaN."""
    points = on_a_line(0, 1, 3).requires_grad_()
    known, features = points[[0, 2]].detach().requires_grad_(), torch.tensor([[4.0], [7.0]], requires_grad=True)
    carrying()(points, None, torch.tensor([0, 3]), known, features, torch.tensor([0, 2])).sum().backward()
    assert points.grad is None
    assert known.grad is None
    torch.testing.assert_close(features.grad, torch.tensor([[1 + 2 / 3], [1 + 1 / 3]]))


# The same, said naively.


def layers(w, name, rows):
    """Linear, normalised by the mean and variance of all rows, ReLU."""
    i = 0
    while f"{name}.layer{i}.conv.weight" in w:
        at = f"{name}.layer{i}"
        rows = rows @ w[f"{at}.conv.weight"][:, :, 0, 0].T
        rows = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
        rows = (rows * w[f"{at}.bn.bn.weight"] + w[f"{at}.bn.bn.bias"]).relu()
        i += 1
    return rows


def naive_abstraction(net: SetAbstraction, w, name, points, features, ptr):
    groups, chosen = [], []
    for begin, end in pairwise(ptr.tolist()):
        cloud = points[begin:end]
        some = reference.farthest_point_sample(cloud, min(net.n, len(cloud)))
        chosen += (some + begin).tolist()
        for centre in some:
            near = [i for i in range(len(cloud)) if torch.cdist(cloud[i : i + 1], cloud[centre][None]) < net.radius]
            near = near[: net.k] + near[:1] * (net.repeat_first * (net.k - len(near)))
            offset = (cloud[near] - cloud[centre]) / net.radius
            groups.append(offset if features is None else torch.cat((offset, features[begin:end][near]), 1))
    rows = layers(w, f"{name}mlp_module", torch.cat(groups))
    best = [g.amax(0) for g in rows.split([len(g) for g in groups])]
    sizes = [min(net.n, n) for n in ptr.diff().tolist()]
    return points[chosen], torch.stack(best), torch.tensor([0, *sizes]).cumsum(0), chosen


def naive_propagation(w, name, points, features, ptr, known_points, known_features, known_ptr):
    rows = []
    bounds = zip(pairwise(ptr.tolist()), pairwise(known_ptr.tolist()), strict=True)
    for (begin, end), (known, known_end) in bounds:
        for i in range(begin, end):
            distance = (points[i] - known_points[known:known_end]).norm(dim=1).detach()
            nearest = distance.argsort(stable=True)[:3]
            weight = 1 / (distance[nearest] + 1e-8)
            carried = (weight / weight.sum()) @ known_features[known + nearest]
            rows.append(carried if features is None else torch.cat((carried, features[i])))
    return layers(w, f"{name}mlp", torch.stack(rows))


def naive_network(net: PointNet2, points, features, ptr):
    w, b = dict(net.named_parameters()), net.backbone
    one = naive_abstraction(b.sa1, w, "backbone.sa1.", points, features, ptr)[:3]
    two = naive_abstraction(b.sa2, w, "backbone.sa2.", *one)[:3]
    three = naive_abstraction(b.sa3, w, "backbone.sa3.", *two)[:3]
    four = naive_abstraction(b.sa4, w, "backbone.sa4.", *three)[:3]
    at_three = three[0], naive_propagation(w, "backbone.fp1.", *three, *four), three[2]
    at_two = two[0], naive_propagation(w, "backbone.fp2.", *two, *at_three), two[2]
    at_one = one[0], naive_propagation(w, "seg_fp1.", *one, *at_two), one[2]
    rows = naive_propagation(w, "seg_fp2.", points, features, ptr, *at_one)
    rows = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    rows = (rows * w["classifier.0.weight"] + w["classifier.0.bias"]).relu()
    return rows @ w["classifier.2.weight"][:, :, 0].T + w["classifier.2.bias"]


def with_gradients(out, *leaves):
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


def small(in_channels=3, out_channels=4, **options) -> PointNet2:
    """The network with fewer points."""
    net = seeded(PointNet2(in_channels, out_channels, **options))
    b = net.backbone
    for abstraction, n, k in ((b.sa1, 40, 9), (b.sa2, 20, 6), (b.sa3, 10, 6), (b.sa4, 4, 6)):
        abstraction.n, abstraction.k, abstraction.radius = n, k, 2 * abstraction.radius
    return net


@pytest.mark.parametrize("repeat_first", [False, True])
@pytest.mark.parametrize("channels", [0, 3, 9])  # 9 is more than the first layer's 8: it goes before the gathering
def test_an_abstraction_equals_loops_over_all_points(channels, repeat_first):
    points, features, ptr = clouds(60, 25, channels=channels)
    points.requires_grad_()
    net = seeded(SetAbstraction(channels, [8, 6], 7, 0.8, 9, repeat_first=repeat_first))
    leaves = [points, *([features] if channels else []), *net.parameters()]
    out = net(points, features, ptr)
    wanted = naive_abstraction(net, dict(net.named_parameters()), "", points, features, ptr)
    assert out.chosen.tolist() == wanted[3]
    assert_same_bits((out.points, out.ptr), (wanted[0], wanted[2]))
    assert_same_bits(net(points, features, ptr, out.chosen), out)
    for mine, theirs in zip(with_gradients(out.features, *leaves), with_gradients(wanted[1], *leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [0, 3])
def test_a_propagation_equals_loops_over_all_points(channels):
    points, features, ptr = clouds(30, 20, channels=channels)
    known = points[[3, 9, 4, 5, 30, 49]], clouds(6, channels=5, seed=1)[1], torch.tensor([0, 4, 6])
    net = seeded(FeaturePropagation(5, channels, [8, 6]))
    leaves = [*([features] if channels else []), known[1], *net.parameters()]
    results = (
        net(points, features, ptr, *known),
        naive_propagation(dict(net.named_parameters()), "", points, features, ptr, *known),
    )
    for mine, theirs in zip(*(with_gradients(out, *leaves) for out in results), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-7)  # weights of 1e8


def test_the_network_and_all_its_gradients_equal_loops_over_all_points():
    points, features, ptr = clouds(70, 50)
    net = small()
    leaves = [features, *net.parameters()]
    mine = with_gradients(net(points, features, ptr), *leaves)
    for one, other in zip(mine, with_gradients(naive_network(net, points, features, ptr), *leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        assert other.abs().max() > 0


def test_gradcheck_of_what_is_gathered_and_interpolated(device):
    rows = clouds(6, channels=4, device=device)[1]
    index = torch.tensor([[2, 0, 5], [2, -1, -1], [-1, -1, -1]], device=device)
    weight = torch.tensor([[0.5, 0.3, 0.2], [1.0, 0, 0], [0, 0, 0]], dtype=torch.float64, device=device)
    torch.autograd.gradcheck(lambda r: gather(r, index[0].repeat(2)), (rows,))
    torch.autograd.gradcheck(lambda r: interpolate(r, index, weight), (rows,))


def test_rows_are_interpolated_in_float32_and_keep_their_dtype(feature_dtype, device):
    rows = torch.tensor([[2048.0], [2050.0]], device=device).to(feature_dtype)
    index, weight = torch.tensor([[0, 1, -1]], device=device), torch.tensor([[0.5, 0.5, 0]], device=device)
    out = interpolate(rows, index, 8 * weight)
    assert out.dtype == feature_dtype
    assert out.item() == torch.tensor(4 * rows.double().sum().item()).to(feature_dtype)


# What the result does not depend on, and what it does.


@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_points_does_not_matter_where_no_ball_is_full(training):
    points, features, ptr = clouds(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    net, centres = seeded(SetAbstraction(3, [8], 5, 0.7, 60)).train(training), torch.arange(5)
    wanted = net(points, features, ptr, centres).features
    shuffled = net(points[order], features[order], ptr, order.argsort()[centres]).features
    torch.testing.assert_close(shuffled, wanted, rtol=1e-10, atol=1e-10)


def abstractions(k: int, **options) -> SetAbstraction:
    return seeded(SetAbstraction(3, [8, 6], 10, 0.5, k, **options))


def test_repeats_of_the_first_point_change_the_statistics_of_training_alone():
    """No ball has 40 points. Once each: the same for any such k. With repeats, as in public code, more of k is more of
    each first point."""
    points, features, ptr = clouds(60)
    arguments = points, features, ptr
    once, more = abstractions(40), abstractions(55)
    torch.testing.assert_close(once(*arguments).features, more(*arguments).features, rtol=1e-10, atol=1e-10)
    repeated, even_more = abstractions(40, repeat_first=True), abstractions(55, repeat_first=True)
    features_of = [net(*arguments).features for net in (once, repeated, even_more)]
    for one, other in ((0, 1), (1, 2)):
        assert (features_of[one] - features_of[other]).abs().max() > 1e-3
    evaluated = [abstractions(k, repeat_first=r).eval()(*arguments).features for k in (40, 55) for r in (False, True)]
    for other in evaluated[1:]:
        torch.testing.assert_close(other, evaluated[0], rtol=1e-10, atol=1e-10)


def test_clouds_of_a_batch_do_not_see_each_other_in_evaluation():
    points, features, ptr = clouds(70, 50)
    net = small().eval()
    together = net(points, features, ptr)
    for begin, end in pairwise(ptr.tolist()):
        alone = net(points[begin:end], features[begin:end], torch.tensor([0, end - begin]))
        torch.testing.assert_close(together[begin:end], alone, rtol=1e-10, atol=1e-10)


def test_far_from_the_origin_the_result_is_the_same():
    """Offsets are taken before any layer: in float32, 1 km away, coordinates are right to 0.1 mm and so is the rest."""
    points, features, ptr = clouds(60, channels=9, dtype=torch.float32)
    net = seeded(SetAbstraction(9, [8, 6], 7, 0.8, 60), torch.float32).eval()
    away = (points + 1024).requires_grad_()
    there, here = net(away, features, ptr), net(away.detach() - 1024, features, ptr)
    torch.testing.assert_close(there.features, here.features, rtol=1e-5, atol=1e-5)


def test_points_may_be_finer_than_the_weights():
    points, features, ptr = clouds(60)
    net = seeded(SetAbstraction(3, [8, 6], 7, 0.8, 60), torch.float32)
    out = net(points, features.float(), ptr)
    assert (out.points.dtype, out.features.dtype) == (torch.float64, torch.float32)


# Few points.


def test_a_cloud_with_fewer_points_keeps_all_where_that_is_allowed(device):
    points, features, ptr = clouds(4, 0, 9, 1, device=device)
    net = seeded(SetAbstraction(3, [8], 5, 0.8, 6, allow_fewer=True), device=device)
    out = net(points, features, ptr)
    assert out.ptr.tolist() == [0, 4, 4, 9, 10]
    assert sorted(out.chosen[:4].tolist()) == [0, 1, 2, 3]
    assert out.chosen[9] == 13
    assert set(out.chosen[4:9].tolist()) <= set(range(4, 13))
    for ptr in ([0, 0], [0]):
        none = net(points[:0], features[:0], torch.tensor(ptr, device=device))
        assert (none.points.shape, none.features.shape, none.ptr.tolist()) == ((0, 3), (0, 8), ptr)


@pytest.mark.parametrize("sizes", [(5, 0, 3), (1,), (0,), (2, 0)], ids=str)
def test_the_network_trains_on_hardly_any_points(sizes):
    points, features, ptr = clouds(*sizes, dtype=torch.float32)
    net = PointNet2(3, 4, allow_fewer=True)
    out = net(points, features, ptr)
    assert out.shape == (sum(sizes), 4)
    out.sum().backward()
    assert all(t.isfinite().all() for t in [*net.state_dict().values(), *(p.grad for p in net.parameters())])


# The network of the table.


def test_the_parameters_are_those_of_the_table():
    def mlp(*widths):
        return sum(a * b + 2 * b for a, b in pairwise(widths))

    with torch.device("meta"):
        net = PointNet2(3, 20)
    wanted = mlp(3 + 3, 64, 64, 128) + mlp(3 + 128, 128, 128, 256) + 2 * mlp(3 + 256, 128, 128, 256)
    assert sum(p.numel() for p in net.backbone.parameters()) == wanted + 2 * mlp(512, 256, 256)
    wanted += 2 * mlp(512, 256, 256) + mlp(256 + 128, 256, 256) + mlp(3 + 256, 256, 256) + 2 * 256 + 256 * 20 + 20
    assert sum(p.numel() for p in net.parameters()) == wanted == 945_428
    b = net.backbone
    table = [(s.n, s.radius, s.k, s.use_xyz, s.normalize_xyz) for s in (b.sa1, b.sa2, b.sa3, b.sa4)]
    assert table == [(2048, 0.2, 64, True, True), (1024, 0.4, 32, True, True), (512, 0.8, 16, True, True),
                     (256, 1.2, 16, True, True)]  # fmt: skip


def test_points_go_down_to_256_and_come_back(device):
    points, _, ptr = clouds(2100, 2048, channels=0, dtype=torch.float32, device=device)
    net = PointNet2(0, 20).to(device).eval()
    with torch.no_grad():
        first, seeds = net.backbone(points, None, ptr)
        assert net(points, None, ptr).shape == (4148, 20)
        assert net.embed(points, None, ptr).shape == (4148, 256)
    assert (first.features.shape, first.ptr.tolist()) == ((4096, 128), [0, 2048, 4096])
    assert (seeds.features.shape, seeds.ptr.tolist()) == ((2048, 256), [0, 1024, 2048])
    assert torch.equal(points[seeds.chosen], seeds.points)
    assert torch.equal(points[first.chosen], first.points)


def test_momentum_and_eps_reach_every_norm():
    norms = [m for m in PointNet2(3, 4, bn_momentum=0.5, bn_eps=1e-3).modules() if isinstance(m, BatchNorm)]
    assert len(norms) == 4 * 3 + 4 * 2 + 1
    assert {(m.momentum, m.eps) for m in norms} == {(0.5, 1e-3)}
    assert {(m.momentum, m.eps) for m in PointNet2(3, 4).modules() if isinstance(m, BatchNorm)} == {(0.1, 1e-5)}


def test_options_reach_every_abstraction():
    for options in ({"allow_fewer": True}, {"repeat_first": True}):
        found = [m for m in PointNet2(3, 4, **options).modules() if isinstance(m, SetAbstraction)]
        assert len(found) == 4
        assert all(vars(m).items() >= options.items() for m in found)


# Public weights.


class PublicMLP(nn.Sequential):
    """On (B, C, n, k), with the names of public code."""

    def __init__(self, *widths):
        super().__init__()
        for i, (a, b) in enumerate(pairwise(widths)):
            layer = nn.Sequential()
            layer.add_module("conv", nn.Conv2d(a, b, 1, bias=False))
            layer.add_module("bn", nn.Sequential())
            layer.bn.add_module("bn", nn.BatchNorm2d(b))
            layer.add_module("activation", nn.ReLU())
            self.add_module(f"layer{i}", layer)


def public_network(in_channels, out_channels) -> nn.Module:
    """Modules with public names alone."""
    net = nn.Module()
    net.backbone_net, net.seg_head = nn.Module(), nn.Module()
    widths = [(3 + in_channels, 64, 64, 128), (3 + 128, 128, 128, 256), *[(3 + 256, 128, 128, 256)] * 2]
    for i, w in enumerate(widths):
        sa = nn.Module()
        sa.mlp_module = PublicMLP(*w)
        setattr(net.backbone_net, f"sa{i + 1}", sa)
    for where, name, into in (
        (net.backbone_net, "fp1", 512), (net.backbone_net, "fp2", 512),
        (net.seg_head, "seg_fp1", 256 + 128), (net.seg_head, "seg_fp2", in_channels + 256),
    ):  # fmt: skip
        fp = nn.Module()
        fp.mlp = PublicMLP(into, 256, 256)
        setattr(where, name, fp)
    net.seg_head.classifier = nn.Sequential(nn.BatchNorm1d(256), nn.ReLU(), nn.Conv1d(256, out_channels, 1))
    return net


def public_abstraction(sa, points, features, chosen, radius, k):
    """(n, C'): a ball of fewer than k points is filled with its first, as the public kernel does."""
    near = torch.cdist(points[chosen], points, compute_mode="donot_use_mm_for_euclid_dist") < radius
    index = torch.where(near, torch.arange(len(points)), len(points)).sort(1).values[:, :k]
    index = torch.where(index == len(points), index[:, :1], index)
    offset = (points[index] - points[chosen][:, None]) / radius
    grouped = offset if features is None else torch.cat((offset, features[index]), 2)  # (n, k, C)
    return sa.mlp_module(grouped.permute(2, 0, 1)[None])[0].amax(2).T


def public_propagation(fp, points, features, known, known_features):
    distance, index = torch.cdist(points, known, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1, stable=True)
    weight = 1 / (distance[:, :3] + 1e-8)
    carried = (weight / weight.sum(1, True))[..., None].mul(known_features[index[:, :3]]).sum(1)
    rows = carried if features is None else torch.cat((carried, features), 1)
    return fp.mlp(rows.T[None, :, :, None])[0, :, :, 0].T


@pytest.mark.parametrize("in_channels", [0, 3])
def test_a_public_network_loads_and_gives_the_same(in_channels, tmp_path):
    theirs = seeded(public_network(in_channels, 20)).eval()
    weights = {f"module.{key}": w for key, w in theirs.state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": weights, "optimizer_state_dict": {}}, tmp_path / "checkpoint.tar")
    ours = small(in_channels, 20).eval()
    assert load_weights(ours, tmp_path / "checkpoint.tar", rename=public_names) == ([], [])
    points, features, ptr = clouds(90, channels=in_channels)
    with torch.no_grad():
        levels = [(points, features)]
        for i in range(4):
            mine, sa = getattr(ours.backbone, f"sa{i + 1}"), getattr(theirs.backbone_net, f"sa{i + 1}")
            at, what = levels[-1]
            chosen = reference.farthest_point_sample(at, mine.n)
            levels.append((at[chosen], public_abstraction(sa, at, what, chosen, mine.radius, mine.k)))
        carried, b, s = levels[4][1], theirs.backbone_net, theirs.seg_head
        for i, fp in ((3, b.fp1), (2, b.fp2), (1, s.seg_fp1), (0, s.seg_fp2)):
            carried = public_propagation(fp, *levels[i], levels[i + 1][0], carried)
        wanted = s.classifier(carried.T[None])[0].T
        torch.testing.assert_close(ours(points, features, ptr), wanted, rtol=1e-8, atol=1e-8)


def test_the_backbone_of_votenet_loads_alone():
    theirs, ours = seeded(public_network(1, 20)), PointNet2Backbone(1).double()
    votenet = theirs.state_dict() | {"vgen.conv1.weight": torch.zeros(2, 2, 1)}
    assert load_weights(ours, votenet, prefix="backbone_net.") == ([], [])
    assert torch.equal(ours.fp2.mlp.layer1.conv.weight, theirs.backbone_net.fp2.mlp.layer1.conv.weight)
    assert ours.sa1.mlp_module.layer0.bn.bn.running_var.tolist() == pytest.approx(
        theirs.backbone_net.sa1.mlp_module.layer0.bn.bn.running_var.tolist()
    )
    net = PointNet2(1, 20)
    backbone = {key: w for key, w in votenet.items() if key.startswith("backbone_net.")}
    keys = load_weights(net, backbone, rename=public_names, strict=False)
    assert keys.unexpected == []
    assert all(key.startswith(("seg_fp", "classifier")) for key in keys.missing)


def test_names_that_are_nobodys_stay():
    assert public_names("pnet.conv1.weight") == "pnet.conv1.weight"
    assert public_names("sa1.mlp_module.layer0.conv.weight") == "backbone.sa1.mlp_module.layer0.conv.weight"
    assert public_names("classifier.2.bias") == "classifier.2.bias"
    assert public_names("det_head.classifier.2.bias") == "det_head.classifier.2.bias"


# Precision, threads, compilation, learning.


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_is_near_and_trains(half, device):
    points, features, ptr = clouds(80, 60, dtype=torch.float32, device=device)
    net = small().to(device, torch.float32).eval()
    wanted = net(points, features, ptr)
    with torch.autocast(torch.device(device).type, half):
        out = net(points, features, ptr)
        assert out.dtype == half
        assert (out - wanted).square().mean() < 1e-3 * wanted.square().mean()
        net.train()(points, features, ptr).float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


def test_neighbours_and_what_is_gathered_have_the_same_bits_for_any_number_of_threads(set_threads, device):
    points, features, ptr = clouds(12_000, 5_000, channels=16, dtype=torch.float32, device=device)
    net = SetAbstraction(16, [8], 500, 0.3, 32, norm=plain).to(device)
    index = torch.randint(17_000, (20_000, 3), generator=torch.Generator().manual_seed(0)).to(device)
    weight = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1)).to(device)
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        out = net(points, features, ptr)
        balls = net._balls(points, out.points, ptr.tolist(), [500, 500])
        parts = [f(features) for f in (lambda r: gather(r, index[:, 0]), lambda r: interpolate(r, index, weight))]
        gradients = [g for part in parts for g in with_gradients(part, features)]
        results.append((out.points, out.ptr, out.chosen, *balls, *gradients))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


def test_the_same_bits_twice(device):
    points, features, ptr = clouds(300, 200, dtype=torch.float32, device=device)
    net = small().to(device, torch.float32)
    leaves = [features, *net.parameters()]
    one, other = (tuple(with_gradients(net(points, features, ptr), *leaves)) for _ in range(2))
    assert_same_bits(one, other)


def test_two_threads_give_the_right_result(set_threads):
    points, features, ptr = clouds(6000, dtype=torch.float32)
    net, results = small().float().eval(), []
    for threads in (1, 2):
        set_threads(threads)
        results.append(net(points, features, ptr).detach())
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning"
)  # of torch's own way with autograd functions
def test_an_abstraction_compiles(set_threads):
    """In pieces: the sizes of clouds are read on the host."""
    set_threads(1)
    points, features, ptr = clouds(30, 20, channels=9, dtype=torch.float32)
    net = seeded(SetAbstraction(9, [8], 7, 0.8, 9), torch.float32)
    leaves = [features, *net.parameters()]
    results = [
        with_gradients(f(points, features, ptr).features, *leaves) for f in (net, torch.compile(net, backend="eager"))
    ]
    assert_same_bits(*results)


def test_a_few_points_overfit(device, set_threads):
    set_threads(1)
    torch.manual_seed(0)
    points, _, ptr = clouds(24, 16, channels=0, dtype=torch.float32, device=device)
    labels = (points[:, 0] > 1).long() + (points[:, 2] > 1)
    net = PointNet2(0, 3, allow_fewer=True).to(device)
    optimizer, losses = torch.optim.Adam(net.parameters(), 3e-3), []
    for _ in range(15):
        loss = nn.functional.cross_entropy(net(points, None, ptr), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


# Errors.

POINTS, FEATURES, PTR = clouds(6, 4, channels=2, dtype=torch.float32)


def abstraction(**options):
    return partial(SetAbstraction, **{"in_channels": 2, "channels": [4], "n": 3, "radius": 1.0, "k": 2} | options)


def ask(points=POINTS, features=FEATURES, ptr=PTR, index=None, **options):
    return lambda: abstraction(**options)()(points, features, ptr, index)


def carry(**changed):
    arguments = {"points": POINTS, "features": FEATURES, "ptr": PTR}
    arguments |= {"known_points": POINTS, "known_features": FEATURES, "known_ptr": PTR} | changed
    return lambda: FeaturePropagation(2, 2, [4])(**arguments)


BROKEN = torch.cat((POINTS[:-1], torch.tensor([[0.0, float("nan"), 1.0]])))
BAD = {
    "negative channels": (abstraction(in_channels=-1), ValueError, "in_channels must be at least 0, got -1"),
    "no layers": (abstraction(channels=[]), ValueError, "channels must have at least one layer, got none"),
    "a layer of nothing": (abstraction(channels=[4, 0]), ValueError, r"channels[1] must be at least 1, got 0"),
    "no samples": (abstraction(n=0), ValueError, "n must be at least 1, got 0"),
    "no neighbours": (abstraction(k=0), ValueError, "k must be at least 1, got 0"),
    "a radius of text": (abstraction(radius="1"), TypeError, "radius must be a number, got '1'"),
    "a radius of 0": (abstraction(radius=0), ValueError, "radius must be positive and finite, got 0"),
    "a radius below 0": (abstraction(radius=-0.5), ValueError, "radius must be positive and finite, got -0.5"),
    "an endless radius": (abstraction(radius=float("inf")), ValueError, "radius must be positive and finite, got inf"),
    "a radius of NaN": (abstraction(radius=float("nan")), ValueError, "radius must be a number, got NaN"),
    "a radius too short to square": (
        ask(radius=1e-30), ValueError, "radius must be positive, and neither 0 nor infinite when squared in float32",
    ),
    "a momentum above 1": (
        lambda: PointNet2(3, 4, bn_momentum=5.0), ValueError, "momentum must be from 0 to 1, got 5.0",
    ),
    "nothing to look at": (
        abstraction(in_channels=0, use_xyz=False), ValueError, "use_xyz must be True where in_channels is 0",
    ),
    "too few points": (
        ask(n=5), ValueError, "n must be at most the points of each cloud, 4 in cloud 1, got 5; allow_fewer=True keeps",
    ),
    "an empty cloud": (
        ask(ptr=torch.tensor([0, 6, 6, 10])), ValueError, "n must be at most the points of each cloud, 0 in cloud 1",
    ),
    "points that are not finite": (ask(BROKEN), ValueError, "points must be finite, got [0.0, nan, 1.0] in row 9"),
    "points of integers": (ask(POINTS.int()), TypeError, "points must be float32 or float64, got int32"),
    "points of two numbers": (ask(POINTS[:, :2]), ValueError, "points must have shape (*, 3), got (10, 2)"),
    "no features": (ask(features=None), TypeError, "features must be a tensor of 2 channels, got None"),
    "features for none": (
        ask(in_channels=0), ValueError, "features must be None where in_channels is 0, got a Tensor",
    ),
    "other channels": (ask(features=POINTS), ValueError, "features must have shape (10, 2), got (10, 3)"),
    "other features": (ask(features=FEATURES.double()), TypeError, "features must be float32, got float64"),
    "too few features": (ask(features=FEATURES[1:]), ValueError, "features must have shape (10, 2), got (9, 2)"),
    "features elsewhere": (
        ask(features=FEATURES.to("meta")), ValueError, "features must be on cpu like points, got meta",
    ),
    "ptr of int32": (ask(ptr=PTR.int()), TypeError, "ptr must be int64, got int32"),
    "ptr of nothing": (ask(ptr=PTR[:0]), ValueError, "ptr must ascend from 0 to 10, got []"),
    "ptr that ends early": (ask(ptr=PTR[:2]), ValueError, "ptr must ascend from 0 to 10, got [0, 6]"),
    "ptr that falls": (
        ask(ptr=torch.tensor([0, 7, 6, 10])), ValueError, "ptr must ascend from 0 to 10, got [0, 7, 6, 10]",
    ),
    "ptr elsewhere": (ask(ptr=PTR.to("meta")), ValueError, "ptr must be on cpu like points, got meta"),
    "an index of too few": (ask(index=torch.arange(5)), ValueError, "index must have shape (6), got (5,)"),
    "an index of another cloud": (
        ask(index=torch.arange(6)), ValueError, "index must name 3 points of each cloud, cloud by cloud, got others",
    ),
    "nothing known": (
        partial(FeaturePropagation, 0, 2, [4]), ValueError, "known_channels must be at least 1, got 0",
    ),
    "other known channels": (
        carry(known_features=POINTS), ValueError, "known_features must have shape (10, 2), got (10, 3)",
    ),
    "no known features": (
        carry(known_features=None), TypeError, "known_features must be a tensor of 2 channels, got None",
    ),
    "other batches": (
        carry(known_ptr=torch.tensor([0, 10])), ValueError, "known_ptr must have 3 entries like ptr, got 2",
    ),
    "known points elsewhere": (
        carry(known_points=POINTS.to("meta")), ValueError, "known_points must be on cpu like points, got meta",
    ),
    "finer known points": (
        carry(known_points=POINTS.double()), TypeError, "known_points must be float32, got float64",
    ),
    "no classes": (lambda: PointNet2(3, 0), ValueError, "out_channels must be at least 1, got 0"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD.keys())
def test_the_modules_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
