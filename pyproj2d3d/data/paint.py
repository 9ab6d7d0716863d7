"""Which colour does the analytic room have at a place? Procedural paint, so that its pictures read as a room."""

from __future__ import annotations

import numpy as np

_LAMP = np.array([4.0, 3.0, 2.8])  # metres
_WALLS = np.array([[214, 190, 160], [168, 190, 205], [190, 203, 170], [208, 178, 178]])  # at x = 0, x = 8, y = 0, y = 6
_WOOD = np.array([[176, 122, 70], [150, 96, 52], [196, 150, 96], [120, 78, 48]])
_CLOTH = np.array([[178, 48, 48], [46, 92, 168], [40, 128, 84], [212, 150, 30], [112, 60, 140]])
_BOOKS = np.array([[160, 40, 40], [36, 76, 140], [212, 190, 120], [44, 110, 72], [90, 60, 110], [228, 228, 214]])


def paint_surface(xyz: np.ndarray, kind: str, axis: np.ndarray, upper: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Unlit colours (n, 3) of places on surfaces of one kind, one of the names in ``Room.LABELS``.

    ``axis`` (n,) is that of the face's normal, ``upper`` whether it is the body's face of higher coordinates, ``body``
    which body it belongs to: two chairs differ in colour.
    """
    x, y, z = xyz.T
    along = np.where(axis == 0, y, x)  # a level coordinate within the face
    over = np.where(axis == 2, y, z)  # and the other one
    if kind == "floor":
        return _shaded(np.array([188, 176, 158]), np.where((np.floor(2 * x) + np.floor(2 * y)) % 2 == 0, 1.0, 0.72))
    if kind == "ceiling":
        return _shaded(np.array([236, 234, 228]), np.where(np.minimum(x % 1, y % 1) < 0.03, 0.8, 1.0))
    if kind == "wall":
        panel = np.where(z < 0.9, 0.78, np.where(np.floor(along / 0.4) % 2 == 0, 1.0, 0.92))
        rail = np.abs(z - 0.9) < 0.03
        return _shaded(_WALLS[2 * axis + upper], np.where(rail, 0.5, panel))
    if kind == "chair":
        check = (np.floor(along / 0.1) + np.floor(over / 0.1)) % 2 == 0
        return _shaded(_CLOTH[body % len(_CLOTH)], np.where(check, 1.0, 0.6))
    if kind == "bookshelf":
        book = _scrambled(np.floor(along / 0.06), np.floor(over / 0.3), body)
        shelf = (over % 0.3 < 0.03) & (axis != 2)
        return np.where((shelf | (axis == 2))[:, None], _WOOD[3], _BOOKS[book % len(_BOOKS)]).astype(float)
    if kind == "table":
        return _shaded(_WOOD[body % 3], 0.82 + 0.18 * np.sin(2 * np.pi * (along / 0.09 + 0.4 * np.sin(6 * over))))
    edge = (along % 0.35 < 0.02) | (over % 0.4 < 0.02)  # a cabinet: drawers
    return _shaded(200 - 0.35 * _CLOTH[body % len(_CLOTH)], np.where(edge & (axis != 2), 0.45, 1.0))


def lit(colors: np.ndarray, xyz: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(n, 3) uint8: colours in the light of a lamp under the ceiling, by the angle to it and the distance."""
    to_lamp = _LAMP - xyz
    distance = np.linalg.norm(to_lamp, axis=1)
    facing = np.maximum((to_lamp * normal).sum(axis=1) / np.maximum(distance, 1e-9), 0)
    light = 0.55 + 0.75 * facing / (1 + (distance / 4) ** 2)
    return (colors * light[:, None]).round().clip(0, 255).astype(np.uint8)


def _shaded(color: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return np.broadcast_to(color, (len(factor), 3)) * factor[:, None]


def _scrambled(*numbers: np.ndarray) -> np.ndarray:
    """An integer per row that looks random and depends on the row alone."""
    mixed = np.zeros(len(numbers[0]), dtype=np.int64)
    for number, prime in zip(numbers, (73856093, 19349663, 83492791), strict=True):
        mixed ^= number.astype(np.int64) * prime
    return (mixed >> 3) & 0xFFFF
