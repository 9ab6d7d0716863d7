"""The U-Net of PointGroup (Jiang et al., 2020, arXiv:2004.01658): pre-activation blocks, m more channels at each level.

Weights have the names of the public code and spconv 2's layout, and load with
:func:`pyproj2d3d.nn.weights.load_weights`, from spconv 1 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from ..ops._check import check_int
from .sparse import SparseConv3d, SparseInverseConv3d, SparseModule, SparseSequential, SparseTensor, SubMConv3d
from .sparse_blocks import BatchNorm, Norm, PreActivationBlock, concatenated

__all__ = ["PointGroupUNet", "UBlock"]


class PointGroupUNet(SparseModule):
    """A convolution, the levels, a norm and a ReLU; PointGroup's heads are linear layers on its points.

    Args:
        in_channels: of the voxels' features: PointGroup's are the mean colour and position.
        channels: m, at the finest level and of the result; level i has i times as many.
        levels: how many, the finest included.
        blocks: at each level on the way down, and again on the way up.
        bn_momentum, bn_eps: of the norms.

    Raises:
        TypeError, ValueError: an argument out of range; see also :class:`SparseTensor` and its layers.

    Takes a :class:`SparseTensor` and returns one with ``channels`` features at the same voxels in the same order, from
    any extents: no voxel is lost, and one voxel or none is allowed.
    """

    def __init__(
        self, in_channels: int = 6, channels: int = 16, *, levels: int = 7, blocks: int = 2, bn_momentum: float = 0.1,
        bn_eps: float = 1e-4,
    ):  # fmt: skip
        super().__init__()
        for name, value in (("in_channels", in_channels), ("channels", channels), ("levels", levels)):
            check_int(name, value, 1)
        norm = partial(BatchNorm, momentum=bn_momentum, eps=bn_eps)
        self.input_conv = SparseSequential(SubMConv3d(in_channels, channels, 3, bias=False, indice_key="subm1"))
        self.unet = UBlock([channels * (i + 1) for i in range(levels)], blocks, norm)
        self.output_layer = SparseSequential(norm(channels), nn.ReLU(inplace=True))

    def forward(self, x: SparseTensor) -> SparseTensor:
        out = self.output_layer(self.unet(self.input_conv(x)))
        return x.replace_feature(out.features)  # without the keys, so that networks can follow each other


class UBlock(SparseModule):
    """A level and all below it: blocks, down, the next level, up, (skip, up) side by side, blocks.

    Args:
        channels: of this level and those below.
        blocks: on the way down, and again on the way up.
        norm: makes one for so many channels.
        level: names the keys: ``subm<level>`` and ``spconv<level>``.
    """

    def __init__(self, channels: Sequence[int], blocks: int = 2, norm: Norm = BatchNorm, level: int = 1):
        super().__init__()
        check_int("blocks", blocks, 1)
        here, *below = channels

        def chain(before: int) -> SparseSequential:
            out = SparseSequential()
            for i in range(blocks):
                out.add_module(f"block{i}", PreActivationBlock(before if i == 0 else here, here, f"subm{level}", norm))
            return out

        self.blocks = chain(here)
        self.u: UBlock | None = None
        if below:
            down = SparseConv3d(here, below[0], 2, 2, bias=False, indice_key=f"spconv{level}")
            self.conv = SparseSequential(norm(here), nn.ReLU(inplace=True), down)
            self.u = UBlock(below, blocks, norm, level + 1)
            up = SparseInverseConv3d(below[0], here, 2, f"spconv{level}", bias=False)
            self.deconv = SparseSequential(norm(below[0]), nn.ReLU(inplace=True), up)
            self.blocks_tail = chain(2 * here)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.blocks(x)
        if self.u is None:
            return x
        up = self.deconv(self.u(self.conv(x)))
        return self.blocks_tail(concatenated(x, up))
