"""How are images varied in training without moving a point off its pixel? The camera follows every change.

Each takes a :class:`View` and gives a new one; see :mod:`pyproj2d3d.data.transforms` for how they draw. What happens to
pixels is said at :class:`View`. A point p then lies at ``project(p, view.camera)``, and what the new image sees is
``visibility(points, view.camera, view.depth[None])``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..camera import image_size
from ..ops._check import check_int
from .transforms import (
    Compose,
    Range,
    chance,
    check_amount,
    check_int_range,
    check_positive,
    check_range,
    check_share,
    integer,
    uniform,
)
from .views import MEAN_COLOR, View, bytes_of, check_place, fill_color

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look


@dataclass(frozen=True)
class Resize:
    """To a size (H, W)."""

    size: tuple[int, int]

    def __post_init__(self) -> None:
        image_size("size", self.size)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        return view.resized(self.size)


@dataclass(frozen=True)
class RandomResize:
    """By one factor for height and width, as far as whole pixels allow; the camera follows the pixels exactly.

    Give one of the two: ``scale``, the range of the factor, or ``longer``, the range of the longer side in pixels, both
    ends included. The other side is rounded, and at least 1.
    """

    scale: Range | None = None
    longer: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.scale is None) == (self.longer is None):
            raise ValueError(f"RandomResize must be given scale or longer, got {self.scale!r} and {self.longer!r}")
        if self.scale is not None:
            check_range("scale", self.scale)
        if self.longer is not None:
            check_int_range("longer", self.longer)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        if self.longer is not None:
            scale = integer(*self.longer, rng) / max(view.size)
        else:
            assert self.scale is not None
            scale = uniform(*self.scale, rng)
        height, width = (max(math.floor(scale * n + 0.5), 1) for n in view.size)
        return view.resized((height, width))


@dataclass(frozen=True)
class Crop:
    """``image[top : top + height, left : left + width]``; padding where that is beyond the image."""

    top: int
    left: int
    height: int
    width: int
    fill: tuple[int, int, int] = MEAN_COLOR

    def __post_init__(self) -> None:
        image_size("(height, width)", (self.height, self.width))
        check_place("top", self.top)
        check_place("left", self.left)
        fill_color(self.fill)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        return view.cropped(self.top, self.left, self.height, self.width, self.fill)


@dataclass(frozen=True)
class RandomCrop:
    """A part of ``size`` (H, W) from anywhere in the image.

    Along a side that is shorter than that, the whole image lies anywhere in it, and the rest is padding.
    """

    size: tuple[int, int]
    fill: tuple[int, int, int] = MEAN_COLOR

    def __post_init__(self) -> None:
        image_size("size", self.size)
        fill_color(self.fill)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        room = [old - new for old, new in zip(view.size, self.size, strict=True)]
        top, left = (integer(min(r, 0), max(r, 0), rng) for r in room)
        return view.cropped(top, left, *self.size, self.fill)


@dataclass(frozen=True)
class Flip:
    """Mirrored left to right (or upside down) with probability ``p``. fx (or fy) of the camera becomes negative."""

    p: float = 0.5
    horizontal: bool = True

    def __post_init__(self) -> None:
        check_share("p", self.p)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        return view.flipped(self.horizontal) if chance(self.p, rng) else view


@dataclass(frozen=True)
class Roll:
    """With probability ``p`` the camera is turned about its optical axis, by up to ``angle`` radians to either side."""

    angle: float = math.radians(10)
    p: float = 0.5
    fill: tuple[int, int, int] = MEAN_COLOR

    def __post_init__(self) -> None:
        check_amount("angle", self.angle)
        check_share("p", self.p)
        fill_color(self.fill)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        rolls, angle = chance(self.p, rng), uniform(-self.angle, self.angle, rng)
        return view.rolled(angle, self.fill) if rolls else view


@dataclass(frozen=True)
class PhotometricJitter:
    """Brightness, contrast, saturation, hue and gamma, in random order; depth, labels and camera stay.

    The first three are factors from [1 - x, 1 + x], not below 0: of the colour, of its distance from the image's mean
    grey, and of its distance from its own grey. ``hue`` is added to the hue in turns, from [-hue, hue], at most 0.5.
    ``gamma`` is an exponent from [1 - x, 1 + x], so below 1. The first four and their defaults are those of the joint
    2D-3D weak supervision recipe; 0 leaves a part out. Padding takes part in the mean: crop afterwards.
    """

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.1
    gamma: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue", "gamma"):
            check_amount(name, getattr(self, name))
        if self.hue > 0.5:
            raise ValueError(f"hue must be at most 0.5 turns, got {self.hue}")
        if self.gamma >= 1:
            raise ValueError(f"gamma must be below 1, got {self.gamma}")

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        amounts = (self.brightness, self.contrast, self.saturation, self.hue, self.gamma)
        drawn = [uniform(-x, x, rng) for x in amounts]
        rgb = view.color.float() / 255
        for i in torch.randperm(len(amounts), generator=rng).tolist():
            if amounts[i] > 0:
                rgb = _PHOTOMETRIC[i](rgb, drawn[i]).clamp(0, 1)
        return replace(view, color=bytes_of(255 * rgb))


@dataclass(frozen=True)
class Blur:
    """A Gaussian over ``size`` x ``size`` pixels with probability ``p``; colour alone. Borders repeat their edge.

    The defaults are what OpenCV makes of a 5x5 kernel. It smears padding into the image: crop afterwards.
    """

    size: int = 5
    sigma: float = 1.1  # pixels
    p: float = 0.5

    def __post_init__(self) -> None:
        if check_int("size", self.size, 1) % 2 == 0:
            raise ValueError(f"size must be odd, got {self.size}")
        check_positive("sigma", self.sigma)
        check_share("p", self.p)

    def __call__(self, view: View, rng: Generator | None = None) -> View:
        if not chance(self.p, rng):
            return view
        reach = self.size // 2
        weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / self.sigma) ** 2)
        weights = (weight / weight.sum()).tolist()
        color, places = view.color.float(), torch.arange(-reach, max(view.size) + reach, device=view.color.device)
        for axis, length in enumerate(view.size):
            wide = color.index_select(axis, places[: length + 2 * reach].clamp(0, length - 1))
            color = sum((w * wide.narrow(axis, i, length) for i, w in enumerate(weights)), torch.zeros_like(color))
        return replace(view, color=bytes_of(color))


def _brighter(rgb: Tensor, by: float) -> Tensor:
    return rgb * max(1 + by, 0)


def _more_contrast(rgb: Tensor, by: float) -> Tensor:
    mean = _grey(rgb).mean()
    return mean + (rgb - mean) * max(1 + by, 0)


def _more_saturated(rgb: Tensor, by: float) -> Tensor:
    grey = _grey(rgb)
    return grey + (rgb - grey) * max(1 + by, 0)


def _of_other_hue(rgb: Tensor, by: float) -> Tensor:
    """Hue as in HSV; value and the distance of the least channel from it stay."""
    value, most = rgb.max(dim=2)
    chroma = value - rgb.amin(dim=2)
    one, other = (rgb.gather(2, ((most + i) % 3)[..., None])[..., 0] for i in (1, 2))
    hue = 2 * most + (one - other) / chroma.clamp(min=1e-9) + 6 * by  # in sixths of a turn; red at 0
    sixth = (torch.tensor([5.0, 3.0, 1.0], device=rgb.device) + hue[..., None]) % 6
    return value[..., None] - chroma[..., None] * torch.minimum(sixth, 4 - sixth).clamp(0, 1)


def _of_other_gamma(rgb: Tensor, by: float) -> Tensor:
    return rgb ** (1 + by)


_PHOTOMETRIC = (_brighter, _more_contrast, _more_saturated, _of_other_hue, _of_other_gamma)


def _grey(rgb: Tensor) -> Tensor:
    """(H, W, 1)"""
    return (rgb * torch.tensor(_LUMA, device=rgb.device)).sum(dim=2, keepdim=True)


def to_size(size: tuple[int, int]) -> Compose:
    """Images as they are, brought to one size (H, W): by their longer side, cropped or padded to it."""
    return Compose([RandomResize(longer=(max(size), max(size))), RandomCrop(size)])


def varied_to_size(size: tuple[int, int], resize: Range, flip: float) -> Compose:
    """The same for training: mirrored with that probability, the longer side times a factor from a range."""
    check_range("resize", resize)
    low, high = (round(factor * max(size)) for factor in resize)
    return Compose([Flip(flip), RandomResize(longer=(low, high)), RandomCrop(size)])
