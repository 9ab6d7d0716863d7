"""Where does the camera go? A walk as if it were held in a hand, around the room and looking at the furniture."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...camera import Camera
from .furniture import Draw, cosine_sine, reach_of
from .options import RoomOptions
from .parts import Parts

_LOW, _HIGH = 1.2, 1.7  # metres above the floor
_GAP = 0.3  # metres that the camera keeps from walls and furniture, where there is room
_STEP = 0.22  # radians that it turns by between two frames, at most
_FASTNESS = (1, 2, 1, 3, 1, 2, 2, 4)  # of the waves in its path, per turn around
_RAYS = 72  # around the middle of the room, along which free space is looked for
_FOCAL = {"home": 577.870605 / 640, "studio": 0.7}  # per pixel of width; the first is ScanNet's


def walk(seed: int, options: RoomOptions, extent: np.ndarray, parts: Parts, boxes: np.ndarray) -> Camera:
    """``options.frames`` cameras: they turn once around, or twice if there are frames enough, from a random heading.

    The camera looks across the middle of the room, and comes nearer to what it sees now and then. It stays in the space
    that is free around the middle, 1.2 to 1.7 m high, and aims at the objects (``boxes``) that it turns to.
    """
    draw, n = Draw(seed, 1), options.frames
    low, high = obstacles(parts, extent)
    middle = _widest_place(extent, low, high)
    free = _free_around(middle, low, high)
    phases = [draw.integer(0, 6283) for _ in range(9)]
    direction = draw.one_of((-1, 1))
    step = min(_STEP, 4 * math.pi / max(n, 1))
    poses = np.tile(np.eye(4), (n, 1, 1))
    for i in range(n):
        angle = round(1000 * step * i)  # milliradians since the start; everything waves with it
        waves = [cosine_sine(phase + angle * k)[1] for phase, k in zip(phases[1:], _FASTNESS, strict=True)]
        yaw = phases[0] + direction * angle + round(80 * waves[1])
        away = 0.35 + 0.3 * waves[2] + 0.25 * waves[5]  # from the middle; below 0: towards what it sees
        side = yaw + round(350 * waves[4]) + (3142 if away > 0 else 0)
        c, s = cosine_sine(side)
        reach = abs(away) * _free_at(free, side)
        height = (_LOW + _HIGH) / 2 + (_HIGH - _LOW) / 2 * (0.6 * waves[3] + 0.4 * waves[6])
        place = (middle[0] + reach * c, middle[1] + reach * s, height)
        aside, pitch = _aim(boxes[3:], place, yaw)
        pitch += round(60 * waves[7] - 850 * max(0.0, waves[0] - 0.3))  # down at what is close, now and then
        poses[i, :3] = _upright(place, yaw + aside, max(-1150, pitch), round(30 * waves[6]))
    height, width = options.size
    focal = width * _FOCAL[options.style]
    intrinsics = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])
    return Camera(torch.from_numpy(intrinsics), torch.from_numpy(poses.round(9) + 0.0), options.size)


def obstacles(parts: Parts, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) of what is as high as a camera may be, (n, 2) each: parts, and all beyond the walls."""
    low, high = [], []
    for shape, center, half, turn in zip(parts.shape, parts.center, parts.half, parts.world_from_part, strict=True):
        reach = reach_of(int(shape), half.tolist(), turn.tolist())
        if center[2] - reach[2] < _HIGH + 0.15 and center[2] + reach[2] > _LOW - 0.15:
            low.append([center[k] - reach[k] for k in range(2)])
            high.append([center[k] + reach[k] for k in range(2)])
    far, (x, y) = 100.0, extent[:2].tolist()
    low += [[-far, -far], [-far, -far], [x, -far], [-far, y]]
    high += [[0.0, far], [far, 0.0], [far, far], [far, far]]
    return np.array(low), np.array(high)


def clearance(places: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(n,) metres from places (n, 2) to the nearest obstacle."""
    nearest = np.full(len(places), np.inf)
    for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True):
        dx = np.maximum(np.maximum(x0 - places[:, 0], places[:, 0] - x1), 0)
        dy = np.maximum(np.maximum(y0 - places[:, 1], places[:, 1] - y1), 0)
        np.minimum(nearest, dx * dx + dy * dy, out=nearest)
    return np.sqrt(nearest)


def _widest_place(extent: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[float]:
    """The place farthest from all obstacles, on a grid of 10 cm."""
    x, y = (np.arange(1, math.floor(side * 10)) / 10 for side in extent[:2].tolist())
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    place: list[float] = grid[clearance(grid, low, high).argmax()].tolist()
    return place


def _free_around(middle: list[float], low: np.ndarray, high: np.ndarray) -> list[float]:
    """How far from the middle one may go in each of 72 directions and in those beside it."""
    gap = min(_GAP, 0.9 * clearance(np.array([middle]), low, high)[0])
    steps = np.arange(1, 101) / 20
    way = []
    for k in range(_RAYS):
        c, s = cosine_sine(round(k * 2000 * math.pi / _RAYS))
        open_ = clearance(np.stack([middle[0] + steps * c, middle[1] + steps * s], axis=-1), low, high) > gap
        way.append(float(steps[open_.argmin() - 1]) if open_[0] else 0.0)
    least = [min(way[(k + j) % _RAYS] for j in range(-3, 4)) for k in range(_RAYS)]
    return [sum(least[(k + j) % _RAYS] * (3 - abs(j)) for j in range(-2, 3)) / 9 for k in range(_RAYS)]


def _free_at(free: list[float], milliradians: int) -> float:
    place = (milliradians / 1000 / (2 * math.pi) * _RAYS) % _RAYS
    k = math.floor(place)
    return free[k % _RAYS] + (place - k) * (free[(k + 1) % _RAYS] - free[k % _RAYS])


def _aim(boxes: np.ndarray, place: tuple[float, float, float], yaw: int) -> tuple[int, int]:
    """How far to turn aside from a heading and to look up, milliradians, to see the objects that are ahead.

    The mean over the objects, by their size, how near to the heading they are and, of those within arm's reach, by
    their distance: so that it changes smoothly.
    """
    total, aside, up = 0.3, 0.0, -0.3 * 0.4
    for x, y, z, *size, _ in boxes.tolist():
        dx, dy = x - place[0], y - place[1]
        off = math.remainder(math.atan2(dy, dx) - yaw / 1000, 2 * math.pi)
        distance = math.sqrt(dx * dx + dy * dy)
        weight = max(0.0, 1 - abs(off) / 0.7) * min(1.0, sum(size) / 2) * min(1.0, distance)
        total, aside, up = (
            total + weight,
            aside + weight * off,
            up + weight * math.atan2(z - place[2], max(distance, 0.4)),
        )
    # whole milliradians, so that the last bits of atan2, which depend on the machine, are gone
    return round(600 * aside / total), round(1000 * min(0.1, max(-0.8, up / total)))


def _upright(place: tuple[float, float, float], yaw: int, pitch: int, roll: int) -> np.ndarray:
    """(3, 4) world from camera: x right, y down, z ahead; yaw from x about z, pitch up, roll about the optical axis."""
    (cy, sy), (cp, sp), (cr, sr) = (cosine_sine(angle) for angle in (yaw, pitch, roll))
    ahead, right, down = (cy * cp, sy * cp, sp), (sy, -cy, 0.0), (cy * sp, sy * sp, -cp)
    rolled = [tuple(cr * a + sr * b for a, b in zip(right, down, strict=True))]
    rolled.append(tuple(cr * b - sr * a for a, b in zip(right, down, strict=True)))
    return np.array([*rolled, ahead, place]).T
