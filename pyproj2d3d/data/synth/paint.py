"""Which colour does a synthetic room have at a place? Material, pattern and light, the same for pictures and meshes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .light import Light
from .materials import CEILING_COVER, FLOOR_COVER, GLASS, LAMPSHADE, PATTERNS, SCREEN, STYLES, WALL, WOOD, material
from .parts import BOX, CEILING, CYLINDER, FLOOR, WALLS
from .spots import Spots
from .textures import TEXTURES

if TYPE_CHECKING:
    from .room import SynthRoom

_SHINES = {GLASS: 0.85, LAMPSHADE: 0.85, SCREEN: 0.35}  # which share of its colour does not depend on the light
_EDGE, _DARK_EDGE = 0.006, 0.22  # metres along the edges of boxes that are darker: it sets a board off from the next
_AT_A_TIME = 40_000  # places, so that the work stays in cache
_TONE = 0.028  # brightness between neighbouring tones


def paint(
    room: SynthRoom,
    points: np.ndarray,
    part: np.ndarray,
    local: np.ndarray,
    normals: np.ndarray,
    footprint: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Colours of places on the surfaces of a room.

    Args:
        room: its parts, extent, seed, scene type and style are used.
        points: (n, 3) in the world, metres.
        part: (n,) int64; the number of parts for the shell.
        local: (n, 3) in the unit solid of the part; on the shell points / extent.
        normals: (n, 3) unit, into free space.
        footprint: (n,) or one for all, the metres that a pixel is wide there: what is finer than it is averaged.

    Returns:
        (n, 3) uint8. A colour depends on its own place alone, not on the others.
    """
    pixel = np.broadcast_to(np.float32(footprint), part.shape)
    color = np.empty((len(part), 3), dtype=np.uint8)
    for first in range(0, len(part), _AT_A_TIME):
        of = slice(first, first + _AT_A_TIME)
        color[of] = _painted(room, points[of], part[of], local[of], normals[of], pixel[of])
    return color


def _painted(
    room: SynthRoom, points: np.ndarray, part: np.ndarray, local: np.ndarray, normals: np.ndarray, pixel: np.ndarray
) -> np.ndarray:
    xyz, normal = np.float32(points.T), np.float32(normals.T)
    of = part + (part == len(room.parts)) * np.where(
        np.abs(normal[2]) < 0.5, WALLS, np.where(normal[2] > 0, FLOOR, CEILING)
    )
    shell, is_wall = shell_materials(room), room.parts.material // 1000 == WALL  # a wall's block is like the walls
    face = _on_face(room, of, np.append(is_wall, [True] * 3)[of], np.float32(local.T))
    made_of = np.concatenate([np.where(is_wall, shell[WALLS], room.parts.material), shell])
    kinds, kind_of_part = np.unique(made_of, return_inverse=True)
    kind = kind_of_part.astype(np.uint16)[of]
    order = np.argsort(kind, kind="stable")
    begin = np.searchsorted(kind[order], np.arange(len(kinds) + 1))
    light = light_of(room).at(xyz, normal)
    color, style = np.empty((3, len(part)), dtype=np.float32), STYLES[room.options.style]
    for k in np.flatnonzero(np.diff(begin)).tolist():
        i = order[begin[k] : begin[k + 1]]
        role, palette, pattern = _look(int(kinds[k]), room.options.style)
        u, v, half_u, half_v, level = (column[i] for column in face)
        if role == WOOD:  # its grain runs along the longer side of a face
            swap = half_v > half_u
            u, v, half_u, half_v = (
                np.where(swap, b, a) for a, b in ((u, v), (v, u), (half_u, half_v), (half_v, half_u))
            )
        spots = Spots(u, v, half_u, half_v, level, pixel[i], style.scale, style.contrast, pattern, palette)
        shines = _SHINES.get(role, 0.0)
        lit = TEXTURES[role](spots) * (shines + (1 - shines) * light.take(i, axis=1))
        color[:, i] = lit * (1 - _DARK_EDGE * spots.strip(spots.border(), 2 * _EDGE)) if role < GLASS else lit
    return _developed(color)


@lru_cache(maxsize=2)
def light_of(room: SynthRoom) -> Light:
    """Made once for a room, as neighbouring frames show the same one."""
    return Light(room)


def shell_materials(room: SynthRoom) -> np.ndarray:
    """(3,) materials of floor, walls and ceiling, which follow from the seed and what the room is for."""
    draw = np.random.default_rng([room.seed, 5]).integers(0, 1000, 8).tolist()
    wall = ("paint", "stripes", "paint", "figured", "paint", "wainscot", "bricks", "stripes", "paint")[draw[0] % 9]
    floor, ceiling = "parquet", "plaster"
    if room.scene_type in ("bathroom", "kitchen"):
        floor, wall = "tiles", "tiles" if room.scene_type == "bathroom" else "paint"
    elif room.scene_type in ("office", "conference room", "classroom"):
        floor, ceiling = ("carpet", "parquet", "tiles")[draw[1] % 3], "panels"
        wall = "paint" if wall == "figured" else wall
    elif draw[2] % 3 == 0:
        floor, ceiling = "carpet", ("plaster", "boards")[draw[3] % 2]
    drawn = {FLOOR: (FLOOR_COVER, floor), WALLS: (WALL, wall), CEILING: (CEILING_COVER, ceiling)}
    return np.array(
        [
            material(role, PATTERNS[role].index(name), draw[4 + i] % 10, draw[4 + i] // 10 % 10)
            for i, (role, name) in sorted(drawn.items())
        ]
    )


def _look(number: int, style: str) -> tuple[int, list[np.ndarray], str]:
    """Role, palette with the own colour first, and pattern of a material."""
    role, pattern, color, tone = number // 1000, number // 100 % 10, number // 10 % 10, number % 10
    colors = STYLES[style].palettes[role]
    own = [colors[(color + i) % len(colors)] for i in (0, *range(3, 3 + len(colors)))]
    palette = [np.float32(c)[:, None] * np.float32(1 + _TONE * (tone - 4.5)) for c in own]
    return role, palette, PATTERNS[role][pattern % len(PATTERNS[role])]


def _on_face(room: SynthRoom, of: np.ndarray, from_corner: np.ndarray, local: np.ndarray) -> list[np.ndarray]:
    """u, v, half_u, half_v and level of :class:`Spots`; ``local`` is (3, n); ``of`` tells the shell's three apart."""
    shell = of >= len(room.parts)
    halves = np.float32(np.concatenate([room.parts.half, np.tile(room.extent / 2, (3, 1))]))
    half = [halves[:, k].take(of) for k in range(3)]
    unit = [np.where(shell, 2 * column - 1, column) for column in local]
    x, y, z = (np.abs(column) for column in unit)
    across_x, level = (x >= y) & (x >= z), (z > x) & (z > y)
    at = [(column + from_corner) * h for column, h in zip(unit, half, strict=True)]
    u, half_u = np.where(across_x, at[1], at[0]), np.where(across_x, half[1], half[0])
    v, half_v = np.where(level, at[1], at[2]), np.where(level, half[1], half[2])
    shape = np.append(room.parts.shape, [BOX] * 3).take(of)
    bent = np.flatnonzero((shape != BOX) & ~((shape == CYLINDER) & (z > 1 - 1e-5)))
    if len(bent):  # around the part, from its side
        radius = 0.5 * (half[0][bent] + half[1][bent])
        u[bent], v[bent] = np.arctan2(unit[1][bent], unit[0][bent]) * radius, at[2][bent]
        half_u[bent], half_v[bent], level[bent] = np.float32(1e3), half[2][bent], False
    cap = (shape == CYLINDER) & level
    half_u[cap], half_v[cap] = np.float32(1e3), np.float32(1e3)
    return [u, v, half_u, half_v, level]


def _developed(color: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 of (3, n), as film does it: what is brighter than white fades into it."""
    shoulder = 200.0
    over = np.maximum(color - shoulder, 0)
    color = np.minimum(color, shoulder) + over * (55 / (55 + over)) + 0.5
    return np.ascontiguousarray(np.maximum(color, 0, out=color).astype(np.uint8).T)
