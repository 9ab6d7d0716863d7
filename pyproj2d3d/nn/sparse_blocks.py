"""What are sparse U-Nets made of? Residual blocks, activated after the sum or before each convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops._check import check_number
from .distributed import processes, sum_over_processes
from .sparse import SparseModule, SparseSequential, SparseTensor, SubMConv3d

__all__ = ["BasicBlock", "BatchNorm", "PreActivationBlock", "activated", "concatenated"]

Norm = Callable[[int], nn.Module]  # of so many channels


class BatchNorm(nn.BatchNorm1d):
    """Over all voxels of the batch, and of all processes that train together: two of them compute what one would with
    the joint batch, on every device, where torch's SyncBatchNorm is for CUDA alone. So all must be in the same layer.

    One voxel or none has no variance: training then normalises as evaluation does. That happens at the coarse levels of
    small scenes, where torch's own raises (one voxel) or makes the running statistics NaN (none).

    Raises:
        TypeError, ValueError: ``momentum``, the share of a new batch in the running statistics, is not from 0 to 1.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        if not 0 <= check_number("momentum", momentum) <= 1:
            raise ValueError(f"momentum must be from 0 to 1, got {momentum}")
        super().__init__(num_features, eps, momentum)  # always with weights and running statistics

    def forward(self, input: Tensor) -> Tensor:
        if self.training and processes() > 1:
            return self._over_processes(input)
        if self.training and len(input) < 2:
            return self._as_in_evaluation(input)
        return super().forward(input)

    def _as_in_evaluation(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def _over_processes(self, input: Tensor) -> Tensor:
        """Mean and variance in float32 for what is shorter; the running ones are those of all voxels."""
        rows = input if input.dtype == torch.float64 else input.float()
        count = sum_over_processes(torch.tensor(len(rows), device=rows.device))
        if count < 2:
            return self._as_in_evaluation(input)
        mean = sum_over_processes(rows.sum(0)) / count
        var = sum_over_processes((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        return ((rows - mean) * (var + self.eps).rsqrt() * self.weight + self.bias).to(input.dtype)


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
