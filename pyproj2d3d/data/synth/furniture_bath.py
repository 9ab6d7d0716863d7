"""What has water in it? Toilet, bathtub, sinks, and the kitchen counter."""

from __future__ import annotations

from .furniture import Maker, Range
from .furniture_storage import _doors
from .furniture_tables import drawers


def toilet(m: Maker) -> None:
    m.thing("toilet")
    d, seat, w = m.draw, m.draw.metres(400, 440), m.draw.metres(340, 390) / 2
    m.box((0.0, 0.19), (-w - 0.02, w + 0.02), (seat - 0.02, seat + 0.36))  # the cistern
    m.box((-0.0, 0.20), (-w - 0.03, w + 0.03), (seat + 0.36, seat + 0.39))
    m.cylinder((0.085, 0.115), (-0.02, 0.02), (seat + 0.39, seat + 0.4), "detail")
    m.box((0.02, 0.30), (-0.1, 0.1), (0.0, seat - 0.02), "second")
    m.cylinder((0.18, 0.58), (-0.11, 0.11), (0, 0.20), "second")
    m.ball((0.16, 0.68), (-w + 0.01, w - 0.01), (0.10, 2 * seat - 0.16), "second")
    m.cylinder((0.19, 0.70), (-w, w), (seat - 0.01, seat + 0.02))
    if d.chance(60):
        m.cylinder((0.20, 0.695), (-w + 0.006, w - 0.006), (seat + 0.02, seat + 0.035))
    else:  # the lid is up
        m.box((0.20, 0.222), (-w + 0.01, w - 0.01), (seat + 0.03, seat + 0.42), lean=90)
    m.piece.front = 0.5


def _basin(m: Maker, x: Range, y: Range, z: Range, wall: float, slot: str = "main") -> None:
    """A box without a lid, within the ranges."""
    m.box(x, y, (z[0], z[0] + wall), slot)
    for end in ((x[0], x[0] + wall), (x[1] - wall, x[1])):
        m.box(end, y, (z[0] + wall, z[1]), slot)
    for end in ((y[0], y[0] + wall), (y[1] - wall, y[1])):
        m.box((x[0] + wall, x[1] - wall), end, (z[0] + wall, z[1]), slot)


def _tap(m: Maker, x: float, y: float, z: float, reach: float) -> None:
    """Upright behind a basin, its spout above it."""
    m.cylinder((x - 0.015, x + 0.015), (y - 0.015, y + 0.015), (z, z + 0.2), "detail")
    m.cylinder((x, x + reach), (y - 0.01, y + 0.01), (z + 0.18, z + 0.2), "detail", axis=0)


def bathtub(m: Maker) -> None:
    """Along the wall, with or without a shower curtain on a rail above its open side."""
    m.thing("bathtub")
    d, depth, w, top = m.draw, m.draw.metres(680, 780), m.draw.metres(1450, 1700) / 2, m.draw.metres(500, 580)
    _basin(m, (0, depth), (-w, w), (0.02, top), 0.07)
    m.box((0.01, depth - 0.01), (-w + 0.01, w - 0.01), (0, 0.02), "second")
    m.box((depth - 0.07, depth + 0.012), (-w, w), (top, top + 0.03), "second")  # the rim
    end = d.one_of((-1, 1))
    y0, y1 = sorted((end * (w - 0.05), end * (w - 0.16)))
    m.box((depth / 2 - 0.03, depth / 2 + 0.03), (y0, y1), (top, top + 0.09), "detail")
    m.cylinder((0.0, 0.10), (end * (w - 0.3) - 0.06, end * (w - 0.3) + 0.06), (1.86, 1.9), "detail")
    m.cylinder((0.0, 0.02), (end * (w - 0.3) - 0.01, end * (w - 0.3) + 0.01), (0.9, 1.9), "detail")
    m.piece.front = 0.5


def shower_curtain(m: Maker, depth: float, w: float, rim: float) -> None:
    """Continues a bathtub's piece: on a rail that two arms hold off the wall."""
    m.thing("shower curtain")
    d, z, x = m.draw, 1.98, depth + 0.035
    m.cylinder((x - 0.012, x + 0.012), (-w, w), (z - 0.012, z + 0.012), "second", axis=1)
    for y in (-w + 0.02, w - 0.02):
        m.cylinder((0, x), (y - 0.012, y + 0.012), (z - 0.012, z + 0.012), "second", axis=0)
    folds(m, x, (-w + 0.03, -w + 0.03 + 2 * w * d.integer(35, 80) / 100), (d.metres(150, 300), z - 0.015), 0.035)


def folds(m: Maker, x: float, y: Range, z: Range, reach: float) -> None:
    """Hanging cloth: flat columns that stand alternately a little before and behind."""
    count = max(4, round((y[1] - y[0]) / 0.075))
    each = (y[1] - y[0]) / count
    for k in range(count):
        middle, off = y[0] + each * (k + 0.5), reach * (0.3 if k % 2 else -0.1)
        m.cylinder((x + off - 0.6 * reach, x + off + 0.6 * reach), (middle - 0.62 * each, middle + 0.62 * each), z)


def sink(m: Maker) -> None:
    """A wash basin on a pedestal; a mirror hangs above it now and then."""
    m.thing("sink")
    w, depth, top = m.draw.metres(460, 600) / 2, m.draw.metres(400, 480), m.draw.metres(800, 870)
    _basin(m, (0, depth), (-w, w), (top - 0.17, top), 0.035)
    m.box((0, 0.09), (-w, w), (top - 0.13, top + 0.012))
    _tap(m, 0.05, 0, top + 0.01, 0.12)
    m.cylinder((0.1, 0.28), (-0.09, 0.09), (0, top - 0.17), "second")
    _mirror_above(m, w)


def vanity(m: Maker) -> None:
    """A cabinet with a basin in its top."""
    m.thing("bathroom vanity")
    w, depth, top = m.draw.metres(650, 1100) / 2, m.draw.metres(460, 540), m.draw.metres(780, 860)
    m.box((0, depth - 0.05), (-w + 0.01, w - 0.01), (0, 0.08), "second")
    _hollow(m, (0, depth), (-w, w), (0.08, top - 0.03))
    _doors(m, depth, (-w, w), (0.09, top - 0.04), 2, handle=0.8)
    _top_with_sink(m, "sink", (0, depth + 0.03), (-w - 0.01, w + 0.01), (top - 0.03, top), 0, 0.21)
    _mirror_above(m, min(w, 0.4))


def _mirror_above(m: Maker, w: float) -> None:
    if m.draw.chance(75):
        m.thing("mirror")
        top = m.draw.metres(1750, 1950)
        m.box((0, 0.02), (-w, w), (1.12, top), "second")
        m.box((0.02, 0.024), (-w + 0.02, w - 0.02), (1.14, top - 0.02))


def _hollow(m: Maker, x: Range, y: Range, z: Range) -> None:
    """A body open at the top, so that a basin fits in."""
    m.box(x, y, (z[0], z[0] + 0.02))
    m.box((x[0], x[0] + 0.02), y, (z[0] + 0.02, z[1]))
    m.box((x[1] - 0.02, x[1]), y, (z[0] + 0.02, z[1]))
    for end in ((y[0], y[0] + 0.02), (y[1] - 0.02, y[1])):
        m.box((x[0] + 0.02, x[1] - 0.02), end, (z[0] + 0.02, z[1]))


def _top_with_sink(m: Maker, category: str, x: Range, y: Range, z: Range, at: float, half: float) -> None:
    """A board with a basin let in at y = ``at``; the board is of one thing, the basin a sink."""
    x0, x1 = x[0] + 0.11, x[1] - 0.07
    if category != "sink":
        m.thing(category)
    slot = "main" if category != "sink" else "second"
    for side in ((y[0], at - half), (at + half, y[1])):
        if side[1] - side[0] > 0.001:
            m.box(x, side, z, slot)
    m.box((x[0], x0), (at - half, at + half), z, slot)
    m.box((x1, x[1]), (at - half, at + half), z, slot)
    m.thing("sink")
    _basin(m, (x0, x1), (at - half, at + half), (z[1] - 0.16, z[1] + 0.004), 0.015)
    _tap(m, x0 - 0.04, at, z[1], 0.16)


def counter(m: Maker, with_sink: bool = True) -> None:
    """A kitchen's worktop on cabinets, with a sink and a stove, and cabinets on the wall above."""
    d, depth, w, top = m.draw, 0.6, m.draw.metres(1500, 2600) / 2, m.draw.metres(880, 930)
    m.thing("counter")
    stove = d.chance(55)
    left = -w + (0.6 if stove else 0)
    if with_sink:
        at = d.integer(round(1000 * (left + 0.32)), round(1000 * (w - 0.32))) / 1000
        m.piece.things.pop()
        _top_with_sink(m, "counter", (0, depth + 0.03), (left, w), (top - 0.04, top), at, 0.26)
    else:
        m.box((0, depth + 0.03), (left, w), (top - 0.04, top))
        m.piece.tops = [((0.1, depth - 0.1), (left + 0.1, w - 0.1), top)]
    m.thing("kitchen cabinet")
    m.box((0, depth - 0.06), (left + 0.005, w), (0, 0.1), "second")
    _hollow(m, (0, depth), (left + 0.005, w), (0.1, top - 0.04))
    columns = max(2, round((w - left) / 0.5))
    drawers(m, depth, (left + 0.005, w), (top - 0.2, top - 0.05), 1, columns)
    _doors(m, depth, (left + 0.005, w), (0.11, top - 0.2), columns, handle=0.85)
    if stove:
        _stove(m, (-w, left - 0.005), depth, top)
    if d.chance(70):
        m.thing("kitchen cabinet", alike=True)
        high = d.metres(1420, 1520)
        m.box((0, 0.34), (-w + 0.01, w), (high, high + 0.65))
        _doors(m, 0.34, (-w + 0.01, w), (high + 0.005, high + 0.645), max(2, round(2 * w / 0.5)), handle=0.15)
    m.piece.front = 0.8


def _stove(m: Maker, y: Range, depth: float, top: float) -> None:
    m.thing("stove")
    m.box((0, depth), y, (0.02, top - 0.006))
    m.box((0.02, depth - 0.04), (y[0] + 0.02, y[1] - 0.02), (0, 0.02), "second")
    m.box((depth, depth + 0.03), (y[0] + 0.01, y[1] - 0.01), (0.12, top - 0.16), "second")
    m.cylinder((depth + 0.05, depth + 0.07), (y[0] + 0.08, y[1] - 0.08), (top - 0.22, top - 0.2), "detail", axis=1)
    for at in (y[0] + 0.1, y[1] - 0.1):
        m.box((depth + 0.03, depth + 0.06), (at - 0.01, at + 0.01), (top - 0.22, top - 0.2), "detail")
    for x in (0.17, 0.43):
        for side in (0.28, 0.72):
            at = y[0] + side * (y[1] - y[0])
            m.cylinder((x - 0.08, x + 0.08), (at - 0.08, at + 0.08), (top - 0.006, top + 0.006), "second")
    m.box((0, 0.05), y, (top - 0.006, top + 0.1))
