"""How is a piece of furniture put together? Parts in its own coordinates, and what they are made of.

A piece has its back at x = 0 and its front towards +x, y to its left, z up from the floor; metres. It is one object or
several: a bed brings its pillows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from .furniture_finish import POOL, finish
from .materials import material
from .parts import BOX, CYLINDER, ELLIPSOID

Range = tuple[float, float]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]  # rows
T = TypeVar("T")

UPRIGHT: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_ALONG: dict[int, Matrix] = {  # what takes a cylinder's own axis, z, to x or to y
    0: ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    1: ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
}


class Draw:
    """Integer draws, and what is made of them."""

    def __init__(self, *seed: int):
        self._random = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both among them."""
        return int(self._random.integers(low, high + 1))

    def metres(self, low: int, high: int) -> float:
        """From low to high millimetres."""
        return self.integer(low, high) / 1000

    def chance(self, percent: int) -> bool:
        return self.integer(0, 99) < percent

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.integer(0, len(choices) - 1)]

    def weighted(self, weights: Sequence[int]) -> int:
        """An index, as often as its weight says."""
        left = self.integer(0, sum(weights) - 1)
        for i, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return i
        raise ValueError(f"weights must be positive integers, got {weights}")


class Solid(NamedTuple):
    """A part, in the coordinates of its piece."""

    shape: int
    center: tuple[float, float, float]
    half: tuple[float, float, float]
    turn: Matrix
    material: int


@dataclass
class Thing:
    """What will be one object."""

    category: str  # a raw category of ScanNet
    solids: list[Solid] = field(default_factory=list)


class Spot(NamedTuple):
    """Where a chair may stand at a table: the middle of the table's edge, and the way the chair faces."""

    x: float
    y: float
    milliradians: int


@dataclass
class Piece:
    """Furniture that is placed as a whole; the first of its things gives it its name."""

    things: list[Thing]
    spots: list[Spot] = field(default_factory=list)
    tops: list[tuple[Range, Range, float]] = field(default_factory=list)  # x, y and height: room for small things
    front: float = 0.0  # metres that are to stay free before it

    @cached_property
    def boxes(self) -> list[tuple[list[float], list[float]]]:
        """The bounds of each thing; asked for when the piece is complete."""
        return [bounds_of(thing.solids) for thing in self.things]

    def bounds(self) -> tuple[list[float], list[float]]:
        """The lowest and the highest coordinates of its parts."""
        lows, highs = zip(*self.boxes, strict=True)
        return [min(x) for x in zip(*lows, strict=True)], [max(x) for x in zip(*highs, strict=True)]


def bounds_of(solids: Sequence[Solid]) -> tuple[list[float], list[float]]:
    """The lowest and the highest coordinates of parts."""
    low, high = [math.inf] * 3, [-math.inf] * 3
    for solid in solids:
        reach = reach_of(solid.shape, solid.half, solid.turn)
        low = [min(a, c - r) for a, c, r in zip(low, solid.center, reach, strict=True)]
        high = [max(a, c + r) for a, c, r in zip(high, solid.center, reach, strict=True)]
    return low, high


def reach_of(shape: int, half: Sequence[float], turn: Sequence[Sequence[float]]) -> list[float]:
    """How far a part reaches from its centre along the three axes that ``turn`` leads to, exactly."""
    reach = []
    for row in turn:
        x, y, z = (abs(r * h) for r, h in zip(row, half, strict=True))
        if shape == BOX:
            reach.append(x + y + z)
        elif shape == CYLINDER:
            reach.append(math.sqrt(x * x + y * y) + z)
        else:
            reach.append(math.sqrt(x * x + y * y + z * z))
    return reach


def product(a: Matrix, b: Matrix) -> Matrix:
    """The matrix product, one term after the other."""
    rows = [[(a[i][0] * b[0][j] + a[i][1] * b[1][j]) + a[i][2] * b[2][j] for j in range(3)] for i in range(3)]
    return tuple(tuple(row) for row in rows)  # type: ignore[return-value]


def cosine_sine(milliradians: int, quarters: int = 0) -> tuple[float, float]:
    """Of an angle plus quarter turns, rounded: the last bits of a sine depend on the machine."""
    angle = milliradians / 1000 + quarters * (math.pi / 2)
    return round(math.cos(angle), 9) + 0.0, round(math.sin(angle), 9) + 0.0  # + 0.0: no negative zero


def about_z(milliradians: int, quarters: int = 0) -> Matrix:
    c, s = cosine_sine(milliradians, quarters)
    return ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))


def about_y(milliradians: int) -> Matrix:
    """Leaning back: what is high goes towards -x."""
    c, s = cosine_sine(milliradians)
    return ((c, 0.0, -s), (0.0, 1.0, 0.0), (s, 0.0, c))


class Maker:
    """Makes a piece, part by part. A part is given by the ranges of x, y and z that it fills before it is turned.

    ``cues`` is that of :class:`RoomOptions`; ``dressed_as`` makes every thing look like one of another category.
    """

    def __init__(self, draw: Draw, cues: str = "both", dressed_as: str | None = None):
        self.draw, self.cues, self.dressed_as = draw, cues, dressed_as
        self.piece = Piece([])
        self._materials: dict[str, dict[str, int]] = {}  # of categories, by slot

    def thing(self, category: str, *, alike: bool = False) -> None:
        """What follows belongs to a new object; ``alike``: of the materials of the last one of its category."""
        self.piece.things.append(Thing(category))
        if not alike:
            self._materials.pop(category, None)

    def material(self, slot: str) -> int:
        """That of the parts of this thing with this role in it; drawn once for each thing."""
        category = self.piece.things[-1].category
        materials = self._materials.setdefault(category, {})
        if slot not in materials:
            category = self.dressed_as or category
            choices = POOL if self.cues == "geometry" else finish(category, slot)
            role, patterns, colors = self.draw.one_of(choices)
            pattern, color = self.draw.one_of(patterns), self.draw.one_of(colors)
            materials[slot] = material(role, pattern, color, self.draw.integer(0, 9))
        return materials[slot]

    def box(self, x: Range, y: Range, z: Range, slot: str = "main", *, lean: int = 0, turn: int = 0) -> None:
        """``lean`` and ``turn`` in milliradians: backwards, and then about z; about the part's centre."""
        self._add(BOX, x, y, z, slot, product(about_z(turn), about_y(lean)))

    def ball(self, x: Range, y: Range, z: Range, slot: str = "main", *, lean: int = 0, turn: int = 0) -> None:
        self._add(ELLIPSOID, x, y, z, slot, product(about_z(turn), about_y(lean)))

    def cylinder(self, x: Range, y: Range, z: Range, slot: str = "main", *, axis: int = 2, lean: int = 0) -> None:
        if axis == 2:
            self._add(CYLINDER, x, y, z, slot, about_y(lean))
        else:
            along = (y, z, x) if axis == 0 else (z, x, y)
            self._add(CYLINDER, x, y, z, slot, product(about_y(lean), _ALONG[axis]), along)

    def legs(self, x: Range, y: Range, z: Range, radius: float, slot: str = "second", *, round: bool = True) -> None:
        """Four of them, within the ranges."""
        for cx in (x[0] + radius, x[1] - radius):
            for cy in (y[0] + radius, y[1] - radius):
                make = self.cylinder if round else self.box
                make((cx - radius, cx + radius), (cy - radius, cy + radius), z, slot)

    def _add(self, shape: int, x: Range, y: Range, z: Range, slot: str, turn: Matrix, own=None) -> None:  # type: ignore[no-untyped-def]
        center = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (z[0] + z[1]) / 2)
        half = tuple((b - a) / 2 for a, b in own or (x, y, z))
        self.piece.things[-1].solids.append(Solid(shape, center, half, turn, self.material(slot)))  # type: ignore[arg-type]
