"""How does a sparse network find objects? Voxels vote for where centres are, and clusters of votes propose boxes.

VoteNet (Qi et al., 2019, arXiv:1904.09664) on a sparse backbone, as PointContrast fine-tunes it
(downstream/votenet_det_new). Everything is packed: M voxels, S seeds and P proposals of a batch of B samples, sample
after sample, with (B + 1,) offsets. So a small scene has fewer of them, a sample without voxels none, and neither is
seen by the others but through the norms' statistics.

What the numbers of a proposal mean is the business of :class:`pyproj2d3d.losses.votenet_boxes.BoxCoder`.

Layers, names and shapes of the weights of ``vgen`` and ``pnet`` are those of facebookresearch/votenet. Departures: a
seed has one vote (their vote_factor, 1 by default), and features of length 0 stay 0 when they are normalised, where
theirs become NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops._check import GEOMETRY, check_device, check_int, check_tensor
from ..ops._register import sort_keys
from ._pointnet2_rows import Rows1d, farthest_points
from .pointnet2 import SetAbstraction
from .sparse import SparseTensor
from .sparse_blocks import BatchNorm

__all__ = ["ProposalModule", "Proposals", "VoteNet", "VotingModule"]


class Proposals(NamedTuple):
    """What VoteNet says of a batch. Seed i has vote i."""

    seed: Tensor  # (S,) int64, the voxel that each seed is
    seed_ptr: Tensor  # (B + 1,) int64: the seeds of sample b are seed_ptr[b] to seed_ptr[b + 1]
    seed_xyz: Tensor  # (S, 3) metres
    vote_xyz: Tensor  # (S, 3) metres: where each says that the centre of its object is
    ptr: Tensor  # (B + 1,) int64, likewise of its proposals
    vote: Tensor  # (P,) int64, the vote around which each proposal gathered others
    xyz: Tensor  # (P, 3) metres, where that vote is
    numbers: Tensor  # (P, D) like xyz, as the coder reads them


class VotingModule(nn.Module):
    """Each seed's vote: where the centre of its object is, and features that go there."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = Rows1d(channels, channels, 1), BatchNorm(channels)
        self.conv2, self.bn2 = Rows1d(channels, channels, 1), BatchNorm(channels)
        self.conv3 = Rows1d(channels, 3 + channels, 1)

    def forward(self, xyz: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(S, 3) and (S, C) of seeds to the same of votes; the features have unit length."""
        net = self.bn1(self.conv1(features)).relu_()
        net = self.bn2(self.conv2(net)).relu_()
        offset, residual = self.conv3(net).split((3, features.shape[1]), dim=1)
        moved = features + residual
        unit = F.normalize(moved.to(torch.promote_types(moved.dtype, torch.float32)), dim=1)  # float16 has no 1e-12
        return xyz + offset.to(xyz.dtype), unit.to(moved.dtype)


class ProposalModule(nn.Module):
    """Votes that cover all votes of a sample, what is around each, and the numbers of a box for each.

    Args:
        channels: C of the votes.
        n_numbers: D, as :attr:`BoxCoder.n_numbers` says.
        n_proposals: of each sample; all its votes where there are fewer.
        radius: metres around a vote from which others are gathered.
        neighbours: how many of them at most.
    """

    def __init__(
        self, channels: int, n_numbers: int, n_proposals: int = 256, radius: float = 0.3, neighbours: int = 16
    ):
        super().__init__()
        check_int("n_proposals", n_proposals, 1)
        self.vote_aggregation = SetAbstraction(
            channels, (128, 128, 128), n_proposals, radius, neighbours, allow_fewer=True, repeat_first=True
        )
        self.conv1, self.bn1 = Rows1d(128, 128, 1), BatchNorm(128)
        self.conv2, self.bn2 = Rows1d(128, 128, 1), BatchNorm(128)
        self.conv3 = Rows1d(128, check_int("n_numbers", n_numbers, 1), 1)

    def forward(self, xyz: Tensor, features: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Votes (S, 3), features (S, C) and offsets (B + 1,) to ptr, vote, xyz and numbers of :class:`Proposals`."""
        places, net, new_ptr, vote = self.vote_aggregation(xyz, features, ptr)
        net = self.bn1(self.conv1(net)).relu_()
        net = self.bn2(self.conv2(net)).relu_()
        return new_ptr, vote, places, self.conv3(net).to(xyz.dtype)


class VoteNet(nn.Module):
    """Boxes from voxels: a backbone, seeds that cover the voxels, their votes, and proposals.

    Args:
        backbone: any module from a :class:`SparseTensor` to one of the same voxels in the same order, such as
            ``sr_unet34(3, 256)``.
        channels: that the backbone gives.
        n_numbers: of a proposal: :attr:`BoxCoder.n_numbers`.
        n_seeds: voxels of each sample that vote, by farthest point sampling; all of them where there are fewer.
        n_proposals, radius, neighbours: see :class:`ProposalModule`.

    The defaults are PointContrast's.
    """

    def __init__(
        self, backbone: nn.Module, channels: int, n_numbers: int, *, n_seeds: int = 1024, n_proposals: int = 256,
        radius: float = 0.3, neighbours: int = 16,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.n_seeds = check_int("channels", channels, 1), check_int("n_seeds", n_seeds, 1)
        self.backbone = backbone
        self.vgen = VotingModule(channels)
        self.pnet = ProposalModule(channels, n_numbers, n_proposals, radius, neighbours)

    def forward(self, x: SparseTensor, xyz: Tensor) -> Proposals:
        """The proposals of a batch.

        Args:
            x: voxels with features, in any order.
            xyz: (M, 3) float32 or float64, metres: a place for each voxel. VoteNet's is its first point, so with
                ``x, voxels = voxel_tensor(points, ...)`` that is ``points[first]``, ``first =
                voxels.order[voxels.ptr[:-1]]``; then ``first[proposals.seed]`` are the points to take targets from.

        Raises:
            TypeError, ValueError: an argument of another type, shape or device than said here, or not finite; a
                backbone that returns something else; votes that are not finite, because the network has diverged.

        Positions stay in their dtype under autocast. It synchronises, for the numbers of seeds of each sample.
        """
        if not isinstance(x, SparseTensor):
            raise TypeError(f"x must be a SparseTensor, got {type(x).__name__}")
        check_tensor("xyz", xyz, GEOMETRY, len(x.indices), 3)
        check_device("xyz", xyz, "x", x.features)
        _check_finite("xyz", xyz)
        out = self.backbone(x)
        if not isinstance(out, SparseTensor) or out.features.shape != (len(x.indices), self.channels):
            got = out if isinstance(out, SparseTensor) else type(out).__name__
            raise ValueError(
                f"backbone must return {self.channels} channels for each of the {len(xyz)} voxels, got {got}"
            )
        seed, seed_ptr = self._seeds(x, xyz)
        seed_xyz = xyz[seed]
        vote_xyz, features = self.vgen(seed_xyz, out.features[seed])
        _check_finite("votes", vote_xyz, ": the network has diverged")
        return Proposals(seed, seed_ptr, seed_xyz, vote_xyz, *self.pnet(vote_xyz, features, seed_ptr))

    def _seeds(self, x: SparseTensor, xyz: Tensor) -> tuple[Tensor, Tensor]:
        batch, order = sort_keys(x.indices[:, 0].contiguous(), x.batch_size)
        ptr = torch.searchsorted(batch, torch.arange(x.batch_size + 1, device=batch.device, dtype=batch.dtype))
        seed, sizes = farthest_points(xyz[order], ptr, ptr.tolist(), self.n_seeds)
        return order[seed], torch.tensor([0, *sizes], device=ptr.device).cumsum(0)


def _check_finite(name: str, xyz: Tensor, why: str = "") -> None:
    finite = xyz.isfinite()
    if not bool(finite.all()):
        raise ValueError(f"{name} must be finite, got {xyz[~finite][0].item()}{why}")
