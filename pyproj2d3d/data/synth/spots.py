"""What do patterns consist of? Noise, waves, bands and lines over places on a face, averaged over each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TABLE = 256  # rows and columns of the noise's lattice, which repeats
_LATTICE = np.random.default_rng(20).integers(-127, 128, _TABLE * _TABLE).astype(np.float32) / 127


@dataclass(frozen=True, eq=False)
class Spots:
    """n places of one material. Coordinates are metres from the middle of a face; on walls from their lower corner."""

    u: np.ndarray  # (n,) float32: level, on an upright face
    v: np.ndarray  # (n,) float32: upwards there
    half_u: np.ndarray  # (n,) float32, half of the face's extent
    half_v: np.ndarray  # (n,) float32
    level: np.ndarray  # (n,) bool: a face that looks up or down
    footprint: np.ndarray  # (n,) float32: metres that a pixel is wide there
    scale: float  # of the periods
    contrast: float
    pattern: str
    palette: list[np.ndarray]  # (3, 1) RGB float32 each, the material's own colour first

    def mixed(self, weight: np.ndarray, other: np.ndarray | int = 1) -> np.ndarray:
        """(3, n): from the own colour, where the weight is 0, to another one."""
        second = self.palette[other] if isinstance(other, int) else other
        return self.palette[0] + weight * (second - self.palette[0])

    def shaded(self, change: np.ndarray) -> np.ndarray:
        """(3, n): the own colour, made brighter by ``change``."""
        return self.palette[0] * (1 + self.contrast * change)

    def noise(self, period_u: float, period_v: float, seed: int = 0) -> np.ndarray:
        """(n,) smooth between -1 and 1, different every period."""
        x = self.u * np.float32(1 / period_u) + np.float32(37.3 + 11 * seed)
        y = self.v * np.float32(1 / period_v) + np.float32(91.7 + 7 * seed)
        column, row = np.floor(x), np.floor(y)
        s, t = x - column, y - row
        s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
        left, top = column.astype(np.int64), row.astype(np.int64)
        right, low = (left + 1) & (_TABLE - 1), ((top + 1) & (_TABLE - 1)) * _TABLE
        left &= _TABLE - 1
        top = (top & (_TABLE - 1)) * _TABLE
        upper, lower = _LATTICE.take(top + left), _LATTICE.take(low + left)
        upper += s * (_LATTICE.take(top + right) - upper)
        lower += s * (_LATTICE.take(low + right) - lower)
        lower -= upper
        lower *= t
        upper += lower
        upper *= self.fade(2 * min(period_u, period_v))
        return upper

    def fade(self, period: float) -> np.ndarray:
        """(n,) 1 where pixels resolve a period, 0 where they do not."""
        return np.clip(2 - self.footprint * np.float32(4 / period), 0, 1)

    def waves(self, x: np.ndarray, period: float) -> np.ndarray:
        return np.cos(x * np.float32(2 * np.pi / period)) * self.fade(period)

    def bands(self, x: np.ndarray, period: float) -> np.ndarray:
        """(n,) 1 and -1 in turns, half a period each."""
        turn = x * np.float32(1 / period)
        to_edge = (np.abs(turn - np.floor(turn) - 0.5) - 0.25) * np.float32(2 * period)
        return np.clip(to_edge / np.maximum(self.footprint, 1e-4), -1, 1) * self.fade(period)

    def lines(self, x: np.ndarray, period: float, width: float) -> np.ndarray:
        """(n,) 1 on lines of a width about the multiples of a period, 0 between; of a coarse pixel its share."""
        turn = x * np.float32(1 / period) + 0.5
        distance = np.abs(turn - np.floor(turn) - 0.5) * np.float32(period)
        return self.strip(distance, width)

    def strip(self, distance: np.ndarray, width: float) -> np.ndarray:
        """(n,) the share of each pixel that is within half the width of distance 0."""
        pixel = np.maximum(self.footprint, 1e-4)
        covered = np.minimum(distance + pixel / 2, width / 2) - np.maximum(distance - pixel / 2, -width / 2)
        return np.clip(covered / pixel, 0, 1)

    def border(self) -> np.ndarray:
        """(n,) metres to the nearest edge of the face."""
        return np.minimum(self.half_u - np.abs(self.u), self.half_v - np.abs(self.v))


def scrambled(*numbers: np.ndarray | int) -> np.ndarray:
    """(n,) int64 from 0 to 65535 that looks random and depends on the integers alone."""
    mixed = np.int64(0)
    for number, prime in zip(numbers, (73856093, 19349663, 83492791), strict=False):
        mixed = (mixed ^ (np.asarray(number).astype(np.int64) * prime)) * 2654435761 & 0x7FFFFFFF
    return (mixed >> 8) & 0xFFFF


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([[red], [green], [blue]], dtype=np.float32)


def picked(colors: list[np.ndarray], which: np.ndarray) -> np.ndarray:
    return np.concatenate(colors, axis=1).take(which % len(colors), axis=1)
