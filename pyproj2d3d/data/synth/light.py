"""How much light falls on a place of a room? Lamps, windows and soft shadows, from a coarse grid made once per room.

The grid has a cell every 10 cm: which are solid, how much of a cell's surroundings is free (corners and the floor under
a table are darker), and how much of each lamp is seen from it. A place looks these up a little before its surface.
Only colours depend on this; nothing here needs the same bits on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .materials import GLASS, LAMPSHADE, STYLES
from .parts import Parts
from .trace import inside

if TYPE_CHECKING:
    from .room import SynthRoom

CELL = 0.1  # metres
_BORDER = 4  # solid cells around the room
_BEFORE = 0.13  # metres from a surface to where its light is looked up: out of the surface's own cell
_REACH = 2.5  # metres at which a lamp's light has halved


class Light:
    """The light of one room."""

    def __init__(self, room: SynthRoom):
        style = STYLES[room.options.style]
        self._ambient = np.array(style.ambient, dtype=np.float32)[:, None]
        lamps, glow = _lamps(room)
        self._lamps = lamps.astype(np.float32)[..., None]  # (L, 3, 1)
        self._glow = glow.astype(np.float32)[..., None]  # (L, 3, 1) RGB
        solid = _solid(room)
        self._shape = solid.shape
        free = ~solid
        open_ = sum(_blurred(free.astype(np.float32), r) for r in (1, 3, 4)) / 3
        around = np.clip((open_ - 0.2) / 0.5, 0, 1)
        seen = [_filled(_sight(solid, lamp), free) for lamp in lamps]
        self._grids = [grid.astype(np.float32).reshape(-1) for grid in (_filled(around, free), *seen)]

    def at(self, xyz: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """(3, n) RGB that falls on places (3, n) with normals (3, n), all float32; 1 shows a colour as it is."""
        around, *seen = self._looked_up(xyz + np.float32(_BEFORE) * normals)
        # The ceiling is lit by what the floor throws back: a face that looks down gets less than one that looks up
        light = self._ambient * ((0.86 + 0.14 * normals[2]) * (0.45 + 0.55 * around))
        for lamp, glow, sight in zip(self._lamps, self._glow, seen, strict=True):
            x, y, z = lamp - xyz
            squared = x * x + y * y + z * z + np.float32(1e-4)
            facing = (x * normals[0] + y * normals[1] + z * normals[2]) / np.sqrt(squared)
            light += glow * (np.maximum(0.15 + 0.85 * facing, 0) * sight / (1 + squared / (_REACH * _REACH)))
        return light

    def _looked_up(self, xyz: np.ndarray) -> list[np.ndarray]:
        """(n,) each: the grids at places (3, n), trilinear."""
        first, t = np.zeros(xyz.shape[1], dtype=np.int64), []
        step = (self._shape[1] * self._shape[2], self._shape[2], 1)
        for k in range(3):
            at = xyz[k] * np.float32(1 / CELL) + np.float32(_BORDER - 0.5)
            np.clip(at, 0, np.float32(self._shape[k] - 1.001), out=at)
            cell = at.astype(np.int64)
            at -= cell
            t.append(at)
            first += cell * step[k]
        corners = [first + (step[0] * i + step[1] * j + k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        found = []
        for grid in self._grids:
            values = [grid.take(corner) for corner in corners]
            for along in reversed(t):
                values = [_between(low, high, along) for low, high in zip(values[::2], values[1::2], strict=True)]
            found.append(values[0])
        return found


def _between(low: np.ndarray, high: np.ndarray, t: np.ndarray) -> np.ndarray:
    high -= low
    high *= t
    high += low
    return high


def _lamps(room: SynthRoom) -> tuple[np.ndarray, np.ndarray]:
    """Places (L, 3) and RGB (L, 3): two lamps under the ceiling and, where there is one, before the largest window."""
    style, extent, parts = STYLES[room.options.style], room.extent, room.parts
    long = int(extent[1] > extent[0])
    places = np.tile(extent * [0.5, 0.5, 1.0] - [0, 0, 0.4], (2, 1))
    places[:, long] = extent[long] * np.array([0.27, 0.73])
    glow = [np.array(style.lamp) * np.clip(np.sqrt(extent[0] * extent[1]) / 4.2, 0.65, 1.1)] * 2  # by the floor's area
    window = np.flatnonzero(parts.material // 1000 == GLASS)
    if len(window):
        largest = window[np.prod(parts.half[window], axis=1).argmax()]
        inwards = extent / 2 - parts.center[largest]
        inwards[2] = 0
        before = parts.center[largest] + 0.35 * inwards / max(float(np.abs(inwards).max()), 1e-9)
        places, glow = np.vstack([places, before]), [*glow, np.array(style.daylight)]
    return places, np.array(glow)


def _solid(room: SynthRoom) -> np.ndarray:
    """Which cells are solid, the border around the room being so."""
    count = np.ceil(room.extent / CELL - 1e-9).astype(int)
    axes = [(np.arange(n) + 0.5) * CELL for n in count]
    centers = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    solid = np.ones(count + 2 * _BORDER, dtype=bool)
    opaque = room.parts.material // 1000 != LAMPSHADE  # which would only hide the lamps
    p = room.parts
    parts = Parts(*(column[opaque] for column in (p.shape, p.center, p.half, p.world_from_part, p.object, p.material)))
    within = inside(parts, centers, margin=-0.5 * CELL).reshape(count)  # so that a thin board is solid too
    solid[_BORDER:-_BORDER, _BORDER:-_BORDER, _BORDER:-_BORDER] = within
    return solid


def _blurred(values: np.ndarray, radius: int) -> np.ndarray:
    """The mean over cubes of 2 radius + 1 cells; edges repeat."""
    for axis in range(3):
        padded = np.concatenate(
            [*[values.take([0], axis)] * (radius + 1), values, *[values.take([-1], axis)] * radius], axis=axis
        ).cumsum(axis=axis, dtype=np.float64)
        n = values.shape[axis]
        high = padded.take(range(2 * radius + 1, 2 * radius + 1 + n), axis)
        values = ((high - padded.take(range(n), axis)) / (2 * radius + 1)).astype(np.float32)
    return values


def _filled(values: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Blurred over free cells, which solid cells take over too: what is next to a surface is not darkened by it."""
    weight = _blurred(free.astype(np.float32), 1)
    return _blurred(values * free, 1) / np.maximum(weight, 1e-3)


def _sight(solid: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """1 where a free cell sees the lamp, 0 where something solid is between."""
    free = np.flatnonzero(~solid)
    cell = [column.astype(np.float32) for column in np.unravel_index(free, solid.shape)]
    end = lamp / CELL + (_BORDER - 0.5)
    steps = int(max(np.abs(e - column).max() for e, column in zip(end, cell, strict=True))) + 1
    away = [(np.float32(e) - column) / np.float32(steps) for e, column in zip(end, cell, strict=True)]
    at = [column + np.float32(0.5) for column in cell]
    stride, flat = (solid.shape[1] * solid.shape[2], solid.shape[2], 1), solid.reshape(-1)
    blocked = np.zeros(len(free), dtype=bool)
    for _ in range(steps - 1):
        for column, step in zip(at, away, strict=True):
            column += step
        x, y, z = (column.astype(np.int64) for column in at)
        blocked |= flat.take(x * stride[0] + y * stride[1] + z)
    sight = np.zeros(solid.shape, dtype=np.float32)
    sight.reshape(-1)[free] = ~blocked
    return sight
