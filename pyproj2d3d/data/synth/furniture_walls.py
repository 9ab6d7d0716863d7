"""What hangs on the walls or is let into them? Doors, windows, curtains, pictures.

Walls have no holes: a door or a window is a frame that stands a few centimetres out of the wall.
"""

from __future__ import annotations

from .furniture import Maker, Range
from .furniture_bath import folds


def _frame(m: Maker, x: Range, y: Range, z: Range, wide: float, slot: str, *, sill: bool = True) -> None:
    """Four bars around an opening (three of a door), within the ranges."""
    for side in ((y[0], y[0] + wide), (y[1] - wide, y[1])):
        m.box(x, side, z, slot)
    m.box(x, (y[0] + wide, y[1] - wide), (z[1] - wide, z[1]), slot)
    if sill:
        m.box(x, (y[0] + wide, y[1] - wide), (z[0], z[0] + wide), slot)


def door(m: Maker) -> None:
    m.thing("door")
    d, w, top, hinge = m.draw, m.draw.metres(780, 950) / 2, m.draw.metres(1980, 2080), m.draw.one_of((-1, 1))
    _frame(m, (0, 0.06), (-w - 0.07, w + 0.07), (0, top + 0.07), 0.07, "second", sill=False)
    m.box((0, 0.03), (-w, w), (0.006, top))
    for z0, z1 in ((0.15, 0.85), (1.1, top - 0.15)) if d.chance(50) else ():
        for y0, y1 in ((-w + 0.12, -0.06), (0.06, w - 0.12)):
            m.box((0.03, 0.038), (y0, y1), (z0, z1))
    y = hinge * (w - 0.07)
    m.box((0.03, 0.036), (y - 0.025, y + 0.025), (0.92, 1.1), "detail")
    m.cylinder((0.036, 0.08), (y - 0.01, y + 0.01), (1.0, 1.02), "detail", axis=0)
    y0, y1 = sorted((y + 0.01 * hinge, y - 0.12 * hinge))
    m.cylinder((0.07, 0.09), (y0, y1), (1.0, 1.02), "detail", axis=1)
    m.piece.front = 0.9


def window(m: Maker) -> None:
    m.thing("window")
    d, w = m.draw, m.draw.metres(700, 1700) / 2
    low, high = d.metres(850, 1000), d.metres(1950, 2150)
    _frame(m, (0, 0.05), (-w, w), (low, high), 0.055, "second")
    m.box((0, 0.012), (-w + 0.055, w - 0.055), (low + 0.055, high - 0.055))
    panes = 1 if w < 0.4 else d.integer(2, 3)
    for k in range(1, panes):
        y = -w + 2 * w * k / panes
        m.box((0.012, 0.045), (y - 0.02, y + 0.02), (low + 0.055, high - 0.055), "second")
    if d.chance(40):
        z = (low + high) / 2 + d.metres(0, 200)
        m.box((0.012, 0.04), (-w + 0.055, w - 0.055), (z, z + 0.03), "second")
    m.box((0, 0.14), (-w - 0.04, w + 0.04), (low - 0.03, low), "second")  # the board below
    m.piece.front = 0.05


def curtains(m: Maker, w: float, low: float, high: float) -> None:
    """Beside a window whose half width is ``w``: one curtain or two, each an object, on a rail above it."""
    d = m.draw
    wide, x, reach = d.metres(250, 450), 0.17, 0.03
    z0 = 0.03 if d.chance(60) else low - 0.15
    overlap = d.metres(0, 120)
    sides = (-1, 1) if d.chance(65) else (d.one_of((-1, 1)),)
    for side in sides:
        m.thing("curtain", alike=True)
        y0, y1 = sorted((side * (w - overlap), side * (w - overlap + wide)))
        folds(m, x, (y0, y1), (z0, high + 0.08), reach)
        outer = side * (w - overlap + wide + 0.05)
        inner = side * 0.002 if len(sides) == 2 else -side * (w + 0.1)
        ends = tuple(sorted((inner, outer)))
        m.cylinder((x - 0.012, x + 0.012), ends, (high + 0.075, high + 0.1), "second", axis=1)  # type: ignore[arg-type]
        for y in (outer - 0.03 * side, inner + 0.03 * side) if len(sides) == 1 else (outer - 0.03 * side,):
            m.cylinder((0, x), (y - 0.01, y + 0.01), (high + 0.075, high + 0.095), "second", axis=0)


def blinds(m: Maker, w: float, high: float) -> None:
    """Before the upper part of a window."""
    m.thing("blinds")
    drop = m.draw.metres(250, 800)
    m.box((0.055, 0.10), (-w + 0.02, w - 0.02), (high - 0.02, high + 0.04))
    m.box((0.07, 0.085), (-w + 0.03, w - 0.03), (high - drop, high - 0.02))


def picture(m: Maker) -> None:
    m.thing("picture")
    d, w, h, middle = m.draw, m.draw.metres(250, 1000) / 2, m.draw.metres(250, 750) / 2, m.draw.metres(1450, 1620)
    m.box((0, 0.012), (-w + 0.02, w - 0.02), (middle - h + 0.02, middle + h - 0.02))
    if d.chance(85):
        _frame(m, (0, 0.028), (-w, w), (middle - h, middle + h), d.metres(20, 45), "second")


def mirror(m: Maker) -> None:
    m.thing("mirror")
    w, low, high = m.draw.metres(350, 700) / 2, m.draw.metres(500, 1100), m.draw.metres(1700, 1900)
    m.box((0, 0.012), (-w + 0.02, w - 0.02), (low + 0.02, high - 0.02))
    _frame(m, (0, 0.025), (-w, w), (low, high), 0.03, "second")


def whiteboard(m: Maker) -> None:
    m.thing("whiteboard")
    w, low = m.draw.metres(1000, 2000) / 2, m.draw.metres(900, 1000)
    m.box((0, 0.015), (-w + 0.02, w - 0.02), (low + 0.02, low + 0.98))
    _frame(m, (0, 0.022), (-w, w), (low, low + 1.0), 0.025, "second")
    m.box((0.022, 0.08), (-w * 0.5, w * 0.5), (low, low + 0.012), "second")


def hanging_tv(m: Maker) -> None:
    m.thing("tv")
    w, middle = m.draw.metres(800, 1250) / 2, m.draw.metres(1250, 1450)
    h = 0.57 * w
    m.box((0, 0.04), (-0.15, 0.15), (middle - 0.1, middle + 0.1), "second")
    m.box((0.04, 0.08), (-w, w), (middle - h, middle + h), "second")
    m.box((0.08, 0.084), (-w + 0.012, w - 0.012), (middle - h + 0.012, middle + h - 0.012))


def radiator(m: Maker) -> None:
    """Under a window: ribs before a body, on feet."""
    m.thing("radiator")
    w, top = m.draw.metres(500, 1100) / 2, m.draw.metres(550, 720)
    m.box((0.03, 0.07), (-w, w), (0.1, top))
    ribs = round(2 * w / 0.09)
    for k in range(ribs):
        y = -w + 2 * w * (k + 0.5) / ribs
        m.box((0.07, 0.1), (y - 0.025, y + 0.025), (0.12, top - 0.02))
    for y in (-w + 0.08, w - 0.1):
        m.box((0.035, 0.065), (y, y + 0.02), (0, 0.1))


def towel(m: Maker) -> None:
    """Over a rail."""
    m.thing("towel")
    d, w, z = m.draw, m.draw.metres(280, 450) / 2, m.draw.metres(1200, 1500)
    m.cylinder((0.065, 0.085), (-w - 0.08, w + 0.08), (z - 0.01, z + 0.01), "detail", axis=1)
    for y in (-w - 0.06, w + 0.06):
        m.cylinder((0, 0.075), (y - 0.008, y + 0.008), (z - 0.008, z + 0.008), "detail", axis=0)
    drop = d.metres(350, 600)
    m.box((0.085, 0.098), (-w, w), (z - drop, z + 0.012))
    m.box((0.052, 0.065), (-w, w), (z - drop + 0.06, z + 0.012))
    m.box((0.052, 0.098), (-w, w), (z + 0.012, z + 0.022))
