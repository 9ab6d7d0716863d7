"""PointNet++: layers and the network, forward and backward, of 40,000 points of a room. As it is done in plain torch:
one distance for each pair, neighbours in a (queries, k) table filled with repeats, and convolutions of size 1."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from pyproj2d3d import ball_query, farthest_point_sample, reference
from pyproj2d3d.nn.pointnet2 import FeaturePropagation, PointNet2, SetAbstraction

from .conftest import OURS, Timed
from .measuring import Contender
from .workloads import features, room_cloud

FULL, TINY = {"points": 40_000, "samples": 2_048}, {"points": 1_000, "samples": 64}
CLOUD, TINY_CLOUD = {"points": 40_000}, {"points": 2_100}
RADIUS, K = 0.2, 64  # of VoteNet's first layer
REPEATS = "ours, balls filled with repeats"
CDIST = "torch (sampling in a loop, cdist and topk, Conv2d)"
TABLE = "torch on our neighbours (repeats, Conv2d)"
CDIST_3 = "torch (cdist and topk, Conv2d)"

Answer = list[Tensor]  # the result, and the gradients to the features and to every weight


def answer(out: Tensor, leaves: list[Tensor]) -> Answer:
    weight = features(out.device, *out.shape)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


def cloud_of(device: torch.device, points: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points, three channels, ptr of one cloud."""
    return (
        room_cloud(device, points)[0],
        features(device, points, 3).requires_grad_(),
        torch.tensor([0, points], device=device),
    )


def convolutions(device: torch.device, *widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = ((nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)) for a, b in pairwise(widths))
    return nn.Sequential(*(module for layer in layers for module in layer)).to(device)


def with_weights_of(net: nn.Module, convs: nn.Sequential) -> nn.Module:
    """Ours with the same weights; those of the norms are where they begin."""
    theirs = [m.weight for m in convs if isinstance(m, nn.Conv2d)]
    ours = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    for mine, other in zip(ours, theirs, strict=True):
        mine.data = other.data
    return net.to(theirs[0].device)


def abstraction_in_torch(
    points: Tensor, channels: Tensor, convs: nn.Sequential, samples: int, neighbours: Callable[..., Tensor]
) -> Tensor:
    """(samples, C); ``neighbours`` gives the chosen points and the (samples, K) table."""
    chosen, index = neighbours(points, samples)
    offset = (points[index] - points[chosen][:, None]) / RADIUS
    rows = torch.cat((offset, channels[index]), 2)  # (samples, K, 3 + C)
    return convs(rows.permute(2, 0, 1)[None])[0].amax(2).T


def by_distances(points: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    chosen = reference.farthest_point_sample(points, samples)
    inside = torch.cdist(points[chosen], points, compute_mode="donot_use_mm_for_euclid_dist") < RADIUS
    number = torch.arange(len(points), dtype=torch.int32, device=points.device)
    index = torch.where(inside, number, len(points)).topk(min(K, len(points)), largest=False).values.long()
    return chosen, torch.where(index < len(points), index, index[:, :1])


def by_operations(points: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    chosen = farthest_point_sample(points, samples)
    index, _ = ball_query(points, points[chosen], RADIUS, K)
    return chosen, torch.where(index >= 0, index, index[:, :1])


def abstraction(device: torch.device, points: int, samples: int) -> dict[str, Contender | str]:
    """set abstraction, 0.2 m, k = 64, layers of 64, 64, 128, forward and backward."""
    cloud, channels, ptr = cloud_of(device, points)
    convs = convolutions(device, 6, 64, 64, 128)

    def ours(**options: bool) -> Answer:
        net = with_weights_of(SetAbstraction(3, [64, 64, 128], samples, RADIUS, K, **options), convs)
        weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
        return answer(net(cloud, channels, ptr).features, [channels, *weights])

    def theirs(neighbours: Callable[..., Tensor]) -> Answer:
        weights = [m.weight for m in convs if isinstance(m, nn.Conv2d)]
        return answer(abstraction_in_torch(cloud, channels, convs, samples, neighbours), [channels, *weights])

    return {
        OURS: ours,
        REPEATS: lambda: ours(repeat_first=True),
        CDIST: lambda: theirs(by_distances),
        TABLE: lambda: theirs(by_operations),
    }


def bench_set_abstraction(timed: Timed) -> None:
    """In training ours differs in the statistics, which see each point of a ball once; filled with repeats it must not,
    and in evaluation neither does."""
    results = timed(abstraction, full=FULL, tiny=TINY, memory=True, rounds=2)
    for name in (CDIST, TABLE):
        assert_close(results[name], results[REPEATS])
    size = TINY if timed.quick else FULL
    cloud, channels, ptr = cloud_of(timed.device, size["points"])
    convs = convolutions(timed.device, 6, 64, 64, 128).eval()
    net = with_weights_of(SetAbstraction(3, [64, 64, 128], size["samples"], RADIUS, K), convs).eval()
    wanted = abstraction_in_torch(cloud, channels, convs, size["samples"], by_operations)
    assert_close([net(cloud, channels, ptr).features], [wanted])


def propagation_in_torch(
    points: Tensor, channels: Tensor, known: Tensor, carried: Tensor, convs: nn.Sequential
) -> Tensor:
    squared, index = torch.cdist(points, known, compute_mode="donot_use_mm_for_euclid_dist").topk(3, largest=False)
    weight = 1 / (squared + 1e-8)
    weight = weight / weight.sum(1, keepdim=True)
    rows = torch.cat(((carried[index] * weight[..., None]).sum(1), channels), 1)
    return convs(rows.T[None, :, :, None])[0, :, :, 0].T


def propagation(device: torch.device, points: int, samples: int) -> dict[str, Contender | str]:
    """feature propagation of 256 channels beside 3, layers of 256, 256, forward and backward."""
    cloud, channels, ptr = cloud_of(device, points)
    known = cloud[farthest_point_sample(cloud, samples)]
    carried, known_ptr = features(device, samples, 256).requires_grad_(), torch.tensor([0, samples], device=device)
    convs = convolutions(device, 259, 256, 256)
    net = with_weights_of(FeaturePropagation(256, 3, [256, 256]), convs)

    def run(out: Callable[[], Tensor], layers: nn.Module) -> Answer:
        return answer(out(), [carried, channels, *(m.weight for m in layers.modules() if isinstance(m, nn.Conv2d))])

    return {
        OURS: lambda: run(lambda: net(cloud, channels, ptr, known, carried, known_ptr), net),
        CDIST_3: lambda: run(lambda: propagation_in_torch(cloud, channels, known, carried, convs), convs),
    }


def bench_feature_propagation(timed: Timed) -> None:
    results = timed(propagation, full=FULL, tiny=TINY, memory=True, rounds=2)
    assert_close(results[CDIST_3], results[OURS])


def network(device: torch.device, points: int) -> dict[str, Contender | str]:
    """the segmentation network of 3 channels and 20 classes, forward and backward."""
    cloud, channels, ptr = cloud_of(device, points)
    torch.manual_seed(0)
    net = PointNet2(3, 20).to(device)
    return {OURS: lambda: answer(net(cloud, channels, ptr), [channels, *net.parameters()])}


def bench_network(timed: Timed) -> None:
    results = timed(network, full=CLOUD, tiny=TINY_CLOUD, memory=True, rounds=1)
    assert all(t.isfinite().all() for t in results[OURS])


def assert_close(one: Answer, other: Answer) -> None:
    """A few maxima are won by another point after rounding, and its gradient goes elsewhere: by what that is in all."""
    for mine, theirs in zip(one, other, strict=True):
        assert (mine - theirs).norm() <= 1e-2 * theirs.norm()
