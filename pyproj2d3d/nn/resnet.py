"""What do images look like to a network trained on images? ResNet (He et al., 2015, arXiv:1512.03385), all its stages.

Layers, names and shapes of the weights are those of torchvision, so that its files, MoCo's and many others load as they
are. As there, a bottleneck strides in its 3x3 convolution and not in its first, unlike the paper ("version 1.5").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..ops._check import FEATURES, check_choice, check_int, check_tensor
from .distributed import processes
from .sparse_blocks import BatchNorm
from .weights import load_weights, read_weights

__all__ = ["Frozen", "ResNet", "load_resnet"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, from 0 to 1
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BOTTLENECKS = (50, 101)
TORCHVISION = {  # resnet{depth}-{hash}.pth; the hash is the file's
    "IMAGENET1K_V1": {18: "f37072fd", 34: "b627a593", 50: "0676ba61", 101: "63fe2227"},
    "IMAGENET1K_V2": {50: "11ad3fa6", 101: "cd907fc2"},
}
MOCO = "encoder_q."  # before the names of the network that MoCo trains; encoder_k. is its slow copy


class BatchNorm2d(BatchNorm):
    """Over all places of the maps (B, C, H, W) of all processes that train together, see :class:`BatchNorm`.

    One place or none has no variance: training then normalises as evaluation does.
    """

    def forward(self, input: Tensor) -> Tensor:
        check_tensor("input", input, FEATURES, None, self.num_features, None, None)
        if self.training and processes() > 1:
            rows = input.permute(0, 2, 3, 1)
            return self._over_processes(rows.reshape(-1, self.num_features)).view(rows.shape).permute(0, 3, 1, 2)
        if self.training and input.numel() < 2 * self.num_features:
            return self._as_in_evaluation(input)
        return nn.BatchNorm1d.forward(self, input)

    def _check_input_dim(self, input: Tensor) -> None:
        """Checked already."""


class BasicBlock(nn.Module):
    """ReLU(3x3, norm, ReLU, 3x3, norm + the input, which has a 1x1 and a norm where size or channels differ)."""

    widens = 1

    def __init__(self, before: int, width: int, stride: int, dilation: int, dilation_before: int):
        super().__init__()
        self.conv1 = _conv(before, width, 3, stride, dilation_before)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, 1, dilation)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu_()
        out = self.bn2(self.conv2(out))
        return (out + (x if self.downsample is None else self.downsample(x))).relu_()


class Bottleneck(nn.Module):
    """ReLU(1x1, norm, ReLU, 3x3, norm, ReLU, 1x1 to four times the width, norm + the input as in BasicBlock)."""

    widens = 4

    def __init__(self, before: int, width: int, stride: int, dilation: int, dilation_before: int):
        super().__init__()
        self.conv1 = _conv(before, width, 1)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride, dilation_before)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = BatchNorm2d(4 * width)
        self.downsample = _shortcut(before, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu_()
        out = self.bn2(self.conv2(out)).relu_()
        out = self.bn3(self.conv3(out))
        return (out + (x if self.downsample is None else self.downsample(x))).relu_()


class ResNet(nn.Module):
    """ResNet-18, 34, 50 or 101 with random weights; :func:`load_resnet` gives it trained ones.

    Args:
        depth: 18, 34, 50 or 101.
        num_classes: of :meth:`classify`; None leaves its layer out.
        replace_stride_with_dilation: of layer2, layer3 and layer4: keep the size and dilate instead. With (False, True,
            True) the last map has stride 8.
        width: channels of the stem, 64 in all public weights; the others are multiples of it.

    Raises:
        TypeError, ValueError: an argument out of range.

    Takes images, (B, H, W, 3) uint8 as :class:`Batch` has them or (B, 3, H, W) floating, RGB from 0 to 1, and
    normalises them by ImageNet's mean and deviation itself. Returns five maps (B, C, ceil(H / stride), ceil(W /
    stride)): after the stem, at stride 2, and after layer1 to layer4, at 4, 8, 16 and 32. ``channels`` are their C.

    Dilation keeps the meaning of the weights: of each row and column that a stride would have kept the values are the
    same. It is torchvision's, which has none for ResNet-18 and 34: there the second convolution of the first block is
    the one to dilate.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, depth: int = 50, *, num_classes: int | None = None,
        replace_stride_with_dilation: Sequence[bool] = (False, False, False), width: int = 64,
    ):  # fmt: skip
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth must be 18, 34, 50 or 101, got {depth!r}")
        if len(replace_stride_with_dilation) != 3:
            raise ValueError(f"replace_stride_with_dilation must be three, got {replace_stride_with_dilation!r}")
        self.depth, width = depth, check_int("width", width, 1)
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        block = Bottleneck if depth in BOTTLENECKS else BasicBlock
        planes = [width * 2**i for i in range(4)]
        self.channels = [width, *(n * block.widens for n in planes)]
        dilate, dilation = (False, *replace_stride_with_dilation), [1]
        for wanted in dilate:
            dilation.append(dilation[-1] * (2 if wanted else 1))

        def stage(i: int) -> nn.Sequential:
            stride = 1 if i == 0 or dilate[i] else 2
            first = block(self.channels[i], planes[i], stride, dilation[i + 1], dilation[i])
            rest = range(BLOCKS[depth][i] - 1)
            return nn.Sequential(
                first, *(block(self.channels[i + 1], planes[i], 1, dilation[i + 1], dilation[i + 1]) for _ in rest)
            )

        self.layer1, self.layer2, self.layer3, self.layer4 = (stage(i) for i in range(4))
        self.fc: nn.Module | None = None
        if num_classes is not None:
            self.fc = nn.Linear(self.channels[-1], check_int("num_classes", num_classes, 1))
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.bn1(self.conv1(self._normalized(images))).relu_()]
        below = self.maxpool(maps[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            below = layer(below)
            maps.append(below)
        return maps

    def classify(self, last: Tensor) -> Tensor:
        """(B, num_classes) logits from the last of the maps: its mean, and a linear layer."""
        if self.fc is None:
            raise ValueError("num_classes must be given to classify, got None")
        return self.fc(last.mean((2, 3)))

    def _normalized(self, images: Tensor) -> Tensor:
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            check_tensor("images", images, (torch.uint8,), None, None, None, 3)
            # On the CPU training is 1.3 times as fast in this layout; to(memory_format=) of the network changes it.
            images = images.permute(0, 3, 1, 2).contiguous().to(self.mean.dtype) / 255
        else:
            check_tensor("images", images, (torch.uint8, *FEATURES), None, 3, None, None)
        return (images.to(self.mean.dtype) - self.mean) / self.std


class Frozen(nn.Module):
    """A trained network that teaches: it stays in evaluation mode when the model around it trains, without gradients.

    So its norms keep the statistics of what it was trained on. What it returns has no graph.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)

    def forward(self, *args: Any, **keywords: Any) -> Any:
        with torch.no_grad():
            return self.net(*args, **keywords)


def load_resnet(net: ResNet, source: str | Path | Mapping[str, Any], *, prefix: str = "") -> ResNet:
    """Trained weights into a ResNet, which is returned.

    Args:
        net: of the depth that the weights are of.
        source: as for :func:`load_weights`: torchvision's file, MoCo's checkpoint (v1 or v2, of which the query encoder
            is taken without its embedding), any other with these names; or "IMAGENET1K_V1" or "IMAGENET1K_V2", the
            names of torchvision's, which torch.hub downloads and keeps.
        prefix: only keys that begin so, without it: "backbone.", say.

    Raises:
        ValueError: as for :func:`load_weights`; also where the weights are of another depth or of no ResNet, or where
            torchvision has none of that name. Nothing has been loaded then.

    Of a file's classes nothing is taken where the net has none; where it has, their number must be the same. MoCo has
    none, and those of the net stay as they are.
    """
    if isinstance(source, str) and source in TORCHVISION:
        check_choice(
            f"source of a ResNet-{net.depth}", source, *(v for v in TORCHVISION if net.depth in TORCHVISION[v])
        )
        url = f"https://download.pytorch.org/models/resnet{net.depth}-{TORCHVISION[source][net.depth]}.pth"
        source = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    weights = read_weights(source)
    moco = not prefix and any(key.startswith(MOCO) for key in weights)
    prefix = MOCO if moco else prefix
    weights = {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}
    wanted, got = f"a ResNet-{net.depth}", kind_of(weights) if weights else f"no weights below {prefix!r}"
    if got != wanted:
        raise ValueError(f"{source if isinstance(source, (str, Path)) else 'source'} must hold {wanted}, got {got}")
    try:
        load_weights(net, weights, skip="fc." if moco or net.fc is None else ())
    except ValueError as error:
        of = f"{source}: " if isinstance(source, (str, Path)) else ""
        raise ValueError(f"{of}{error}") from None
    return net


def kind_of(weights: Mapping[str, Tensor]) -> str:
    """By the names: how many blocks its stages have, and of how many convolutions."""
    blocks = tuple(
        len({key.split(".")[1] for key in weights if key.startswith(f"layer{i}.") and key.endswith(".conv1.weight")})
        for i in (1, 2, 3, 4)
    )
    for depth, wanted in BLOCKS.items():
        if blocks == wanted and ("layer1.0.conv3.weight" in weights) == (depth in BOTTLENECKS):
            return f"a ResNet-{depth}"
    if all(blocks):
        return f"a residual network of {blocks} blocks"
    return f"other weights: {', '.join(list(weights)[:3])}, ..."


def _conv(before: int, width: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, width, size, stride, padding=dilation * (size // 2), dilation=dilation, bias=False)


def _shortcut(before: int, width: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and before == width:
        return None
    return nn.Sequential(_conv(before, width, 1, stride), BatchNorm2d(width))
