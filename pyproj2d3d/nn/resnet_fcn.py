"""What is at each pixel? FCN (Long et al., 2015, arXiv:1411.4038) on a dilated ResNet, at stride 8.

Layers, names and shapes of the weights are those of torchvision's ``fcn_resnet50`` and ``fcn_resnet101``, so that their
files load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..ops._check import check_int
from .resnet import BLOCKS, BatchNorm2d, ResNet, kind_of
from .weights import load_weights, read_weights

__all__ = ["ResNetFCN", "load_resnet_fcn"]

DILATED = (False, True, True)
AUXILIARY = "aux_classifier."  # a second head of torchvision's, on layer3, which only helps to train


class ResNetFCN(nn.Module):
    """A ResNet at stride 8, and on its last map a 3x3 convolution, norm, ReLU, dropout of 0.1 and a 1x1 convolution.

    Args:
        depth: 18, 34, 50 or 101. torchvision has 50 and 101.
        num_classes: 150 are ADE20K's; torchvision's files have 21, Pascal VOC's with the background first.
        width: channels of the stem, 64 in all public weights.

    Raises:
        TypeError, ValueError: an argument out of range.

    Takes images as :class:`ResNet` does. Returns two maps (B, C, ceil(H / 8), ceil(W / 8)): the features that the last
    convolution reads, of ``channels`` channels, a quarter of the ResNet's, and the logits of the classes. torchvision
    upsamples its logits bilinearly, ``align_corners=False``, to the size of the image.
    """

    def __init__(self, depth: int = 50, num_classes: int = 150, *, width: int = 64):
        super().__init__()
        self.backbone = ResNet(depth, replace_stride_with_dilation=DILATED, width=width)
        last = self.backbone.channels[-1]
        self.channels, self.num_classes = max(last // 4, 1), check_int("num_classes", num_classes, 1)
        self.classifier = nn.Sequential(
            nn.Conv2d(last, self.channels, 3, padding=1, bias=False),
            BatchNorm2d(self.channels),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(self.channels, num_classes, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.classifier[:-1](self.backbone(images)[-1])
        return features, self.classifier[-1](features)


def load_resnet_fcn(source: str | Path | Mapping[str, Any], *, prefix: str = "", width: int | None = None) -> ResNetFCN:
    """A ResNetFCN with trained weights. Its depth, width and classes are theirs.

    Args:
        source: as for :func:`load_weights`: torchvision's fcn_resnet50_coco-1167a1af.pth, say, or a checkpoint.
        prefix: only keys that begin so, without it: "net." for a checkpoint of ``fit teacher_segmentation``.
        width: what it has to be; None takes any.

    Raises:
        ValueError: as for :func:`load_weights`; also where the weights are of another network or width.
        OSError: the file cannot be opened.
    """
    weights = {k.removeprefix(prefix): w for k, w in read_weights(source).items() if k.startswith(prefix)}
    weights = {key: w for key, w in weights.items() if not key.startswith(AUXILIARY)}
    inside = {key.removeprefix("backbone."): w for key, w in weights.items() if key.startswith("backbone.")}
    name = source if isinstance(source, (str, Path)) else "source"
    if not inside:
        got = f"other weights: {', '.join(list(weights)[:3])}, ..." if weights else f"no weights below {prefix!r}"
        raise ValueError(f"{name} must hold a ResNet-FCN, got {got}")
    kind = kind_of(inside)
    depth = next((depth for depth in BLOCKS if kind == f"a ResNet-{depth}"), None)
    if depth is None:
        raise ValueError(f"{name} must hold a ResNet-FCN, got one on {kind}")
    stem, last = (weights.get(key) for key in ("backbone.conv1.weight", "classifier.4.weight"))
    if stem is None or stem.shape[1:] != (3, 7, 7) or not len(stem):
        raise ValueError(f"{name} must hold a ResNet-FCN, got {_shape(stem)} for backbone.conv1.weight")
    if last is None or last.ndim != 4 or not len(last):
        raise ValueError(f"{name} must hold a ResNet-FCN, got {_shape(last)} for classifier.4.weight")
    if width not in (None, len(stem)):
        raise ValueError(f"{name} must hold a ResNet-FCN of width {width}, got one of width {len(stem)}")
    net = ResNetFCN(depth, len(last), width=len(stem))
    load_weights(net, weights)
    return net


def _shape(weight: Tensor | None) -> str:
    return "nothing" if weight is None else f"the shape {tuple(weight.shape)}"
