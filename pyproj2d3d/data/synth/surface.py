"""What would a scan of a synthetic room be? The surfaces that can be seen, as one labelled triangle mesh.

Every part and the shell is covered by rows of vertices. Faces that meet in an edge do not share its vertices: each
keeps its last row 2 mm inside its own side, and a strip joins the two rows, as if the edge were rounded. So every
vertex lies on the analytic surface and has the normal of its face, and yet a part is one connected mesh: superpoints,
which look at the normals along the mesh's edges, break at the sides of a box and can still join what is too small. Then
vertices without free space before them go: buried in another part, resting on it, on the floor or against a wall, or
outside. Parts are not joined with each other, nor with the floor they stand on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .paint import paint
from .parts import BOX, CEILING, CYLINDER, FLOOR, WALLS
from .trace import inside

if TYPE_CHECKING:
    from .room import Mesh, SynthRoom

_INSET = 0.002  # metres between the edge of a face and its last row of vertices, at most a quarter of the half extent
_PROBE = 0.001  # metres before a vertex that must be free
_SLACK = 0.0009  # metres around parts that count as not free; less than the probe, or flush faces would hide each other
_JITTER = 300  # thousandths of a step by which vertices within a face leave their row, at most: against moire


@dataclass(frozen=True, eq=False)
class Piece:
    """The mesh of one solid about the origin, all of it."""

    vertices: np.ndarray  # (n, 3) float64, metres, in the part's coordinates
    normals: np.ndarray  # (n, 3) unit, outward
    faces: np.ndarray  # (f, 3) int64, counter-clockwise from outside


def mesh_of(room: SynthRoom) -> Mesh:
    """The mesh of a room; ``options.spacing`` is the longest side of the squares that faces are cut into.

    Vertices come part by part, the shell first; no vertex is without a face and no face without an area.
    """
    from .room import Mesh

    parts, spacing = room.parts, room.options.spacing
    random = np.random.default_rng([room.seed, 11])
    shell = box_piece(room.extent / 2, spacing, random)
    vertices, normals = [shell.vertices + room.extent / 2], [-shell.normals]
    faces, local = [shell.faces[:, ::-1]], [vertices[0] / room.extent]
    part = [np.full(len(shell.vertices), len(parts))]
    first = len(shell.vertices)
    for p in range(len(parts)):
        kind, half, turn = parts.shape[p], parts.half[p], parts.world_from_part[p]
        if kind == BOX:
            piece = box_piece(half, spacing, random)
        else:
            piece = cylinder_piece(half, spacing) if kind == CYLINDER else ellipsoid_piece(half, spacing)
        vertices.append(_turned(turn, piece.vertices) + parts.center[p])
        normals.append(_turned(turn, piece.normals))
        faces.append(piece.faces + first)
        local.append(piece.vertices / half)
        part.append(np.full(len(piece.vertices), p))
        first += len(piece.vertices)
    xyz, normal, face, unit, of = map(np.concatenate, (vertices, normals, faces, local, part))
    free = _free(room, xyz, normal, of)
    face = face[free[face].all(axis=1)]
    kept = np.zeros(len(xyz), dtype=bool)
    kept[face] = True
    number = np.cumsum(kept) - 1
    xyz, normal, unit, of = xyz[kept], normal[kept], unit[kept], of[kept]
    of_shell = np.where(np.abs(normal[:, 2]) < 0.5, WALLS, np.where(normal[:, 2] > 0, FLOOR, CEILING))
    objects = np.where(of == len(parts), of_shell, np.append(parts.object, 0)[of])
    colors = paint(room, xyz, of, unit, normal, footprint=spacing)
    return Mesh(xyz, number[face], normal, colors, objects)


def box_piece(half: np.ndarray, spacing: float, random: np.random.Generator | None = None) -> Piece:
    """A box with half extents (3,): a grid on each face, strips along the edges, a triangle at each corner."""
    inset = min(_INSET, float(half.min()) / 4)
    inner = half - inset
    count = np.maximum(np.ceil(2 * inner / spacing - 1e-9).astype(np.int64), 1)
    ids: dict[tuple[int, int], np.ndarray] = {}  # per face (axis, side) the vertex numbers, rows along the next axis
    vertices, normals, faces, first = [], [], [], 0
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        for side in (-1, 1):
            shape = (count[b] + 1, count[c] + 1)
            ids[a, side] = np.arange(first, first + shape[0] * shape[1]).reshape(shape)
            first += ids[a, side].size
            place = np.empty((*shape, 3))
            place[..., a] = side * half[a]
            place[..., b], place[..., c] = np.meshgrid(*(_steps(inner[k], count[k]) for k in (b, c)), indexing="ij")
            if random is not None and min(shape) > 2:
                away = random.integers(-_JITTER, _JITTER + 1, (shape[0] - 2, shape[1] - 2, 2)) / 1000
                place[1:-1, 1:-1, b] += away[..., 0] * (2 * inner[b] / count[b])
                place[1:-1, 1:-1, c] += away[..., 1] * (2 * inner[c] / count[c])
            vertices.append(place.reshape(-1, 3))
            normals.append(np.broadcast_to(np.where(np.arange(3) == a, float(side), 0.0), vertices[-1].shape))
            faces.append(_triangles(ids[a, side], flipped=side < 0))
    for c in range(3):  # the edges along each axis
        a, b = (c + 1) % 3, (c + 2) % 3
        for i in (-1, 1):
            for j in (-1, 1):
                rows = np.stack([ids[a, i][_end(j)], ids[b, j][:, _end(i)]])
                faces.append(_triangles(rows, flipped=i * j < 0))
    for i in (-1, 1):
        for j in (-1, 1):
            for k in (-1, 1):
                x, y, z = _end(i), _end(j), _end(k)
                corner = [ids[0, i][y, z], ids[1, j][z, x], ids[2, k][x, y]]
                faces.append(np.array([corner if i * j * k > 0 else corner[::-1]]))
    return Piece(np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces))


def cylinder_piece(half: np.ndarray, spacing: float) -> Piece:
    """A cylinder along z: caps of squares bent into a disc, a side with a column for each vertex around them."""
    inset = min(_INSET, float(half.min()) / 4)
    around = 2 * max(half[0], half[1]) * 0.7854  # metres that one side of the square takes along the rim
    count = max(2, int(np.ceil(around / spacing - 1e-9)))
    levels = max(1, int(np.ceil(2 * (half[2] - inset) / spacing - 1e-9)))
    disc, rim = _disc(count)
    flat = disc * (half[:2] - inset)
    cap = np.arange(len(disc)).reshape(count + 1, count + 1)
    vertices, normals, faces = [], [], []
    for side in (-1, 1):
        vertices.append(np.column_stack([flat, np.full(len(flat), side * half[2])]))
        normals.append(np.broadcast_to([0.0, 0.0, float(side)], vertices[-1].shape))
        faces.append(_triangles(cap + len(disc) * (side > 0), flipped=side < 0))
    ring, height = disc[rim], _steps(half[2] - inset, levels)
    place = np.empty((levels + 1, len(rim), 3))
    place[..., :2], place[..., 2] = ring * half[:2], height[:, None]
    outward = np.column_stack([ring / half[:2], np.zeros(len(rim))])
    outward /= np.sqrt(outward[:, 0] * outward[:, 0] + outward[:, 1] * outward[:, 1])[:, None]
    vertices.append(place.reshape(-1, 3))
    normals.append(np.broadcast_to(outward, place.shape).reshape(-1, 3))
    wall = 2 * len(disc) + np.arange(place.shape[0] * place.shape[1]).reshape(place.shape[:2])
    rows = np.concatenate([rim[None], wall, rim[None] + len(disc)])
    faces.append(_triangles(np.concatenate([rows, rows[:, :1]], axis=1), flipped=True))
    return Piece(np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces))


def ellipsoid_piece(half: np.ndarray, spacing: float) -> Piece:
    """An ellipsoid: the faces of a cube, bent; it has no edges, so its vertices are shared."""
    count = max(2, int(np.ceil(2 * half.max() * 0.7854 / spacing - 1e-9)))
    unit, faces = _sphere(count)
    outward = unit / half
    x, y, z = outward.T
    return Piece(unit * half, outward / np.sqrt(x * x + y * y + z * z)[:, None], faces)


@lru_cache(maxsize=64)
def _disc(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A grid of (count + 1)^2 points (n, 2) on the unit disc, and which of them lie on its rim, counter-clockwise."""
    i, j = (k.reshape(-1) for k in np.meshgrid(*[np.arange(count + 1) * 2 - count] * 2, indexing="ij"))
    ring = np.maximum(np.abs(i), np.abs(j))  # of the square that the point is on
    bent = np.stack([_even(k / np.maximum(ring, 1)) for k in (i, j)], axis=1)
    length = np.sqrt(bent[:, 0] * bent[:, 0] + bent[:, 1] * bent[:, 1])
    disc = bent * (ring / count / np.maximum(length, 1e-9))[:, None]
    number = np.arange((count + 1) ** 2).reshape(count + 1, count + 1)
    rim = [number[:-1, 0], number[-1, :-1], number[:0:-1, -1], number[0, :0:-1]]
    return disc, np.concatenate(rim)


@lru_cache(maxsize=64)
def _sphere(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of the unit sphere and triangles: a cube with count squares along each edge, blown up."""
    row = np.arange(count + 1) * 2 - count
    b, c = (k.reshape(-1) for k in np.meshgrid(row, row, indexing="ij"))
    one = np.arange(len(b)).reshape(count + 1, count + 1)
    cube: list[np.ndarray] = []
    faces = []
    for a in range(3):
        for side in (-1, 1):
            place = np.empty((len(b), 3), dtype=np.int64)
            place[:, a], place[:, (a + 1) % 3], place[:, (a + 2) % 3] = side * count, b, c
            faces.append(_triangles(one + len(b) * len(cube), flipped=side < 0))
            cube.append(place)
    corners, same = np.unique(np.concatenate(cube), axis=0, return_inverse=True)
    x, y, z = (_even(corners[:, k] / count) for k in range(3))
    unit = np.stack([x, y, z], axis=1) / np.sqrt(x * x + y * y + z * z)[:, None]
    return unit, same.reshape(-1)[np.concatenate(faces)]


def _even(t: np.ndarray) -> np.ndarray:
    """Close to tan(pi t / 4): squares that are bent onto a circle come out alike; and the same bits everywhere."""
    return t * (0.7854 + 0.2146 * (t * t))


def _steps(inner: float, count: int) -> np.ndarray:
    """(count + 1,) from -inner to inner."""
    return (np.arange(count + 1) * 2 - count) * (inner / count)


def _end(side: int) -> int:
    """The first row or column on the lower side, the last one on the upper."""
    return -1 if side > 0 else 0


def _triangles(ids: np.ndarray, *, flipped: bool) -> np.ndarray:
    """(f, 3) of a grid of vertex numbers, two a square; counter-clockwise where rows x columns points outward."""
    a, b, c, d = ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]
    faces = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    return faces[:, ::-1] if flipped else faces


def _turned(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(n, 3) by one rotation (3, 3), element by element: the last bits do not depend on the machine."""
    x, y, z = vector[:, :1], vector[:, 1:2], vector[:, 2:]
    return (turn[:, 0] * x + turn[:, 1] * y) + turn[:, 2] * z


def _free(room: SynthRoom, xyz: np.ndarray, normals: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n,) is there free space before the vertices?"""
    before = xyz + _PROBE * normals
    within = ((before > 0) & (before < room.extent)).all(axis=1)
    return within & ~inside(room.parts, before, own, margin=-_SLACK)
