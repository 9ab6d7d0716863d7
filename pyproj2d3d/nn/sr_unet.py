"""SR-UNet, the sparse residual U-Net of PPKT and PointContrast (Choy et al., 2019, arXiv:1904.08755; Res16UNet).

Layers, widths and their order are those of MinkowskiEngine's Res16UNet, and so are the names of the weights; their
layout is spconv's. So weights of spconv ports that keep the names load as they are, with
:func:`pyproj2d3d.nn.weights.load_weights`; for those of Pointcept see :func:`pointcept_names`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..ops._check import check_int, check_number
from .sparse import SparseConv3d, SparseInverseConv3d, SparseModule, SparseSequential, SparseTensor, SubMConv3d
from .sparse_blocks import BasicBlock, BatchNorm, activated, concatenated

__all__ = ["NETS", "SRUNet", "pointcept_names", "sr_unet18", "sr_unet34"]

LAYERS_18 = (2, 2, 2, 2, 2, 2, 2, 2)
LAYERS_34 = (2, 3, 4, 6, 2, 2, 2, 2)
PLANES_A = (32, 64, 128, 256, 128, 128, 96, 96)
PLANES_C = (32, 64, 128, 256, 256, 128, 96, 96)
PLANES_BASE = (32, 64, 128, 256, 256, 256, 256, 256)  # of Res16UNet18 and 34 without a letter


class SRUNet(SparseModule):
    """Four levels down, four up, residual blocks at each, and a linear layer on every voxel.

    Args:
        in_channels: of the voxels' features.
        out_channels: of the last, linear layer: classes, or the width of an embedding.
        layers: residual blocks at strides 2, 4, 8, 16 and, upwards, 8, 4, 2, 1.
        planes: channels of the same; the defaults are Res16UNet34C.
        init_dim: channels at stride 1 on the way down.
        width: a factor on all of these channels, for small machines.
        conv1_kernel_size: of the first convolution: 3 in PointContrast and SLidR, 5 in MinkowskiEngine's examples.
        bn_momentum: PointContrast pretrains with 0.05 and fine-tunes with 0.02.
        bn_eps: of the same layers.
        widen_early: change the channels in the strided convolutions, as Pointcept's SpUNet does, and not in the
            blocks behind them.

    Raises:
        TypeError, ValueError: an argument out of range; see also :class:`SparseTensor` and its layers.

    Takes a :class:`SparseTensor` with ``in_channels`` features and returns one with ``out_channels`` at the same voxels
    in the same order. Extents need not be divisible by 16: no voxel is lost. A voxel without neighbours, a scene of one
    voxel and none at all are allowed, in training too: see :class:`BatchNorm`.

    A checkerboard of strides begins at coordinate 0: adding a random offset to the coordinates in training makes the
    network invariant to where a scene begins.
    """

    def __init__(
        self, in_channels: int, out_channels: int, layers: Sequence[int] = LAYERS_34, planes: Sequence[int] = PLANES_C,
        *, init_dim: int = 32, conv1_kernel_size: int = 3, bn_momentum: float = 0.05, bn_eps: float = 1e-5,
        widen_early: bool = False, width: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        n, p = _eight("layers", layers), _eight("planes", planes)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("init_dim", init_dim)):
            check_int(name, value, 1)
        if not 0 < check_number("width", width) < math.inf:
            raise ValueError(f"width must be positive and finite, got {width}")
        init_dim, *p = (max(round(channels * width), 1) for channels in (init_dim, *p))
        if conv1_kernel_size not in (3, 5):
            raise ValueError(f"conv1_kernel_size must be 3 or 5, got {conv1_kernel_size!r}")
        norm = partial(BatchNorm, momentum=bn_momentum, eps=bn_eps)

        def blocks(before: int, i: int, level: int) -> SparseSequential:
            widths = [before, *[p[i]] * n[i]]
            return SparseSequential(*(BasicBlock(a, p[i], f"subm{level}", norm) for a in widths[:-1]))

        def down(before: int, i: int) -> tuple[SparseConv3d, BatchNorm, SparseSequential]:
            wide = p[i] if widen_early else before
            conv = SparseConv3d(before, wide, 2, 2, bias=False, indice_key=f"down{i}")
            return conv, norm(wide), blocks(wide, i, i + 1)

        def up(before: int, skip: int, i: int) -> tuple[SparseInverseConv3d, BatchNorm, SparseSequential]:
            conv = SparseInverseConv3d(before, p[i], 2, f"down{7 - i}", bias=False)
            return conv, norm(p[i]), blocks(p[i] + skip, i, 7 - i)

        key = "subm0" if conv1_kernel_size == 3 else "stem"
        self.conv0p1s1 = SubMConv3d(in_channels, init_dim, conv1_kernel_size, bias=False, indice_key=key)
        self.bn0 = norm(init_dim)
        self.conv1p1s2, self.bn1, self.block1 = down(init_dim, 0)
        self.conv2p2s2, self.bn2, self.block2 = down(p[0], 1)
        self.conv3p4s2, self.bn3, self.block3 = down(p[1], 2)
        self.conv4p8s2, self.bn4, self.block4 = down(p[2], 3)
        self.convtr4p16s2, self.bntr4, self.block5 = up(p[3], p[2], 4)
        self.convtr5p8s2, self.bntr5, self.block6 = up(p[4], p[1], 5)
        self.convtr6p4s2, self.bntr6, self.block7 = up(p[5], p[0], 6)
        self.convtr7p2s2, self.bntr7, self.block8 = up(p[6], init_dim, 7)
        self.final = SubMConv3d(p[7], out_channels, 1)

    def encode(self, x: SparseTensor) -> list[SparseTensor]:
        """The features at strides 1, 2, 4, 8 and 16; the last is the encoder's output."""
        p1 = activated(self.bn0, self.conv0p1s1(x))
        p2 = self.block1(activated(self.bn1, self.conv1p1s2(p1)))
        p4 = self.block2(activated(self.bn2, self.conv2p2s2(p2)))
        p8 = self.block3(activated(self.bn3, self.conv3p4s2(p4)))
        p16 = self.block4(activated(self.bn4, self.conv4p8s2(p8)))
        return [p1, p2, p4, p8, p16]

    def forward(self, x: SparseTensor) -> SparseTensor:
        p1, p2, p4, p8, p16 = self.encode(x)
        out = self.block5(concatenated(activated(self.bntr4, self.convtr4p16s2(p16)), p8))
        out = self.block6(concatenated(activated(self.bntr5, self.convtr5p8s2(out)), p4))
        out = self.block7(concatenated(activated(self.bntr6, self.convtr6p4s2(out)), p2))
        out = self.block8(concatenated(activated(self.bntr7, self.convtr7p2s2(out)), p1))
        return x.replace_feature(self.final(out).features)  # without the keys, so that networks can follow each other


def _eight(name: str, values: Sequence[int]) -> list[int]:
    values = [check_int(name, v, 1) for v in values]
    if len(values) != 8:
        raise ValueError(f"{name} must be eight integers, got {len(values)}")
    return values


def sr_unet18(in_channels: int, out_channels: int, **options: Any) -> SRUNet:
    """Res16UNet18A; the options are :class:`SRUNet`'s."""
    return SRUNet(in_channels, out_channels, LAYERS_18, PLANES_A, **options)


def sr_unet34(in_channels: int, out_channels: int, **options: Any) -> SRUNet:
    """Res16UNet34C; the options are :class:`SRUNet`'s."""
    return SRUNet(in_channels, out_channels, LAYERS_34, PLANES_C, **options)


NETS = {"sr_unet18": sr_unet18, "sr_unet34": sr_unet34}  # by the names that configurations have


def pointcept_names(name: str) -> str:
    """Our name of a weight of Pointcept's SpUNet-v1m1 (spconv_unet_v1m1_base.py), for ``load_weights(rename=...)``.

    Its network is ``sr_unet34(..., conv1_kernel_size=5, bn_eps=1e-3, bn_momentum=0.01, widen_early=True)``.
    """
    begins = {"conv_input.0.": "conv0p1s1.", "conv_input.1.": "bn0."}
    for s in range(4):
        begins |= {f"down.{s}.0.": f"conv{s + 1}p{2**s}s2.", f"down.{s}.1.": f"bn{s + 1}."}
        begins |= {f"up.{s}.0.": f"convtr{7 - s}p{2 ** (s + 1)}s2.", f"up.{s}.1.": f"bntr{7 - s}."}
        begins |= {f"enc.{s}.block": f"block{s + 1}.", f"dec.{s}.block": f"block{8 - s}."}
    for theirs, ours in begins.items():
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            return ours + rest.replace(".bn", ".norm").replace(".proj.", ".downsample.")
    return name
