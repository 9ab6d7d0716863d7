"""Does a piece of furniture fit where one wants to put it? Poses on the floor, and what stands in the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .furniture import Matrix, Piece, Range, Solid, about_z, cosine_sine, product, reach_of
from .parts import Parts

_TOUCH = 0.001  # metres by which volumes may overlap and count as touching


class Pose(NamedTuple):
    """Where the origin of a piece stands, and its heading: milliradians and quarter turns from x, ccw."""

    x: float
    y: float
    milliradians: int = 0
    quarters: int = 0
    z: float = 0.0

    def point(self, x: float, y: float) -> tuple[float, float]:
        """The place in the room of one in the piece's coordinates."""
        c, s = cosine_sine(self.milliradians, self.quarters)
        return self.x + (c * x - s * y), self.y + (s * x + c * y)

    def heading(self) -> float:
        """Radians within -pi and pi."""
        angle = self.milliradians / 1000 + self.quarters * (math.pi / 2)
        while angle > math.pi:
            angle -= 2 * math.pi
        while angle < -math.pi:
            angle += 2 * math.pi
        return angle


class Volume(NamedTuple):
    """An upright box in the room."""

    x: float  # of its centre
    y: float
    c: float  # cosine and sine of its heading
    s: float
    half_x: float
    half_y: float
    z: Range

    def grown(self, by: float) -> Volume:
        return self._replace(half_x=self.half_x + by, half_y=self.half_y + by)

    def within(self, length: float, width: float, height: float) -> bool:
        """Is it in a room of this size?"""
        reach_x = abs(self.c) * self.half_x + abs(self.s) * self.half_y
        reach_y = abs(self.s) * self.half_x + abs(self.c) * self.half_y
        low, high_x, high_y = -1e-6, length + 1e-6, width + 1e-6
        flat = low <= self.x - reach_x and self.x + reach_x <= high_x
        return flat and low <= self.y - reach_y and self.y + reach_y <= high_y and self.z[1] <= height

    def meets(self, other: Volume) -> bool:
        """Do the two overlap by more than a touch?"""
        if self.z[0] >= other.z[1] - _TOUCH or other.z[0] >= self.z[1] - _TOUCH:
            return False
        dx, dy = other.x - self.x, other.y - self.y
        turn_c, turn_s = abs(self.c * other.c + self.s * other.s), abs(self.c * other.s - self.s * other.c)
        for a, b in ((self, other), (other, self)):
            if abs(dx * a.c + dy * a.s) >= a.half_x + b.half_x * turn_c + b.half_y * turn_s - _TOUCH:
                return False
            if abs(dy * a.c - dx * a.s) >= a.half_y + b.half_x * turn_s + b.half_y * turn_c - _TOUCH:
                return False
        return True


@dataclass
class Placed:
    """A piece where it stands."""

    kind: str
    piece: Piece
    pose: Pose
    volumes: list[Volume]
    low: list[float]
    high: list[float]
    wall: int | None = None  # the wall at its back
    taken: set[int] = field(default_factory=set)  # of its spots for chairs


def volume_of(low: list[float], high: list[float], pose: Pose) -> Volume:
    """Of a box in the coordinates of a piece."""
    c, s = cosine_sine(pose.milliradians, pose.quarters)
    x, y = pose.point((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
    return Volume(x, y, c, s, (high[0] - low[0]) / 2, (high[1] - low[1]) / 2, (pose.z + low[2], pose.z + high[2]))


def in_room(solid: Solid, pose: Pose) -> Solid:
    """The part of a piece where it stands."""
    x, y = pose.point(solid.center[0], solid.center[1])
    turn = product(about_z(pose.milliradians, pose.quarters), solid.turn)
    return solid._replace(center=(x, y, pose.z + solid.center[2]), turn=turn)


def solids_of(piece: Piece, pose: Pose) -> list[Solid]:
    return [in_room(solid, pose) for thing in piece.things for solid in thing.solids]


def as_parts(solids: Sequence[Solid], owner: Sequence[int]) -> Parts:
    """Parts that stand in the room, each with its object."""
    return Parts(
        np.array([s.shape for s in solids], dtype=np.int64),
        np.array([s.center for s in solids], dtype=np.float64).reshape(-1, 3),
        np.array([s.half for s in solids], dtype=np.float64).reshape(-1, 3),
        np.array([s.turn for s in solids], dtype=np.float64).reshape(-1, 3, 3),
        np.array(owner, dtype=np.int64),
        np.array([s.material for s in solids], dtype=np.int64),
    )


def solids_meet(a: Solid, b: Solid, by: float = _TOUCH) -> bool:
    """Do the boxes around two parts overlap by more than ``by`` metres? By the theorem of separating axes."""
    between = [p - q for p, q in zip(a.center, b.center, strict=True)]
    reaches = zip(reach_of(0, a.half, a.turn), reach_of(0, b.half, b.turn), between, strict=True)
    if any(abs(d) >= r + s - by for r, s, d in reaches):
        return False
    axes_a, axes_b = _columns(a.turn), _columns(b.turn)
    edges = []
    for u in axes_a:
        for v in axes_b:
            across = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
            length = math.sqrt(_dot(across, across))
            if length > 1e-6:
                edges.append(tuple(x / length for x in across))
    for axis in (*axes_a, *axes_b, *edges):
        reach = sum(abs(_dot(axis, u)) * h for u, h in zip(axes_a, a.half, strict=True))
        reach += sum(abs(_dot(axis, v)) * h for v, h in zip(axes_b, b.half, strict=True))
        if abs(_dot(axis, between)) >= reach - by:
            return False
    return True


def _columns(m: Matrix) -> tuple[tuple[float, ...], ...]:
    return tuple(zip(*m, strict=True))


def _dot(a, b) -> float:  # type: ignore[no-untyped-def]
    return (a[0] * b[0] + a[1] * b[1]) + a[2] * b[2]


class Floor:
    """What stands in a room, and where something may be added."""

    def __init__(self, length: float, width: float, height: float):
        self.size = (length, width, height)
        self.placed: list[Placed] = []
        self.blocks: list[Volume] = []  # of the walls
        self.doorways: list[Volume] = []  # to be kept free
        self.fronts: list[Volume] = []  # to be kept free of what cannot be moved

    def fits(
        self, piece: Piece, pose: Pose, *, movable: bool = False, clear: float = 0.0, nest: Placed | None = None
    ) -> bool:
        """May the piece stand so?

        ``movable``: it may stand before other furniture, though not in a doorway. ``clear``: metres around it that are
        free of others. ``nest``: what it may reach into, as a chair does under a table, as long as no parts meet.
        """
        volumes = self.volumes(piece, pose)
        if not all(v.within(*self.size) for v in volumes):
            return False
        zones = self.doorways if movable else self.doorways + self.fronts
        if any(v.meets(zone) for v in volumes for zone in zones):
            return False
        wide = [v.grown(clear) for v in volumes] if clear else volumes
        if any(v.meets(block) for v in wide for block in self.blocks):
            return False
        for other in self.placed:
            if any(v.meets(volume) for v in wide for volume in other.volumes):
                if other is not nest:
                    return False
                theirs = solids_of(other.piece, other.pose)
                if any(solids_meet(a, b) for a in solids_of(piece, pose) for b in theirs):
                    return False
        front = self._front(piece, pose)
        return movable or front is None or not any(front.meets(v) for p in self.placed for v in p.volumes)

    def put(self, kind: str, piece: Piece, pose: Pose, *, wall: int | None = None) -> Placed:
        low, high = piece.bounds()
        volumes = self.volumes(piece, pose)
        self.placed.append(Placed(kind, piece, pose, volumes, low, high, wall))
        front = self._front(piece, pose)
        if front is not None:
            (self.doorways if kind == "door" else self.fronts).append(front)
        return self.placed[-1]

    @staticmethod
    def volumes(piece: Piece, pose: Pose) -> list[Volume]:
        """One for each of its things."""
        return [volume_of(*box, pose) for box in piece.boxes]

    def _front(self, piece: Piece, pose: Pose) -> Volume | None:
        if not piece.front:
            return None
        low, high = piece.bounds()
        return volume_of([high[0], low[1] + 0.01, 0.05], [high[0] + piece.front, high[1] - 0.01, 1.9], pose)

    def at_wall(self, piece: Piece, wall: int, along: float, gap: float = 0.0) -> Pose:
        """The pose of a piece with its back ``gap`` metres off a wall and its middle ``along`` metres along it.

        Wall 0 is at x = 0 and the others follow counterclockwise seen from above: y = 0, then the far x, the far y.
        """
        low, high = piece.bounds()
        out, shift = gap - low[0], (low[1] + high[1]) / 2
        length, width, _ = self.size
        x, y = ((out, along), (along, out), (length - out, along), (along, width - out))[wall]
        if wall % 2 == 0:
            return Pose(x, y + (shift if wall == 2 else -shift), 0, wall)
        return Pose(x + (shift if wall == 1 else -shift), y, 0, wall)

    def wall_length(self, wall: int) -> float:
        return self.size[1] if wall % 2 == 0 else self.size[0]
