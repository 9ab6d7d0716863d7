"""What would a depth sensor make of exact depth? Millimetres with the noise and the holes of structured light.

Noise and holes are integer draws and elementwise arithmetic, so that one seed gives the same millimetres everywhere.
"""

from __future__ import annotations

import numpy as np

from .materials import CERAMIC, GLASS, LAMPSHADE, LEATHER, METAL, MIRROR, SCREEN, own_color
from .options import RoomOptions

NOISE = 0.0015  # the standard deviation of depth is this times z^2, metres: 4 cm at 5 m (Khoshelham & Elberink 2012)
BASELINE = 0.075  # metres from the camera to the projector, which is to its right
_CALLED_NEAR, _CALLED_FAR = (0.35, 0.45), (5.0, 7.0)  # metres: between these, more and more is missing
_GRAZING = (0.08, 0.24)  # cosines, between which less and less is missing
_JUMP = 0.05  # of z between neighbouring pixels: an edge, which noise makes ragged

# How much of a surface does not return the pattern, of 256; blobs are missing where their own draw is below this.
_LOST = {GLASS: 225, MIRROR: 205, SCREEN: 165, LAMPSHADE: 140, METAL: 88, CERAMIC: 70, LEATHER: 50}
_LOST_DARK = 84
_DARK = 150  # the sum of RGB below which a colour is dark


def measured_depth(
    depth: np.ndarray, material: np.ndarray, intrinsics: np.ndarray, seed: int, options: RoomOptions
) -> np.ndarray:
    """Depth as the sensor's image has it.

    Args:
        depth: (H, W) float64, exact z in metres.
        material: (H, W) int64, what each pixel sees; anything below 1000 returns the pattern well.
        intrinsics: (3, 3), those of ``depth``.
        seed: of this view; another view needs another one.
        options: ``noise``, ``holes`` and ``style`` are used.

    Returns:
        (H, W) uint16 millimetres, 1 to 65534; 0 where depth is missing. With both switches off ``depth``, rounded.

    With ``noise`` the standard deviation is ``NOISE`` z^2, and pixels at depth edges may take a neighbour's place. With
    ``holes`` depth is missing where the projector, to the right of the camera, does not see the surface; in blobs on
    glass, mirrors, screens, metal and what is dark; at grazing angles; and too near or too far away.
    """
    random = np.random.default_rng([seed, 3])
    missing = _missing(depth, material, intrinsics, random, options.style) if options.holes else None
    z = _noisy(depth, random) if options.noise else depth
    millimetres = np.clip(np.floor(1000 * z + 0.5), 1, 65534).astype(np.uint16)
    if missing is not None:
        millimetres[missing] = 0
    return millimetres


def _noisy(depth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    height, width = depth.shape
    aside = random.integers(0, 4, (2, height, width), dtype=np.uint8)
    row, column = ((aside == 1).astype(np.int64) - (aside == 2) + np.indices(depth.shape)).clip(
        0, np.array([height - 1, width - 1])[:, None, None]
    )
    moved = depth[row, column]
    z = np.where(np.abs(moved - depth) > _JUMP * depth, moved, depth)
    draws = random.integers(0, 256, (4, height, width), dtype=np.uint8).sum(axis=0, dtype=np.int64)
    deviations = (draws - 510) / 147.8005  # the standard deviation of the sum of four
    return z + NOISE * (z * z) * deviations


def _missing(
    depth: np.ndarray, material: np.ndarray, intrinsics: np.ndarray, random: np.random.Generator, style: str
) -> np.ndarray:
    kinds, kind = np.unique(material, return_inverse=True)
    lost = np.array([_lost(k, style) for k in kinds.tolist()], dtype=np.float64)[kind.reshape(depth.shape)]
    low, high = _GRAZING
    np.maximum(lost, (high - facing(depth, intrinsics)) * (256 / (high - low)), out=lost)
    (closest, near), (far, farthest) = _CALLED_NEAR, _CALLED_FAR
    np.maximum(lost, (near - depth) * (256 / (near - closest)), out=lost)
    np.maximum(lost, (depth - far) * (256 / (farthest - far)), out=lost)
    return (blobs(depth.shape, random) < lost) | shadow(depth, intrinsics[0, 0])


def _lost(material: int, style: str) -> int:
    if material < 1000:
        return 0
    dark = sum(own_color(material, style)) < _DARK
    return max(_LOST.get(material // 1000, 0), _LOST_DARK * dark)


def shadow(depth: np.ndarray, focal: float) -> np.ndarray:
    """(H, W) bool: is something between the surface and the projector? It is on the left of what is nearer.

    In the projector's image a pixel lies farther left the nearer its surface is; where the order of a row turns round,
    the farther surface is hidden. An image that is mirrored (``focal`` < 0) has its shadows on the right.
    """
    if focal < 0:
        return shadow(depth[:, ::-1], -focal)[:, ::-1]
    column = np.arange(depth.shape[1]) - focal * BASELINE / depth
    leftmost = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(depth.shape, dtype=bool)
    hidden[:, :-1] = column[:, :-1] > leftmost[:, 1:]
    return hidden


def facing(depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(H, W) cosine between the surface and the ray, exact on planes, on which 1 / z is linear over the image."""
    (fx, _, cx), (_, fy, cy) = intrinsics[:2].tolist()
    inverse = 1 / depth
    along, down = fx * _slope(inverse, 1), fy * _slope(inverse, 0)
    x = (np.arange(depth.shape[1]) - cx) / fx
    y = ((np.arange(depth.shape[0]) - cy) / fy)[:, None]
    ahead = inverse - x * along - y * down
    length = np.sqrt((along * along + down * down + ahead * ahead) * (x * x + y * y + 1))
    return inverse / length


def _slope(values: np.ndarray, axis: int) -> np.ndarray:
    """Difference to the next or from the previous pixel, the smaller one: an edge is on one side only."""
    if values.shape[axis] < 2:
        return np.zeros_like(values)
    step = np.diff(values, axis=axis)
    first, last = step.take([0], axis), step.take([-1], axis)
    before, after = np.concatenate([first, step], axis=axis), np.concatenate([step, last], axis=axis)
    return np.where(np.abs(before) < np.abs(after), before, after)


def blobs(size: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """(H, W) integers, about evenly from 0 to 255, that change over a fortieth of the width, with rough edges."""
    height, width = size
    cell = max(width // 40, 2)
    lattice = random.integers(0, 256, (height // cell + 2, width // cell + 2))
    rough = random.integers(-24, 25, size)
    row, column = np.arange(height)[:, None], np.arange(width)
    i, j, s, t = row // cell, column // cell, row % cell, column % cell
    upper = lattice[i, j] * (cell - t) + lattice[i, j + 1] * t
    lower = lattice[i + 1, j] * (cell - t) + lattice[i + 1, j + 1] * t
    smooth = (upper * (cell - s) + lower * s) // (cell * cell)
    wide = 128 + (smooth - 128) * 3 // 2  # interpolation draws the values towards the middle
    return np.clip(wide + rough, 0, 255)
