"""PointNet++ (Qi et al., 2017, arXiv:1706.02413) on packed clouds: set abstraction, feature propagation, segmentation.

Layers, widths and the names and shapes of the weights are those of VoteNet's and WyPR's public code (Pointnet2Backbone,
Pointnet2SegHead), so that their checkpoints load with :func:`pyproj2d3d.nn.weights.load_weights`; see
:func:`public_names`. In evaluation they give what they give there, but for the faults of its kernels, which skip points
near the origin (see :func:`pyproj2d3d.farthest_point_sample`).

A batch of clouds is packed: points (N, 3), features (N, C) or None, and ptr (B + 1,) int64, where each cloud begins.

What is decided here:

- **A point is in a ball once.** Public code fills a ball of fewer than k points with repeats of its first. The maximum
  does not change by it, so in evaluation the result is the same; the statistics of BatchNorm do: with repeats they
  depend on k where no ball is full, and on which point comes first. ``repeat_first=True`` restores them, to go on with
  the training of a public network exactly as it was trained; it also costs more, since the repeats are computed.
- **No ball is empty**: its centre is one of the points and so in it. Points must be finite.
- BatchNorm sees the rows of all clouds of the batch as one, so in training they touch each other; see
  :class:`pyproj2d3d.nn.sparse_blocks.BatchNorm` for one row and none.
- The first layer is linear, so it is applied to the points before they are gathered or interpolated where that is less
  work: the same up to rounding.
- Neighbours, what is gathered, maxima and what is interpolated have the same bits, and so have their gradients, for any
  number of threads. torch's own products and norms need not; with the same number they have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops._check import FEATURES, GEOMETRY, check_device, check_int, check_number, check_tensor
from ..ops.ball_query import ball_query
from ..ops.scatter import _scatter_extreme
from ..ops.three_nn import three_nn
from ._pointnet2_rows import Rows1d, SharedMLP, farthest_points, gather, interpolate
from .sparse_blocks import BatchNorm, Norm

__all__ = ["FeaturePropagation", "PointNet2", "PointNet2Backbone", "Sampled", "SetAbstraction", "public_names"]


class Sampled(NamedTuple):
    """A few points of each cloud, and what was seen around them: packed clouds again."""

    points: Tensor  # (M, 3)
    features: Tensor  # (M, C)
    ptr: Tensor  # (B + 1,) int64
    chosen: Tensor  # (M,) int64, which of the points they are


class SetAbstraction(nn.Module):
    """A few points of each cloud, chosen by farthest point sampling, each with the maximum of what its ball holds.

    Args:
        in_channels: of the features, 0 where there are none.
        channels: of the layers, each linear, normalised and activated, that every point of a ball goes through.
        n: points to choose of each cloud.
        radius: of the ball around each, in the points' unit.
        k: at most so many points of a ball take part, the first in index order; see :func:`pyproj2d3d.ball_query`.
        use_xyz: put each point's offset from the centre before its features.
        normalize_xyz: that offset divided by the radius, as in VoteNet and WyPR; off in the original PointNet++.
        allow_fewer: a cloud of fewer than ``n`` points, even of none, keeps all of them; else it is an error.
        repeat_first: see the module.
        norm: makes one for so many channels.

    Raises:
        TypeError, ValueError: an argument of another type or out of range, or neither features nor offsets.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], n: int, radius: float, k: int, *, use_xyz: bool = True,
        normalize_xyz: bool = True, allow_fewer: bool = False, repeat_first: bool = False, norm: Norm = BatchNorm,
    ):  # fmt: skip
        super().__init__()
        self.in_channels = check_int("in_channels", in_channels, 0)
        self.n, self.k, self.radius = check_int("n", n, 1), check_int("k", k, 1), check_number("radius", radius)
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be positive and finite, got {radius}")
        if not use_xyz and in_channels == 0:
            raise ValueError("use_xyz must be True where in_channels is 0: there would be nothing to look at")
        self.use_xyz, self.normalize_xyz = use_xyz, normalize_xyz
        self.allow_fewer, self.repeat_first = allow_fewer, repeat_first
        self.mlp_module = SharedMLP([in_channels + 3 * use_xyz, *channels], norm)

    def forward(self, points: Tensor, features: Tensor | None, ptr: Tensor, index: Tensor | None = None) -> Sampled:
        """
        Args:
            points: (N, 3) float32 or float64, finite; they get a gradient through the offsets.
            features: (N, in_channels) in the dtype of the weights, or None where in_channels is 0.
            ptr: (B + 1,) int64, where each cloud begins, ascending from 0 to N.
            index: (B n,) int64: take these points instead, n of each cloud, in the order of the clouds.

        Returns:
            :class:`Sampled`, n points of each cloud, or all of one that has fewer where that is allowed.

        Raises:
            TypeError, ValueError: an argument of another type, shape or device than said here, points that are not
                finite, or a cloud of fewer than n points, by its number, unless that is allowed.
        """
        begins = _check_clouds("points", points, "features", features, self.in_channels, "ptr", ptr, self.mlp_module)
        if not bool(points.isfinite().all()):
            row = int((~points.isfinite().all(1)).nonzero()[0])
            raise ValueError(f"points must be finite, got {points[row].tolist()} in row {row}")
        index, sizes = self._choose(points, begins, ptr) if index is None else self._given(index, points, begins)
        centres, out_ptr = gather(points, index), _ptr_of(sizes, ptr)
        ball, of_ball, ball_ptr = self._balls(points, centres, begins, sizes)
        rows = self._first_layer(points, centres, features, ball, of_ball)
        rows = self.mlp_module.after_first(rows)
        order = torch.arange(len(ball), device=ball.device)
        best, _ = _scatter_extreme(rows, order, ball_ptr, of_ball, True, rows.requires_grad, False)
        return Sampled(centres, best, out_ptr, index)

    def _choose(self, points: Tensor, begins: list[int], ptr: Tensor) -> tuple[Tensor, list[int]]:
        chosen, sizes = farthest_points(points, ptr, begins, self.n)
        if min(sizes, default=self.n) < self.n and not self.allow_fewer:
            cloud = next(b for b, size in enumerate(sizes) if size < self.n)
            raise ValueError(
                f"n must be at most the points of each cloud, {sizes[cloud]} in cloud {cloud}, got {self.n}; "
                "allow_fewer=True keeps all of such a cloud"
            )
        return chosen, sizes

    def _given(self, index: Tensor, points: Tensor, begins: list[int]) -> tuple[Tensor, list[int]]:
        clouds = len(begins) - 1
        check_tensor("index", index, (torch.int64,), clouds * self.n)
        check_device("index", index, "points", points)
        begin = torch.tensor(begins, device=index.device)
        of = index.view(clouds, self.n)
        if bool(((of < begin[:-1, None]) | (of >= begin[1:, None])).any()):
            raise ValueError(f"index must name {self.n} points of each cloud, cloud by cloud, got others")
        return index, [self.n] * clouds

    def _balls(
        self, points: Tensor, centres: Tensor, begins: list[int], sizes: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The points of all balls (P,), the ball of each (P,), and (Q + 1,) where each ball begins."""
        found, counts = [torch.arange(0, device=points.device)], [torch.arange(0, device=points.device)]
        for (begin, end), some in zip(pairwise(begins), centres.split(sizes), strict=True):
            index, count = ball_query(points[begin:end], some, self.radius, self.k)
            if self.repeat_first:
                index, count = torch.where(index < 0, index[:, :1], index), torch.full_like(count, self.k)
            found.append(index[index >= 0] + begin)
            counts.append(count.clamp(max=self.k))
        count = torch.cat(counts)
        of_ball = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        return torch.cat(found), of_ball, F.pad(count.cumsum(0), (1, 0))

    def _first_layer(
        self, points: Tensor, centres: Tensor, features: Tensor | None, ball: Tensor, of_ball: Tensor
    ) -> Tensor:
        weight = self.mlp_module.first_weight()
        parts = []
        if self.use_xyz:
            offset = gather(points, ball) - gather(centres, of_ball)
            offset = offset / self.radius if self.normalize_xyz else offset
            parts.append(offset.to(weight.dtype if features is None else features.dtype))
        if features is None:
            return F.linear(parts[0], weight)
        if self.in_channels < len(weight):  # gathered rows would be wider
            return F.linear(torch.cat((*parts, gather(features, ball)), 1), weight)
        rows = gather(F.linear(features, weight[:, -self.in_channels :]), ball)
        return torch.addmm(rows, parts[0], weight[:, :3].T) if parts else rows


class FeaturePropagation(nn.Module):
    """Features of a few points carried to all: of the three nearest, beside the point's own, through shared layers.

    Args:
        known_channels: of the features that are carried.
        in_channels: of the points' own features, 0 where there are none.
        channels: of the layers.
        norm: makes one for so many channels.

    The weights are 1 / (distance + 1e-8), of sum 1. They give no gradient to the points, as in public code: where a
    point is a known one, as most often, it would be about 1e8. Where a cloud has fewer than three known points those it
    has share the weight; where it has none, and for a point that is not finite, what is carried is 0.
    """

    def __init__(self, known_channels: int, in_channels: int, channels: Sequence[int], norm: Norm = BatchNorm):
        super().__init__()
        self.known_channels = check_int("known_channels", known_channels, 1)
        self.in_channels = check_int("in_channels", in_channels, 0)
        self.mlp = SharedMLP([known_channels + in_channels, *channels], norm)

    def forward(
        self, points: Tensor, features: Tensor | None, ptr: Tensor, known_points: Tensor, known_features: Tensor,
        known_ptr: Tensor,
    ) -> Tensor:  # fmt: skip
        """Features (N, channels[-1]).

        Args:
            points: (N, 3) float32 or float64.
            features: (N, in_channels) in the dtype of the weights, or None where in_channels is 0.
            ptr: (B + 1,) int64, where each cloud begins, ascending from 0 to N.
            known_points, known_features, known_ptr: the same of the few points, (M, known_channels) features.

        Raises:
            TypeError, ValueError: an argument of another type, shape or device than said here.
        """
        begins = _check_clouds("points", points, "features", features, self.in_channels, "ptr", ptr, self.mlp)
        check_tensor("known_points", known_points, (points.dtype,), None, 3)
        check_device("known_points", known_points, "points", points)
        names = ("known_points", known_points, "known_features", known_features)
        known_begins = _check_clouds(*names, self.known_channels, "known_ptr", known_ptr, self.mlp)
        if len(known_begins) != len(begins):
            raise ValueError(f"known_ptr must have {len(begins)} entries like ptr, got {len(known_begins)}")
        index, weight = [ptr.new_empty(0, 3)], [points.new_empty(0, 3)]
        for (begin, end), (known, known_end) in zip(pairwise(begins), pairwise(known_begins), strict=True):
            squared, nearest = three_nn(known_points[known:known_end].detach(), points[begin:end].detach())
            closeness = 1 / (squared.sqrt() + 1e-8)
            weight.append(closeness / closeness.sum(1, keepdim=True))  # NaN where there is none: left out
            index.append(torch.where(nearest < 0, -1, nearest + known))
        first = self.mlp.first_weight()
        carried = F.linear(known_features, first[:, : self.known_channels])
        rows = interpolate(carried, torch.cat(index), torch.cat(weight))
        if features is not None:
            rows = rows + F.linear(features, first[:, self.known_channels :])
        return self.mlp.after_first(rows)


def _ptr_of(sizes: list[int], like: Tensor) -> Tensor:
    return torch.tensor([0, *sizes], device=like.device).cumsum(0)


def _check_clouds(
    points_name: str, points: Tensor, name: str, features: Tensor | None, channels: int, ptr_name: str, ptr: Tensor,
    mlp: SharedMLP,
) -> list[int]:  # fmt: skip
    """Where each cloud begins, on the host."""
    check_tensor(points_name, points, GEOMETRY, None, 3)
    if channels == 0 and features is not None:
        raise ValueError(f"{name} must be None where in_channels is 0, got a {type(features).__name__}")
    if channels > 0:
        weight = mlp.first_weight()
        dtypes = FEATURES if torch.is_autocast_enabled(weight.device.type) else (weight.dtype,)
        if features is None:
            raise TypeError(f"{name} must be a tensor of {channels} channels, got None")
        check_tensor(name, features, dtypes, len(points), channels)
        check_device(name, features, points_name, points)
    check_tensor(ptr_name, ptr, (torch.int64,), None)
    check_device(ptr_name, ptr, points_name, points)
    begins: list[int] = ptr.tolist()
    if not begins or begins[0] != 0 or begins[-1] != len(points) or any(a > b for a, b in pairwise(begins)):
        raise ValueError(f"{ptr_name} must ascend from 0 to {len(points)}, got {begins}")
    return begins


class PointNet2Backbone(nn.Module):
    """VoteNet's: four set abstractions down to 256 points of each cloud and two propagations up to 1,024, the seeds.

    Args:
        in_channels: of the features beside the points, 0 for none.
        bn_momentum: VoteNet and WyPR begin with 0.5 and halve it every 20 epochs.
        bn_eps: of the same layers.
        allow_fewer, repeat_first: see :class:`SetAbstraction`.
    """

    out_channels = 256

    def __init__(
        self, in_channels: int = 0, *, bn_momentum: float = 0.1, bn_eps: float = 1e-5, allow_fewer: bool = False,
        repeat_first: bool = False,
    ):  # fmt: skip
        super().__init__()
        norm = partial(BatchNorm, momentum=bn_momentum, eps=bn_eps)
        abstraction = partial(SetAbstraction, allow_fewer=allow_fewer, repeat_first=repeat_first, norm=norm)
        self.sa1 = abstraction(in_channels, (64, 64, 128), 2048, 0.2, 64)
        self.sa2 = abstraction(128, (128, 128, 256), 1024, 0.4, 32)
        self.sa3 = abstraction(256, (128, 128, 256), 512, 0.8, 16)
        self.sa4 = abstraction(256, (128, 128, 256), 256, 1.2, 16)
        self.fp1 = FeaturePropagation(256, 256, (256, 256), norm)
        self.fp2 = FeaturePropagation(256, 256, (256, 256), norm)

    def forward(self, points: Tensor, features: Tensor | None, ptr: Tensor) -> tuple[Sampled, Sampled]:
        """What the first abstraction gives, 2,048 points of 128 features, and the seeds, 1,024 of 256.

        ``chosen`` of both index ``points``. Arguments and errors are those of :class:`SetAbstraction`.
        """
        first = self.sa1(points, features, ptr)
        second = self.sa2(*first[:3])
        third = self.sa3(*second[:3])
        fourth = self.sa4(*third[:3])
        third = third._replace(features=self.fp1(*third[:3], *fourth[:3]))
        carried = self.fp2(*second[:3], *third[:3])
        return first, second._replace(features=carried, chosen=first.chosen[second.chosen])


class PointNet2(nn.Module):
    """The segmentation network of WyPR: the backbone, two more propagations up to all points, and a linear layer.

    Args:
        in_channels: of the features beside the points, 0 for none.
        out_channels: of the last layer: classes.
        bn_momentum, bn_eps, allow_fewer, repeat_first: see :class:`PointNet2Backbone`.

    Takes packed clouds, features and ptr as :class:`SetAbstraction` does, each of at least 2,048 points unless
    ``allow_fewer``, and returns (N, out_channels). Where the mean of its rows over a cloud is trained to say what is in
    that cloud, they are class activation maps.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, bn_momentum: float = 0.1, bn_eps: float = 1e-5,
        allow_fewer: bool = False, repeat_first: bool = False,
    ):  # fmt: skip
        super().__init__()
        check_int("out_channels", out_channels, 1)
        norm = partial(BatchNorm, momentum=bn_momentum, eps=bn_eps)
        self.backbone = PointNet2Backbone(
            in_channels, bn_momentum=bn_momentum, bn_eps=bn_eps, allow_fewer=allow_fewer, repeat_first=repeat_first
        )
        self.seg_fp1 = FeaturePropagation(256, 128, (256, 256), norm)
        self.seg_fp2 = FeaturePropagation(256, in_channels, (256, 256), norm)
        self.classifier = nn.Sequential(norm(256), nn.ReLU(inplace=True), Rows1d(256, out_channels, 1))

    def embed(self, points: Tensor, features: Tensor | None, ptr: Tensor) -> Tensor:
        """(N, 256), what the last layers see."""
        first, seeds = self.backbone(points, features, ptr)
        carried = self.seg_fp1(*first[:3], *seeds[:3])
        return self.seg_fp2(points, features, ptr, first.points, carried, first.ptr)

    def forward(self, points: Tensor, features: Tensor | None, ptr: Tensor) -> Tensor:
        return self.classifier(self.embed(points, features, ptr))


def public_names(name: str) -> str:
    """Our name in :class:`PointNet2` of a weight of VoteNet or WyPR, for ``load_weights(rename=...)``.

    Whatever the training code called the modules, their own names are the same: ``backbone_net.sa1.mlp_module...``
    becomes ``backbone.sa1.mlp_module...`` and ``seg_head.seg_fp1.mlp...`` becomes ``seg_fp1.mlp...``. A
    :class:`PointNet2Backbone` alone needs no renaming, but VoteNet's ``prefix="backbone_net."``. Names of other heads
    stay as they are.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        rest = ".".join(parts[i:])
        if part in ("sa1", "sa2", "sa3", "sa4", "fp1", "fp2"):
            return f"backbone.{rest}"
        if part in ("seg_fp1", "seg_fp2") or (part == "classifier" and "seg" in parts[i - 1]):
            return rest
    return name
