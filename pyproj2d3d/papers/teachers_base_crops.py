"""Where is an object in the middle of its picture, as in ImageNet? Squares around what frames see of their objects.

Everything is computed on the device of the frames, for all objects of a batch at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..data.samples import Batch
from ..data.views import MEAN_COLOR

SUPERSAMPLED = 2  # samples of a frame along each side of a pixel of a picture, which is their mean
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look
RATIO = 4 / 3  # of the sides of a random part, at most
NUMBERS = 13  # that are drawn for one picture
BLURRED_AT = 224  # pixels of the pictures whose blur MoCo v2 gives


class Objects(NamedTuple):
    """n objects as V frames see them, those of each frame together and by their ids. One seen twice is there twice."""

    view: Tensor  # (n,) int64
    label: Tensor  # (n,) int64, the class that most of its pixels with one have; -1 for none
    middle: Tensor  # (n, 2) u and v of its square, in pixels whose centres are whole numbers
    side: Tensor  # (n,) of the square, pixels

    def some(self, row: Tensor) -> Objects:
        return Objects(*(of[row] for of in self))


class Variation(NamedTuple):
    """How pictures are varied in training: random resized crops, mirrors, colours, grey and blur."""

    area: tuple[float, float]  # of the square, of which a part is taken
    colors: float  # probability that brightness, contrast, saturation (each by 0.4) and hue (0.1 turns) change
    grey: float  # probability of grey
    blur: float  # probability of a Gaussian whose deviation is 0.1 to 2 of 224 pixels


def visible_objects(batch: Batch, *, min_pixels: int, min_share: float, margin: float) -> Objects:
    """The objects of which enough is seen.

    Args:
        batch: with ``color`` and ``instance``; of ``semantic``, where it is there, come the labels.
        min_pixels: that an object has in a frame.
        min_share: of the square that these cover: of a wall in the corner of an eye the square shows other things.
        margin: around the object's box, as a share of its longer side, on each of its sides.

    The square may be longer than the frame is high, and is moved into it as far as that goes.

    Raises:
        ValueError: frames without instances.
    """
    if batch.color is None or batch.instance is None:
        raise ValueError(f"frames {', '.join(batch.frame_names)}: must have instances, theirs have none")
    instance, device = batch.instance, batch.instance.device
    height, width = instance.shape[1:]
    at = (instance.flatten() >= 0).nonzero()[:, 0]
    view, v, u = at // (height * width), at // width % height, at % width
    most = int(instance.max()) + 1 if len(at) else 1
    ids, which, pixels = torch.unique(
        view * most + instance.flatten()[at], return_inverse=True, return_counts=True
    )  # of pairs, as columns, it takes fifty times as long
    n = len(pixels)
    edges = [
        torch.zeros(n, dtype=torch.int64, device=device).scatter_reduce_(0, which, of, reduce, include_self=False)
        for of in (u, v)
        for reduce in ("amin", "amax")
    ]
    left, right, top, bottom = (edge.double() for edge in edges)
    side = torch.maximum(right - left, bottom - top) + 1
    side = (side * (1 + 2 * margin)).clamp(max=max(height, width))
    middle = torch.stack(((left + right) / 2, (top + bottom) / 2), dim=1)
    for axis, length in enumerate((width, height)):
        half = side.clamp(max=length) / 2
        middle[:, axis] = torch.minimum(torch.maximum(middle[:, axis], half - 0.5), length - 0.5 - half)
    enough = (pixels >= min_pixels) & (pixels >= min_share * side**2)
    return Objects(ids // most, _labels(batch, at, which, n), middle, side).some(enough.nonzero()[:, 0])


def _labels(batch: Batch, at: Tensor, which: Tensor, n: int) -> Tensor:
    """(n,) the class of most pixels of each object; of two that are equally many, the lower."""
    if batch.semantic is None:
        return torch.full((n,), -1, device=at.device)
    label = batch.semantic.flatten()[at]
    classes = int(label.max()) + 1 if len(label) else 0
    if classes <= 0:
        return torch.full((n,), -1, device=at.device)
    counts = torch.bincount((which * classes + label)[label >= 0], minlength=n * classes).view(n, classes)
    return torch.where(counts.sum(1) > 0, counts.argmax(1), -1)


def choose(objects: Objects, most: int, pictures: int, draws: list[Generator]) -> tuple[Objects, Tensor]:
    """Of each frame up to so many objects, without repetition, and numbers for so many pictures of each.

    Returns:
        The objects, n of them, and (n, pictures, NUMBERS) from [0, 1).
    """
    counts = torch.bincount(objects.view, minlength=len(draws)).tolist()
    rows, numbers, first = [], [], 0
    for count, rng in zip(counts, draws, strict=True):
        rows.append(first + torch.randperm(count, generator=rng)[:most])
        numbers.append(torch.rand(len(rows[-1]), pictures, NUMBERS, generator=rng))
        first += count
    device = objects.view.device
    return objects.some(torch.cat(rows).to(device)), torch.cat(numbers).to(device)


def pictures_of(
    color: Tensor, objects: Objects, size: int, numbers: Tensor | None = None, vary: Variation | None = None
) -> Tensor:
    """(n, 3, size, size) from 0 to 1, the squares of objects; what is beyond the frame has the mean colour.

    Args:
        color: (V, H, W, 3) uint8.
        objects: those of each frame together.
        size: pixels.
        numbers: (n, NUMBERS) from [0, 1), that decide how each is varied.
        vary: within what. None: as it is.
    """
    middle, half = objects.middle, objects.side[:, None].expand(-1, 2) / 2
    if vary is not None:
        assert numbers is not None
        area, ratio, *_ = numbers.double().unbind(1)
        area = vary.area[0] + (vary.area[1] - vary.area[0]) * area
        ratio = (math.log(RATIO) * (ratio - 0.5)).exp()  # sqrt of the ratio of the sides
        part = torch.stack((area.sqrt() * ratio, area.sqrt() / ratio), dim=1).clamp(max=1)
        middle = middle + half * (1 - part) * (2 * numbers[:, 2:4] - 1)
        half = half * part
        half = half * torch.stack((torch.where(numbers[:, 4] < 0.5, -1, 1), torch.ones_like(numbers[:, 4])), dim=1)
    height, width = color.shape[1:3]
    fine = SUPERSAMPLED * size
    steps = (2 * torch.arange(fine, device=color.device, dtype=torch.float64) + 1) / fine - 1
    u, v = (middle[:, i, None] + half[:, i, None] * steps for i in (0, 1))
    grid = torch.stack(
        (
            ((2 * u + 1) / width - 1)[:, None].expand(-1, fine, -1),
            ((2 * v + 1) / height - 1)[:, :, None].expand(-1, -1, fine),
        ),
        dim=-1,
    ).float()  # (n, fine, fine, 2)
    mean = torch.tensor(MEAN_COLOR, device=color.device) / 255
    frames = (color / 255 - mean).permute(0, 3, 1, 2)
    counts = torch.bincount(objects.view, minlength=len(color)).tolist()
    parts = [  # a frame's pictures above one another: it is read where it is, and not copied for each
        F.grid_sample(frame[None], some.reshape(1, -1, fine, 2), align_corners=False)
        .view(3, len(some), fine, fine)
        .transpose(0, 1)
        for frame, some in zip(frames, grid.split(counts), strict=True)
        if len(some)
    ]
    found = torch.cat(parts) if parts else frames.new_zeros(0, 3, fine, fine)
    found = F.avg_pool2d(found, SUPERSAMPLED) + mean.view(3, 1, 1) if len(found) else found.new_zeros(0, 3, size, size)
    if vary is not None:
        assert numbers is not None
        found = _recolored(found, numbers, vary)
        if vary.blur > 0:
            found = _blurred(found, numbers[:, 11] < vary.blur, numbers[:, 12])
    return found.clamp(0, 1)


def _recolored(x: Tensor, numbers: Tensor, vary: Variation) -> Tensor:
    """Brightness, contrast, and, as one matrix for each picture, saturation and a turn of the hue about grey."""
    luma = x.new_tensor(LUMA)
    changes = (numbers[:, 5] < vary.colors).to(x.dtype)
    brightness, contrast, saturation, hue = ((numbers[:, i] - 0.5) * changes for i in (6, 7, 8, 9))
    x = (x * (1 + 0.8 * brightness)[:, None, None, None]).clamp(0, 1)
    mean = torch.einsum("nchw,c->nhw", x, luma).mean((1, 2))[:, None, None, None]
    x = (mean + (x - mean) * (1 + 0.8 * contrast)[:, None, None, None]).clamp(0, 1)
    saturation = torch.where(numbers[:, 10] < vary.grey, 0, 1 + 0.8 * saturation)
    angle = 0.2 * math.tau * hue
    grey = x.new_ones(3, 1) @ luma[None]  # what has the brightness of a colour, and no hue
    one = torch.eye(3, dtype=x.dtype, device=x.device)
    axis = x.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = one + angle.sin()[:, None, None] * axis + (1 - angle.cos())[:, None, None] * (axis @ axis)
    matrix = grey + saturation[:, None, None] * (turned @ (one - grey))
    return torch.einsum("ncd,ndhw->nchw", matrix, x).clamp(0, 1)


def _blurred(x: Tensor, which: Tensor, amount: Tensor) -> Tensor:
    """Some of the pictures, each by a Gaussian of its own; borders repeat their edge."""
    size = x.shape[-1]
    sigma = (0.1 + 1.9 * amount) * size / BLURRED_AT
    reach = max(math.ceil(3 * 2 * size / BLURRED_AT), 1)
    at = torch.arange(-reach, reach + 1, device=x.device)
    weight = torch.where(which[:, None], (-0.5 * (at / sigma[:, None]) ** 2).exp(), (at == 0).to(x.dtype))
    weight = weight / weight.sum(1, keepdim=True)
    for axis in (2, 3):
        places = torch.arange(-reach, size + reach, device=x.device).clamp(0, size - 1)
        wide = x.index_select(axis, places)
        x = sum((weight[:, i, None, None, None] * wide.narrow(axis, i, size) for i in range(len(at))), x.new_zeros(()))
    return x
