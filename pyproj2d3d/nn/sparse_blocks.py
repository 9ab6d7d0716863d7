"""What are sparse U-Nets made of? Residual blocks, activated after the sum or before each convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sparse import SparseModule, SparseSequential, SparseTensor, SubMConv3d

__all__ = ["BasicBlock", "BatchNorm", "PreActivationBlock", "activated", "concatenated"]

Norm = Callable[[int], nn.Module]  # of so many channels


class BatchNorm(nn.BatchNorm1d):
    """Over all voxels of the batch. One voxel or none has no variance: training then normalises as evaluation does.

    That happens at the coarse levels of small scenes, where torch's own raises (one voxel) or makes the running
    statistics NaN (none).
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(input)


class BasicBlock(SparseModule):
    """ReLU(conv, norm, ReLU, conv, norm + the input, which has a 1x1 conv and a norm where the channels differ)."""

    def __init__(self, in_channels: int, out_channels: int, indice_key: str, norm: Norm = BatchNorm):
        super().__init__()
        self.conv1 = SubMConv3d(in_channels, out_channels, 3, bias=False, indice_key=indice_key)
        self.norm1 = norm(out_channels)
        self.conv2 = SubMConv3d(out_channels, out_channels, 3, bias=False, indice_key=indice_key)
        self.norm2 = norm(out_channels)
        self.downsample: SparseSequential | None = None
        if in_channels != out_channels:
            shortcut = SubMConv3d(in_channels, out_channels, 1, bias=False)
            self.downsample = SparseSequential(shortcut, norm(out_channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        out = self.conv2(activated(self.norm1, self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return out.replace_feature((self.norm2(out.features) + shortcut.features).relu_())


class PreActivationBlock(SparseModule):
    """norm, ReLU, conv, norm, ReLU, conv + the input, which has a 1x1 conv where the channels differ."""

    def __init__(self, in_channels: int, out_channels: int, indice_key: str, norm: Norm = BatchNorm):
        super().__init__()
        same = in_channels == out_channels
        self.i_branch = SparseSequential(
            nn.Identity() if same else SubMConv3d(in_channels, out_channels, 1, bias=False)
        )
        self.conv_branch = SparseSequential(
            norm(in_channels),
            nn.ReLU(inplace=True),
            SubMConv3d(in_channels, out_channels, 3, bias=False, indice_key=indice_key),
            norm(out_channels),
            nn.ReLU(inplace=True),
            SubMConv3d(out_channels, out_channels, 3, bias=False, indice_key=indice_key),
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        out = self.conv_branch(x)
        return out.replace_feature(out.features + self.i_branch(x).features)


def activated(norm: nn.Module, x: SparseTensor) -> SparseTensor:
    return x.replace_feature(norm(x.features).relu_())


def concatenated(first: SparseTensor, second: SparseTensor) -> SparseTensor:
    """The channels of both, in this order; ``second`` has the same voxels, as after an inverse convolution."""
    return first.replace_feature(torch.cat((first.features, second.features), 1))
