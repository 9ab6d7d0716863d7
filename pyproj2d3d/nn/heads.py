"""How do pixels and points come to have features of one space? The projection heads of PPKT (Liu et al., 2021,
arXiv:2104.04687), g2D and g3D of equations 1 and 2: a linear layer shared by all places, and unit length.

The features come out in float32 under autocast too: they are divided by a small temperature next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..camera import image_size
from ..ops._check import FEATURES, check_int, check_tensor

__all__ = ["PlainProjection", "PointProjection", "UpsampledProjection"]


class _PixelProjection(nn.Module):
    def __init__(self, in_channels: int, out_channels: int = 128):
        super().__init__()
        self.conv = nn.Conv2d(check_int("in_channels", in_channels, 1), check_int("out_channels", out_channels, 1), 1)

    def small_map(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w), not yet of unit length."""
        check_tensor("features", features, FEATURES, None, self.conv.in_channels, None, None)
        return _float(self.conv(features))


class UpsampledProjection(_PixelProjection):
    """UPL: a 1x1 convolution, bilinear upsampling to the images' size, unit length, in this order.

    Args:
        in_channels: of the features.
        out_channels: of the common space; 128 in the paper.
        align_corners: which of the two conventions of upsampling, see :func:`sample`. The paper does not say; SLidR's
            PPKT has True.

    Raises:
        TypeError, ValueError: an argument or a map of another type, shape or range than said here.

    Training wants a few of the pixels, so the upsampled map, 157 MB for each image of 480x640, need not be built: the
    same features are read from the small one::

        small = head.small_map(features)  # (B, D, h, w)
        cloud = back_project(depth, camera, small, pixels=chosen, normalize=True, align_corners=head.align_corners)

    Calling the head builds it, for pictures and comparison. A feature of 0 stays 0.

    Cell i of a ResNet's last map is centred at pixel 32 i. Neither convention puts it there: False has it 15.5 pixels
    further everywhere, True at most 31, at the last cell, and exactly there at the first.
    """

    def __init__(self, in_channels: int, out_channels: int = 128, *, align_corners: bool = False):
        super().__init__(in_channels, out_channels)
        self.align_corners = align_corners

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, H, W) of unit length, where ``size`` is (H, W)."""
        small, size = self.small_map(features), image_size("size", size)
        return F.normalize(F.interpolate(small, size, mode="bilinear", align_corners=self.align_corners), dim=1)


class PlainProjection(_PixelProjection):
    """PL: a 1x1 convolution and unit length, for features that have the images' resolution already.

    Args:
        in_channels: of the features.
        out_channels: of the common space; 128 in the paper.

    Raises:
        TypeError, ValueError: an argument or a map of another type, shape or range than said here.

    A feature of 0 stays 0.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w) of unit length."""
        return F.normalize(self.small_map(features), dim=1)


class PointProjection(nn.Module):
    """g3D: a linear layer on the features of each point or voxel, and unit length.

    Args:
        in_channels: of the features: those before SR-UNet's own last layer in the paper.
        out_channels: of the common space; 128 in the paper.

    Raises:
        TypeError, ValueError: an argument or features of another type, shape or range than said here.

    (N, in_channels) to (N, out_channels). A feature of 0 stays 0.
    """

    def __init__(self, in_channels: int, out_channels: int = 128):
        super().__init__()
        into, out = check_int("in_channels", in_channels, 1), check_int("out_channels", out_channels, 1)
        self.linear = nn.Linear(into, out)

    def forward(self, features: Tensor) -> Tensor:
        check_tensor("features", features, FEATURES, None, self.linear.in_features)
        return F.normalize(_float(self.linear(features)), dim=1)


def _float(features: Tensor) -> Tensor:
    """In float32 at least."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
