"""Which part does the ray through each pixel hit first, and where? Exact, and the same bits on every machine.

A half-space n.x <= 1 in a part's own coordinates is, for a ray o + z d and in terms of w = 1 / z, the bound
w >= n.d / (1 - n.o) where the camera is inside of it and w <= that where it is outside. These bounds are linear over
the image, so a box takes six sums and no division per pixel, and the nearest hit is the largest w. Rays have d_z = 1 in
the camera, so z is depth and not the length of the ray. Only + - * / and sqrt, element by element: no product of
matrices, whose last bits depend on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .parts import BOX, CEILING, CYLINDER, ELLIPSOID, FLOOR, WALLS, Parts

_NEAR = 1e-3  # metres before the camera, from where a corner's projection says where a part can be
_EDGES = np.array(
    [(i, i | k) for i in range(8) for k in (1, 2, 4) if not i & k]
)  # of a box, as its corners are numbered
_BLOCK = 2048  # points that are worked on at a time, so that they stay in cache
_TINY = 1e-12  # where the camera is in the plane of a face


@dataclass(frozen=True, eq=False)
class Hits:
    """The first hits of one view."""

    z: np.ndarray  # (H, W) float64, metres
    part: np.ndarray  # (H, W) int64; the number of parts where it is the shell


def trace(parts: Parts, extent: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> Hits:
    """First hits of the pixel centres of a camera in the room. A part that the camera is in is not seen from there.

    Args:
        extent: (3,) of the shell, which has a corner at the origin and is seen from inside.
        intrinsics: (3, 3) float64.
        pose: (4, 4) float64, world from camera; its 3x3 part need not be orthonormal.

    Raises:
        ValueError: the camera is not inside the shell.
    """
    height, width = size
    origin = pose[:3, 3]
    if not (np.all(origin > 0) and np.all(origin < extent)):
        raise ValueError(f"the camera must be inside the room of {extent.tolist()} m, got {origin.tolist()}")
    across = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    down = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    w = np.full(size, -np.inf)
    for axis in range(3):
        right, below, ahead = pose[axis, 0] * across, pose[axis, 1] * down, pose[axis, 2]
        for to_plane in (extent[axis] - origin[axis], -origin[axis]):
            np.maximum(w, (right / to_plane) + ((below + ahead) / to_plane)[:, None], out=w)
    part = np.full(size, len(parts), dtype=np.int64)
    if len(parts):
        _trace_parts(parts, intrinsics, pose, across, down, w, part)
    return Hits(1 / w, part)


def _trace_parts(
    parts: Parts,
    intrinsics: np.ndarray,
    pose: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    w: np.ndarray,
    part: np.ndarray,
) -> None:
    """Enters what is nearer into ``w`` and ``part``."""
    rectangles, nearest = _rectangles(parts, intrinsics, pose, w.shape)
    turn, half = parts.world_from_part, parts.half
    # The camera's centre and the rays' three terms in the coordinates of every part, (P, 3) each
    o = _turned_back(turn, pose[:3, 3] - parts.center) / half
    a, b, c = (_turned_back(turn, np.broadcast_to(pose[:3, k], half.shape)) / half for k in range(3))
    scratch = np.empty((4, w.size))
    order = np.argsort(-nearest, kind="stable")
    solve = {BOX: _box, CYLINDER: _cylinder, ELLIPSOID: _ellipsoid}
    for p in order.tolist():
        top, bottom, left, right = rectangles[p].tolist()
        if top >= bottom or left >= right:
            continue
        rows, columns = slice(top, bottom), slice(left, right)
        seen = w[rows, columns]
        if seen.min() >= nearest[p]:
            continue  # all that it could cover is covered
        work = [s[: seen.size].reshape(seen.shape) for s in scratch]
        hit = solve[int(parts.shape[p])](
            o[p].tolist(), _Rays(a[p].tolist(), b[p].tolist(), c[p].tolist(), across[columns], down[rows]), seen, work
        )
        if hit is not None:
            np.copyto(seen, work[0], where=hit)
            np.copyto(part[rows, columns], p, where=hit)


class _Rays:
    """Components of the directions of the rays of a rectangle in a part's coordinates: linear over the image."""

    def __init__(self, a: list[float], b: list[float], c: list[float], across: np.ndarray, down: np.ndarray):
        self.a, self.b, self.c, self.across, self.down = a, b, c, across, down

    def component(self, axis: int, factor: float, out: np.ndarray) -> np.ndarray:
        """factor d_axis."""
        row = self.across * (self.a[axis] * factor)
        column = self.down * (self.b[axis] * factor) + self.c[axis] * factor
        return np.add(row, column[:, None], out=out)

    def along(self, o: list[float], axes: tuple[int, ...], out: np.ndarray) -> np.ndarray:
        """The sum of o_axis d_axis over the axes."""
        a, b, c = (sum(o[k] * term[k] for k in axes) for term in (self.a, self.b, self.c))
        return np.add(self.across * a, (self.down * b + c)[:, None], out=out)


def _slabs(
    o: list[float], rays: _Rays, axes: tuple[int, ...], upper: np.ndarray, lower: np.ndarray, spare: np.ndarray
) -> int:
    """Narrows the bounds of w by the faces across some axes; returns how many of them the camera is outside of."""
    outside = 0
    for axis in axes:
        for side in (1.0, -1.0):
            to_plane = 1 - side * o[axis]
            if abs(to_plane) < _TINY:
                to_plane = _TINY
            bound = rays.component(axis, side / to_plane, spare)
            if to_plane > 0:
                np.maximum(lower, bound, out=lower)
            else:
                np.minimum(upper, bound, out=upper)
                outside += 1
    return outside


def _box(o: list[float], rays: _Rays, seen: np.ndarray, work: list[np.ndarray]) -> np.ndarray | None:
    upper, lower, spare, _ = work
    upper.fill(np.inf)
    lower[...] = seen  # a hit is to be nearer than what is there
    if not _slabs(o, rays, (0, 1, 2), upper, lower, spare):
        return None  # the camera is inside
    return upper > lower


def _ellipsoid(o: list[float], rays: _Rays, seen: np.ndarray, work: list[np.ndarray]) -> np.ndarray | None:
    nearest, squares, spare, other = work
    outside = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1
    if outside <= _TINY:
        return None
    _squared_length(rays, (0, 1, 2), squares, spare)
    towards = rays.along(o, (0, 1, 2), spare)
    root, met = _root(towards, squares, outside, other)
    np.subtract(root, towards, out=nearest)
    nearest /= outside
    met &= nearest > seen
    return met


def _cylinder(o: list[float], rays: _Rays, seen: np.ndarray, work: list[np.ndarray]) -> np.ndarray | None:
    upper, lower, spare, other = work
    outside = o[0] * o[0] + o[1] * o[1] - 1
    if abs(outside) < _TINY:
        outside = -_TINY
    caps = abs(o[2]) > 1
    if outside < 0 and not caps:
        return None  # the camera is inside
    _squared_length(rays, (0, 1), lower, spare)
    towards = rays.along(o, (0, 1), spare)
    root, met = _root(towards, lower, outside, other)
    if outside > 0:  # the ray is inside between the two roots
        np.subtract(root, towards, out=upper)
        upper /= outside
    else:  # from the larger one on
        upper.fill(np.inf)
    np.add(root, towards, out=lower)
    lower /= -outside
    _slabs(o, rays, (2,), upper, lower, spare)
    np.maximum(lower, seen, out=lower)
    met &= upper > lower
    return met


def _squared_length(rays: _Rays, axes: tuple[int, ...], out: np.ndarray, spare: np.ndarray) -> None:
    """The sum of d_axis^2 over the axes."""
    for i, axis in enumerate(axes):
        square = rays.component(axis, 1.0, spare if i else out)
        square *= square
        if i:
            out += square


def _root(towards: np.ndarray, squares: np.ndarray, outside: float, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sqrt(towards^2 - outside squares), the discriminant of outside w^2 + 2 towards w + squares = 0; is it real?"""
    np.multiply(towards, towards, out=root)
    squares *= outside
    root -= squares
    met = root >= 0
    np.maximum(root, 0, out=root)
    return np.sqrt(root, out=root), met


def _rectangles(
    parts: Parts, intrinsics: np.ndarray, pose: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(P, 4) int64 top, bottom, left, right of where each part can be in the image; (P,) bounds of w from above."""
    corners = corners_in_camera(parts, pose)
    before = corners[..., 2] > _NEAR  # (P, 8)
    crossing = before.any(axis=1) & ~before.all(axis=1)
    cut, is_cut = _cut_edges(corners[crossing])
    shown = np.concatenate([corners, np.zeros((len(parts), len(_EDGES), 3))], axis=1)  # (P, 8 + 12, 3)
    counts = np.concatenate([before, np.zeros((len(parts), len(_EDGES)), dtype=bool)], axis=1)
    shown[crossing, 8:], counts[crossing, 8:] = cut, is_cut
    z = np.where(counts, shown[..., 2], 1.0)
    u = intrinsics[0, 0] * (shown[..., 0] / z) + intrinsics[0, 2]
    v = intrinsics[1, 1] * (shown[..., 1] / z) + intrinsics[1, 2]
    sides = []
    for pixel, count in ((v, size[0]), (u, size[1])):
        low, high = np.where(counts, pixel, np.inf).min(axis=1), np.where(counts, pixel, -np.inf).max(axis=1)
        sides.append(np.clip(np.floor(np.clip(low, -1, count + 1)), 0, count).astype(np.int64))
        sides.append(np.clip(np.ceil(np.clip(high, -2, count)) + 1, 0, count).astype(np.int64))
    nearest = np.where(crossing, np.inf, 1 / np.where(counts, z, np.inf).min(axis=1) * (1 + 1e-9))
    return np.stack(sides, axis=1), nearest


def _cut_edges(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where edges of boxes (n, 8, 3) pass the near plane, (n, 12, 3), and whether they do, (n, 12)."""
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    passes = (a[..., 2] > _NEAR) != (b[..., 2] > _NEAR)
    step = np.where(passes, b[..., 2] - a[..., 2], 1.0)
    at = a + ((_NEAR - a[..., 2]) / step)[..., None] * (b - a)
    at[..., 2] = _NEAR
    return at, passes


def corners_in_camera(parts: Parts, pose: np.ndarray) -> np.ndarray:
    """(P, 8, 3) corners of the boxes around the parts along their own axes, in the camera's coordinates."""
    r = pose[:3, :3]  # its inverse by cofactors, as the pose may be any
    cofactor = [
        [
            r[(i + 1) % 3, (j + 1) % 3] * r[(i + 2) % 3, (j + 2) % 3]
            - r[(i + 1) % 3, (j + 2) % 3] * r[(i + 2) % 3, (j + 1) % 3]
            for i in range(3)
        ]
        for j in range(3)
    ]
    determinant = r[0, 0] * cofactor[0][0] + r[1, 0] * cofactor[0][1] + r[2, 0] * cofactor[0][2]
    world = parts.corners() - pose[:3, 3]
    rows = [
        (row[0] * world[..., 0] + row[1] * world[..., 1] + row[2] * world[..., 2]) / determinant for row in cofactor
    ]
    return np.stack(rows, axis=-1)


def _turned_back(turn: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(n, 3): world vectors in the coordinates of parts, whose rotations ``turn`` (n, 3, 3) are."""
    return turn[:, 0] * vector[:, 0, None] + turn[:, 1] * vector[:, 1, None] + turn[:, 2] * vector[:, 2, None]


def surface(
    parts: Parts, extent: np.ndarray, points: np.ndarray, part: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What there is to know about points (n, 3) on the surfaces of parts (n,), the shell being part P.

    Returns:
        local: (n, 3) coordinates in the unit solid of the part; on the shell points / extent.
        normals: (n, 3) unit, into free space; of the nearest face of a box, of the side or the cap of a cylinder.
        object: (n,) int64; of the shell the floor, the walls or the ceiling.
    """
    # Coordinates first, so that every operation below runs over contiguous memory
    local, normals = np.empty(points.T.shape), np.zeros(points.T.shape)
    object = np.empty(len(points), dtype=np.int64)
    xyz = np.ascontiguousarray(points.T)
    on_shell = np.flatnonzero(part == len(parts))
    at = np.take(xyz, on_shell, axis=1)
    local[:, on_shell] = at / extent[:, None]
    axis = _largest(*np.maximum(-at, at - extent[:, None]))
    upper = _chosen(axis, *at) > (extent / 2)[axis]
    normals[axis, on_shell] = np.where(upper, -1.0, 1.0)
    object[on_shell] = np.where(axis < 2, WALLS, np.where(upper, CEILING, FLOOR))
    per_part = (parts.world_from_part.reshape(-1, 9), parts.half, parts.center)
    turns, halves, centers = (np.ascontiguousarray(a.T) for a in per_part)
    shape = np.append(parts.shape, -1)[part]
    for kind, normals_of in ((BOX, _box_normals), (CYLINDER, _cylinder_normals), (ELLIPSOID, _ellipsoid_normals)):
        of_kind = np.flatnonzero(shape == kind)
        for begin in range(0, len(of_kind), _BLOCK):
            rows = of_kind[begin : begin + _BLOCK]
            of = part[rows]
            turn, half = np.take(turns, of, axis=1).reshape(3, 3, -1), np.take(halves, of, axis=1)
            x, y, z = np.take(xyz, rows, axis=1) - np.take(centers, of, axis=1)
            unit = (turn[0] * x + turn[1] * y + turn[2] * z) / half
            for out, values in ((local, unit), (normals, normals_of(turn, half, unit))):
                for k in range(3):
                    out[k][rows] = values[k]
            object[rows] = parts.object[of]
    return local.T, normals.T, object


def _largest(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Which of three is largest, element by element; the first of equals."""
    return np.where(x >= y, np.where(x >= z, 0, 2), np.where(y >= z, 1, 2))


def _chosen(axis: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.where(axis == 0, x, np.where(axis == 1, y, z))


# Normals (3, n) in the world, by the rotations (3, 3, n) and the half sizes (3, n) of the parts, and where on the unit
# solid a point is, (3, n)


def _box_normals(turn: np.ndarray, half: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Of the face across which a point is farthest out."""
    axis = _largest(*(np.abs(unit) - 1) * half)
    sign = np.where(_chosen(axis, *unit) > 0, 1.0, -1.0)
    return np.stack([_chosen(axis, *row) * sign for row in turn])


def _cylinder_normals(turn: np.ndarray, half: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Of the side or of the cap, whichever a point is farther out of."""
    x, y, z = unit
    side = (np.sqrt(x * x + y * y) - 1) * np.minimum(half[0], half[1]) > (np.abs(z) - 1) * half[2]
    steep = np.where(side, 0.0, np.where(z > 0, 1.0, -1.0))
    return _turned_unit(turn, np.where(side, x / half[0], 0.0), np.where(side, y / half[1], 0.0), steep)


def _ellipsoid_normals(turn: np.ndarray, half: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return _turned_unit(turn, *unit / half)


def _turned_unit(turn: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Unit vectors in the world along (x, y, z) in the coordinates of parts."""
    length = np.maximum(np.sqrt(x * x + y * y + z * z), 1e-300)
    return turn[:, 0] * (x / length) + turn[:, 1] * (y / length) + turn[:, 2] * (z / length)


def inside(parts: Parts, points: np.ndarray, own: np.ndarray | None = None, *, margin: float = 0.0) -> np.ndarray:
    """(n,) bool: is a point in a part, more than ``margin`` metres below its faces (negative: or that near outside)?

    ``own`` (n,) is a part that does not count for each point: the one whose surface it is on.
    """
    found = np.zeros(len(points), dtype=bool)
    if not len(points):
        return found
    corners = parts.corners()
    low, high = corners.min(axis=1) + margin, corners.max(axis=1) - margin
    order = np.argsort(points[:, 0], kind="stable")
    begin, end = (np.searchsorted(points[order, 0], x) for x in (low[:, 0], high[:, 0]))
    for p in range(len(parts)):
        near = order[begin[p] : end[p]]
        at = points[near]
        near = near[((at[:, 1:] > low[p, 1:]) & (at[:, 1:] < high[p, 1:])).all(axis=1) & ~found[near]]
        if own is not None:
            near = near[own[near] != p]
        if len(near):
            one = np.full(len(near), p)
            unit = np.abs(_turned_back(parts.world_from_part[one], points[near] - parts.center[p]))
            half = np.maximum(parts.half[p] - margin, 1e-300)
            x, y, z = (unit / half).T
            if parts.shape[p] == BOX:
                found[near] = (x < 1) & (y < 1) & (z < 1)
            elif parts.shape[p] == CYLINDER:
                found[near] = (x * x + y * y < 1) & (z < 1)
            else:
                found[near] = x * x + y * y + z * z < 1
    return found
