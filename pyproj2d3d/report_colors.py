"""What colour stands for a number or a label, so that equal steps look equal?"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def depth_colors(depth: Tensor, near: float, far: float) -> Tensor:
    """(...) metres to (..., 3) uint8: near is light, far is dark, no reading (<= 0) is grey."""
    rgb = scale_colors((depth - near) / ((far - near) or 1.0))
    return torch.where((depth > 0)[..., None], rgb, 96).to(torch.uint8)


def scale_colors(t: Tensor) -> Tensor:
    """(...) from 0 to 1 to (..., 3) uint8: from light yellow over green and blue to dark violet, in equal steps."""
    t = t.clamp(0, 1)
    return _srgb_from_oklch(0.94 - 0.60 * t, 0.12 + 0.16 * t * (1 - t), torch.deg2rad(105 + 205 * t)).to(torch.uint8)


def label_colors(labels: Tensor) -> Tensor:
    """(...) to (..., 3) uint8: one colour for each label, neighbours far apart; grey where the label is -1."""
    hue = labels * (math.pi * (3 - math.sqrt(5)))  # the golden angle
    lightness = 0.74 + 0.1 * (labels % 3 - 1)
    rgb = _srgb_from_oklch(lightness, torch.full_like(lightness, 0.15), hue.float() + 0.5)
    return torch.where((labels >= 0)[..., None], rgb, 96).to(torch.uint8)


def _srgb_from_oklch(lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """Oklab in polar form to 8-bit sRGB: equal steps look equal."""
    a, b = chroma * hue.cos(), chroma * hue.sin()
    l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = torch.stack(
        (
            4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
        ),
        dim=-1,
    ).clamp(0, 1)
    return (torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255).round()
