"""Which pattern has a material? Unlit colours of places on a face, by role; what is finer than pixels fades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import materials as m
from .spots import Spots, picked, rgb, scrambled

_DOTS = 0.144  # the share of a dotted cloth that is dots


def _wood(s: Spots) -> np.ndarray:
    k = s.scale**0.5
    grain = s.noise(0.5 * k, 0.012 * k) * 0.10 + s.noise(0.16 * k, 0.004 * k, 1) * 0.06
    if s.pattern == "figured":
        bend = s.v + 0.05 * s.noise(0.6 * k, 0.15 * k, 2)
        return s.shaded(grain + 0.16 * s.waves(bend, 0.045 * k))
    if s.pattern == "boards":
        board = scrambled(np.floor(s.v / 0.11)) / 65536
        return s.shaded(grain + 0.24 * (board - 0.5)) * (1 - 0.5 * s.lines(s.v, 0.11, 0.004))
    return s.shaded(grain + 0.05 * s.noise(0.9 * k, 0.09 * k, 3))


def _laminate(s: Spots) -> np.ndarray:
    if s.pattern == "speckled":
        return s.mixed(np.clip(s.noise(0.012, 0.012) - 0.25, 0, 1) * 0.8) * (1 + 0.05 * s.noise(0.004, 0.004, 1))
    if s.pattern == "marble":
        cloud = s.noise(0.35, 0.2) + 0.5 * s.noise(0.11, 0.09, 1)
        vein = np.clip(1 - np.abs(cloud + 0.3 * s.noise(0.04, 0.04, 2)) * 7, 0, 1) * s.fade(0.08)
        return s.mixed(0.55 * vein + 0.06 * cloud)
    return s.shaded(0.03 * s.noise(0.3, 0.3))


def _cloth(s: Spots) -> np.ndarray:
    thread = 0.006 * s.scale
    weave = 0.10 * s.waves(s.u, thread) * s.waves(s.v, thread) + 0.06 * s.noise(0.05, 0.05)
    period = 0.16 * s.scale
    if s.pattern == "checked":
        both = s.bands(s.u, period) + s.bands(s.v, period)
        return s.mixed(0.25 * (both + 2) * 0.9) * (1 + s.contrast * weave)
    if s.pattern == "striped":
        narrow = s.lines(s.u, 0.75 * period, 0.07 * period)
        stripe = 0.5 + 0.5 * s.bands(s.u, 0.75 * period)
        return (s.mixed(0.85 * stripe) * (1 + s.contrast * weave)) * (1 - 0.25 * narrow)
    if s.pattern == "dotted":
        dot = np.clip(s.waves(s.u, 0.5 * period) + s.waves(s.v, 0.5 * period) - 0.9, 0, 0.6) / 0.6
        return s.mixed(dot + _DOTS * (1 - s.fade(0.5 * period))) * (1 + s.contrast * weave)
    if s.pattern == "mottled":
        spot, turned = 0.11 * s.scale, replace(s, u=0.8 * s.u - 0.6 * s.v, v=0.6 * s.u + 0.8 * s.v)
        cloud = (
            s.noise(spot, spot, 1)
            + turned.noise(0.7 * spot, 0.7 * spot, 2)
            + 0.5 * turned.noise(0.25 * spot, 0.25 * spot)
        )
        return s.mixed(np.clip(0.3 + 0.35 * cloud, 0, 1)) * (1 + weave)
    return s.shaded(weave + 0.05 * s.noise(0.012, 0.012, 1))


def _leather(s: Spots) -> np.ndarray:
    crease = np.clip(1 - 3 * np.abs(s.noise(0.14, 0.10)), 0, 1) * s.fade(0.1)
    return s.shaded(0.12 * s.noise(0.2, 0.16, 1) + 0.10 * s.noise(0.008, 0.008, 2) - 0.07 * crease * crease)


def _metal(s: Spots) -> np.ndarray:
    if s.pattern == "painted":
        return s.shaded(0.04 * s.noise(0.2, 0.2))
    shine = s.noise(0.9, 0.22, 1) * 0.18
    return s.shaded(shine + 0.10 * s.noise(0.22, 0.003) + 0.06 * s.noise(0.4, 0.02, 2))


def _plastic(s: Spots) -> np.ndarray:
    if s.pattern == "ribbed":
        return s.shaded(0.16 * s.waves(s.v, 0.03 * s.scale**0.5) + 0.03 * s.noise(0.2, 0.2))
    return s.shaded(0.05 * s.noise(0.35, 0.25))


def _ceramic(s: Spots) -> np.ndarray:
    if s.pattern == "tiles":
        return _tiled(s, 0.10 * (0.5 + 0.5 * s.scale), 0.10 * (0.5 + 0.5 * s.scale), 0.05)
    return s.shaded(0.05 * s.noise(0.3, 0.14) + 0.02)


def _tiled(s: Spots, width: float, height: float, spread: float) -> np.ndarray:
    """Tiles that differ a little, with joints."""
    tile = scrambled(np.floor(s.u / np.float32(width)), np.floor(s.v / np.float32(height))) / 65536 - 0.5
    joint = np.maximum(s.lines(s.u, width, 0.005), s.lines(s.v, height, 0.005))
    color = s.shaded(
        (2 * spread * tile * s.fade(4 * min(width, height))).astype(np.float32) + 0.03 * s.noise(0.05, 0.05)
    )
    return color * (1 - 0.32 * joint)


def _window(s: Spots) -> np.ndarray:
    """Daylight: sky, what stands before it, and the bars of the window; a pane that lies is a table's."""
    across, up = s.u, s.v / np.maximum(s.half_v, 1e-3)
    sky = rgb(252, 252, 252) + np.clip(up, 0, 1) * rgb(-88, -48, -6)
    cloud = np.clip(s.noise(0.5, 0.12) + 0.4 * s.noise(0.16, 0.06, 1), 0, 1)
    color = sky + (0.7 * cloud) * (255 - sky)
    if s.pattern == "hills":
        for i, shade in enumerate(([150, 178, 168], [116, 152, 96], [90, 124, 62])):
            ridge = 0.05 - 0.28 * i + 0.22 * np.sin(across * (4.1 - i) + 2.3 * i) + 0.08 * s.noise(0.13, 9.0, i)
            color = np.where((up < ridge), rgb(*shade) * (1 + 0.06 * s.noise(0.03, 0.02, 5)), color)
    elif s.pattern == "city":
        for i, shade in enumerate(([186, 196, 208], [150, 158, 170])):
            block = np.floor(across / np.float32(0.17 - 0.03 * i) + 0.4 * i)
            roof = scrambled(block, i) / 65536 * 0.9 - 0.55 - 0.25 * i
            pane = s.lines(across, 0.03, 0.014) * s.lines(s.v, 0.045, 0.022)
            color = np.where((up < roof), rgb(*shade) * (1 - 0.25 * pane), color)
    bar = np.maximum(s.strip(np.abs(across), 0.045), s.strip(s.border(), 0.10))
    color = color + bar * (0.92 * s.palette[0] - color)
    return np.where(s.level, rgb(170, 190, 186) * (1 + 0.06 * s.noise(0.5, 0.2, 3)), color)


def _paper(s: Spots) -> np.ndarray:
    inner = (s.border() > 0.03).astype(np.float32)
    if s.pattern == "whiteboard":
        stroke = np.clip(1 - 14 * np.abs(s.noise(0.10, 0.05) - 0.2), 0, 1) * s.fade(0.06)
        written = np.clip(4 * s.noise(0.7, 0.35, 1), 0, 1) * (s.border() > 0.12)
        pen = np.where((s.noise(0.9, 0.6, 2) > 0), rgb(40, 70, 170), rgb(180, 50, 40))
        color = rgb(244, 246, 248) + (0.75 * stroke * written) * (pen - 244)
        return color + s.strip(s.border(), 0.05) * (rgb(150, 152, 156) - color)
    if s.pattern == "cardboard":
        tape = s.strip(np.abs(s.v), 0.05)
        color = rgb(186, 146, 100) * (1 + 0.05 * s.noise(0.3, 0.01) + 0.05 * s.noise(0.2, 0.2, 1))
        return color + 0.5 * tape * (rgb(222, 196, 150) - color)
    if s.pattern == "poster":
        block = scrambled(np.floor(s.u / 0.14), np.floor(s.v / 0.11))
        return np.where((inner > 0), picked(s.palette[1:] or s.palette, block), rgb(246, 246, 246))
    word = scrambled(np.floor(s.u / 0.012), np.floor(s.v / 0.014)) > 20000
    return s.shaded(-0.6 * s.lines(s.v, 0.014, 0.006) * word * inner * s.fade(0.02))


def _painted(s: Spots) -> np.ndarray:
    change = 0.03 * s.noise(0.25, 0.25) + 0.015 * s.noise(0.01, 0.01, 1)
    if s.pattern == "panelled":
        within = np.minimum(s.half_u - 0.11 - np.abs(s.u), s.half_v - 0.13 - np.abs(s.v))
        cross = np.abs(s.v) - 0.06
        within = np.minimum(within, np.where(s.half_v > 0.7, cross, within))
        change = change - (0.35 * s.strip(within, 0.014) - 0.07 * (within > 0)) * ~s.level
    return s.shaded(change)


def _screen(s: Spots) -> np.ndarray:
    shine = np.clip(0.5 + (s.v + 0.4 * s.u) / (s.half_u + s.half_v), 0, 1)
    color = s.palette[0] + 26 * shine
    if s.pattern == "on":
        window = np.maximum(np.abs(s.u / s.half_u + 0.2) - 0.6, np.abs(s.v / s.half_v - 0.1) - 0.65) < 0
        text = (
            s.lines(s.v, 0.02, 0.008) * (scrambled(np.floor(s.u / 0.02), np.floor(s.v / 0.02)) > 30000) * s.fade(0.03)
        )
        back = rgb(40, 100, 170) + 60 * shine * rgb(0.4, 0.8, 1.0)
        color = np.where(window, rgb(236, 238, 240) * (1 - 0.5 * text), back)
    return color + s.strip(s.border(), 0.05) * (rgb(22, 22, 24) - color)


def _wall(s: Spots) -> np.ndarray:
    change = 0.025 * s.noise(0.9, 0.9) + 0.015 * s.noise(0.012, 0.012, 1)
    if s.pattern == "tiles":
        color = _tiled(s, 0.2, 0.2 if s.scale == 1 else 0.1, 0.03)
    elif s.pattern == "bricks":
        row = np.floor(s.v / np.float32(0.075))
        shifted = s.u + np.float32(0.12) * (row % 2)
        brick = scrambled(np.floor(shifted / np.float32(0.24)), row) / 65536 - 0.5
        joint = np.maximum(s.lines(s.v, 0.075, 0.009), s.lines(shifted, 0.24, 0.009))
        color = s.shaded(0.22 * brick.astype(np.float32) * s.fade(0.3) + 3 * change) * (1 - 0.22 * joint)
    elif s.pattern == "stripes":
        color = s.mixed(0.30 + 0.30 * s.bands(s.u, 0.24 * s.scale)) * (1 + change)
    elif s.pattern == "figured":
        period = 0.22 * s.scale
        shift = np.where(np.floor(s.v / np.float32(period)) % 2 == 0, np.float32(0), np.float32(period / 2))
        leaf = s.waves(s.u + shift, period) - 0.8 * s.waves(s.v, period) + 0.5 * s.waves(s.u + s.v, period / 2)
        color = s.mixed(np.clip(0.8 * leaf - 0.7, 0, 0.5)) * (1 + change)
    else:
        color = s.shaded(change)
    if s.pattern == "wainscot":
        below = np.clip((0.95 - s.v) / np.maximum(s.footprint, 1e-3), 0, 1)
        slat = 0.25 * s.lines(s.u, 0.12, 0.008) + 0.4 * s.strip(s.v - 0.95, 0.05)
        color = color + (0.7 * below) * (rgb(240, 236, 228) - color)
        color = color * (1 - slat * (s.v < 0.99))
    skirting = np.clip((0.09 - s.v) / np.maximum(s.footprint, 1e-3), 0, 1)
    color = color + 0.85 * skirting * (rgb(238, 234, 226) - color)
    return color * (1 - 0.35 * s.strip(s.v - 0.09, 0.008))


def _floor(s: Spots) -> np.ndarray:
    if s.pattern == "tiles":
        return _tiled(s, 0.42 if s.scale == 1 else 0.6, 0.42 if s.scale == 1 else 0.3, 0.06)
    if s.pattern in ("carpet", "rug"):
        pile = 0.12 * s.noise(0.006, 0.006) + 0.07 * s.noise(0.03, 0.03, 1) + 0.06 * s.noise(0.7, 0.7, 2)
        if s.pattern == "carpet":
            return s.shaded(pile)
        ring = s.bands(s.border(), 0.28 * (0.4 + 0.6 * s.scale)) * 0.5 + 0.5
        diamond = s.bands(s.u + s.v, 0.30 * s.scale) * s.bands(s.u - s.v, 0.30 * s.scale)
        inner = np.clip((s.border() - 0.2) / 0.01, 0, 1)
        return s.mixed(ring * (1 - inner) + inner * (0.25 + 0.25 * diamond)) * (1 + pile)
    width, length = (0.12, 0.9) if s.scale == 1 else (0.2, 1.4)
    row = np.floor(s.v / np.float32(width))
    shifted = s.u + np.float32(length) * (scrambled(row, 5) / 65536).astype(np.float32)
    board = scrambled(row, np.floor(shifted / np.float32(length))) / 65536 - 0.5
    grain = 0.07 * s.noise(0.5, 0.012) + 0.05 * s.noise(0.15, 0.005, 1)
    joint = np.maximum(s.lines(s.v, width, 0.003), s.lines(shifted, length, 0.003))
    return s.shaded(grain + 0.20 * board.astype(np.float32)) * (1 - 0.45 * joint)


def _ceiling(s: Spots) -> np.ndarray:
    change = 0.02 * s.noise(1.1, 1.1) + 0.015 * s.noise(0.015, 0.015, 1)
    if s.pattern == "panels":
        pores = np.clip(s.noise(0.015, 0.015, 2) - 0.3, 0, 1) * 0.2
        joint = np.maximum(s.lines(s.u, 0.6, 0.02), s.lines(s.v, 0.6, 0.02))
        return s.shaded(change - pores) * (1 - 0.2 * joint)
    if s.pattern == "boards":
        return s.shaded(change) * (1 - 0.18 * s.lines(s.v, 0.14, 0.008))
    return s.shaded(change)


def _curtain(s: Spots) -> np.ndarray:
    if s.pattern == "slats":
        return s.shaded(0.12 * s.waves(s.v, 0.05) + 0.02) * (1 - 0.45 * s.lines(s.v, 0.05, 0.008))
    fold = s.u + 0.015 * s.noise(0.3, 1.2)
    shade = 0.20 * s.waves(fold, 0.13) + 0.07 * s.waves(fold, 0.057) + 0.04 * s.noise(0.01, 0.01, 1)
    if s.pattern == "striped":
        return s.mixed(0.35 + 0.35 * s.bands(s.v, 0.3 * s.scale)) * (1 + shade)
    if s.pattern == "figured":
        leaf = s.waves(s.u + 0.5 * s.v, 0.17) + s.waves(s.v - 0.4 * s.u, 0.23)
        return s.mixed(np.clip(0.6 * leaf - 0.4, 0, 0.6)) * (1 + shade)
    return s.shaded(shade)


def _picture(s: Spots) -> np.ndarray:
    """A painting in a frame, with a margin; everything on a face that is all edge is frame."""
    x, y = s.u / np.maximum(s.half_u, 1e-3), s.v / np.maximum(s.half_v, 1e-3)
    if s.pattern == "abstract":
        tilted = scrambled(np.floor(1.6 * x + 0.5 * y + 4), np.floor(1.9 * y - 0.4 * x + 4))
        color = picked(s.palette, tilted) * (1 + 0.12 * s.noise(0.03, 0.02))
    elif s.pattern == "portrait":
        face = np.sqrt((x / 0.36) ** 2 + ((y - 0.25) / 0.38) ** 2)
        bust = np.abs(x) < 0.75 * np.sqrt(np.clip(-0.08 - y, 0, 1))
        color = s.palette[2] * (0.55 + 0.25 * (1 - np.abs(x))) + 20 * s.noise(0.06, 0.06)
        color = np.where(bust, 0.6 * s.palette[3 % len(s.palette)], color)
        skin = rgb(222, 176, 146) * (1.1 - 0.25 * x)
        color = np.where((face < 1), skin, np.where(((face < 1.3) & (y > 0.1)), rgb(70, 50, 40), color))
    elif s.pattern == "photograph":
        tone = 150 + 60 * y + 70 * s.noise(0.12, 0.09) + 30 * s.noise(0.03, 0.03, 1)
        color = np.clip(tone, 20, 240) * rgb(1.0, 0.98, 0.94)
    else:
        ridge = -0.1 + 0.3 * np.sin(3.0 * x + 1) + 0.12 * s.noise(0.05, 9.0)
        color = rgb(150, 190, 226) + ((1 - y) * 0.5) * rgb(80, 40, 0)
        color = np.where((y < ridge), rgb(92, 118, 104), color)
        color = np.where((y < ridge - 0.35), rgb(128, 146, 70), color)
        sun = (x - 0.45) ** 2 + (y - 0.55) ** 2 < 0.03
        color = np.where(sun, rgb(255, 232, 170), color) * (1 + 0.10 * s.noise(0.015, 0.01, 1))
    edge = s.border()
    color = color + s.strip(edge, 0.13) * (rgb(244, 241, 232) - color)
    wood = s.palette[0] * (1 + 0.12 * s.noise(0.2, 0.01, 4))
    return np.where((edge < 0.03), wood, color)


def _books(s: Spots) -> np.ndarray:
    """Spines side by side, with titles, and from above the pages; or a book that lies, its pages at the sides."""
    width = 0.034 if s.pattern == "mixed" else 0.045
    book = np.floor(s.u / np.float32(width))
    drawn = scrambled(book, 3)
    at = s.u - book * np.float32(width)
    height = s.half_v * (
        1.0 if s.pattern == "series" else 2 * (0.72 + 0.28 * (drawn >> 5 & 255) / 255).astype(np.float32) - 1
    )
    color = picked(s.palette, drawn if s.pattern == "mixed" else drawn >> 13)
    title = s.strip(np.abs(s.v + 0.2 * s.half_v), 0.05)
    color = color + (0.55 * title * (drawn & 1)) * (rgb(236, 226, 196) - color)
    round_ = 1 - 0.5 * np.abs(at / np.float32(width) - 0.5) ** 2 * 4 * s.fade(width * 2)
    color = color * round_
    color = np.where((s.v > height), rgb(44, 36, 32), color)
    pages = rgb(232, 224, 204) * (1 - 0.25 * s.lines(s.u, width, 0.006))
    color = np.where(s.level, pages, color)
    cover = picked(s.palette, scrambled(np.floor(1000 * (s.half_u + s.half_v)))) * (
        1 - 0.6 * s.strip(s.border() - 0.01, 0.004)
    )
    leaves = rgb(228, 220, 200) * (1 - 0.15 * s.lines(s.v, 0.004, 0.001) * s.fade(0.004))
    leaves = leaves + s.strip(s.half_v - np.abs(s.v), 0.008) * (s.palette[0] - leaves)
    lies = np.where(s.level, (s.half_u < 0.14) & (s.half_v < 0.14), s.half_v < 0.025)
    return np.where(lies, np.where(s.level, cover, leaves), color)


def _mirror(s: Spots) -> np.ndarray:
    streak = np.clip(s.waves(s.u + 0.6 * s.v, 0.7) - 0.3, 0, 1) * 0.18
    color = s.shaded(streak + 0.10 * s.v / np.maximum(s.half_v, 1e-3) + 0.04 * s.noise(0.4, 0.5))
    return np.where((s.border() < 0.02), rgb(120, 110, 98), color)


def _lampshade(s: Spots) -> np.ndarray:
    return s.shaded(0.03 * s.noise(0.1, 0.1) - 0.12 * np.abs(s.v) / np.maximum(s.half_v, 1e-3))


TEXTURES: dict[int, Callable[[Spots], np.ndarray]] = {
    **{
        m.WOOD: _wood,
        m.LAMINATE: _laminate,
        m.CLOTH: _cloth,
        m.LEATHER: _leather,
        m.METAL: _metal,
        m.PLASTIC: _plastic,
    },
    **{m.CERAMIC: _ceramic, m.GLASS: _window, m.PAPER: _paper, m.PAINTED: _painted, m.SCREEN: _screen, m.WALL: _wall},
    **{
        m.FLOOR_COVER: _floor,
        m.CEILING_COVER: _ceiling,
        m.CURTAIN_CLOTH: _curtain,
        m.PICTURE: _picture,
        m.BOOKS: _books,
    },
    **{m.MIRROR: _mirror, m.LAMPSHADE: _lampshade},
}
