"""Where does PPKT's teacher come from? A file, torchvision's site, or, where that is asked for, chance."""

from __future__ import annotations

import sys
from urllib.error import URLError

from ..nn.resnet import TORCHVISION, ResNet, load_resnet
from ..nn.resnet_fcn import ResNetFCN, load_resnet_fcn

RANDOM = "random"  # weights of a teacher that has learned nothing
UNTRAINED = "WARNING: the teacher, a {}, has random weights: it has nothing to teach"


def trained_resnet(depth: int, weights: str, prefix: str, width: int, classes: int | None = None) -> ResNet:
    """The teacher; with "random" weights it says so on stderr."""
    net = ResNet(depth, width=width, num_classes=classes)
    if weights == RANDOM:
        print(UNTRAINED.format(f"ResNet-{depth}"), file=sys.stderr)
        return net
    try:
        return load_resnet(net, weights, prefix=prefix)
    except URLError as error:
        raise OSError(
            f"teacher_weights {weights} cannot be downloaded ({error.reason}): give a file of a ResNet-{depth}, "
            f'or "{RANDOM}" for a teacher that has learned nothing'
        ) from error


def trained_fcn(depth: int, weights: str, prefix: str, width: int) -> ResNetFCN:
    """The teacher that segments; with "random" weights, and ADE20K's 150 classes, it says so on stderr."""
    if weights == RANDOM:
        print(UNTRAINED.format(f"ResNet-FCN-{depth}"), file=sys.stderr)
        return ResNetFCN(depth, width=width)
    if weights in TORCHVISION:
        raise ValueError(f"teacher_weights must be a file of a ResNet-FCN, got {weights!r}, a ResNet's")
    net = load_resnet_fcn(weights, prefix=prefix, width=width)
    if net.backbone.depth != depth:
        raise ValueError(f"{weights} must hold a ResNet-FCN of depth {depth}, got one of {net.backbone.depth}")
    return net
