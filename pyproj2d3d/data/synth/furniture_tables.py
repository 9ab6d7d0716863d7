"""What does one sit at and work at? Tables, desks, and what stands on them."""

from __future__ import annotations

from .furniture import Maker, Spot

_HALF_TURN = 3142


def table(m: Maker) -> None:
    """A dining or conference table: on four legs, on two panels, or round on a pedestal."""
    m.thing("table")
    d, z, thick = m.draw, m.draw.metres(720, 760), m.draw.metres(25, 45)
    kind = d.weighted((5, 2, 3))
    if kind == 2:
        r = d.metres(430, 620)
        m.cylinder((0, 2 * r), (-r, r), (z - thick, z))
        m.cylinder((r - 0.04, r + 0.04), (-0.04, 0.04), (0.03, z - thick), "second")
        m.cylinder((r * 0.5, r * 1.5), (-r / 2, r / 2), (0, 0.03), "second")
        m.piece.spots = [Spot(2 * r, 0, _HALF_TURN), Spot(0, 0, 0), Spot(r, r, -1571), Spot(r, -r, 1571)]
        m.piece.tops = [((0.4 * r, 1.6 * r), (-0.6 * r, 0.6 * r), z)]
        return
    depth, w = d.metres(750, 950), d.metres(1150, 2000) / 2
    m.box((0, depth), (-w, w), (z - thick, z))
    if kind == 0:
        r, inset = d.metres(20, 35), d.metres(10, 60)
        m.legs((inset, depth - inset), (-w + inset, w - inset), (0, z - thick), r, round=d.chance(40))
        if d.chance(60):
            for x in (inset + 0.02, depth - inset - 0.04):
                m.box((x, x + 0.02), (-w + inset + 2 * r, w - inset - 2 * r), (z - thick - 0.08, z - thick), "second")
    else:
        for y in (-w + 0.15, w - 0.19):
            m.box((0.1, depth - 0.1), (y, y + 0.04), (0, z - thick), "second")
        m.box((depth / 2 - 0.02, depth / 2 + 0.02), (-w + 0.19, w - 0.19), (0.15, 0.25), "second")
    sides = 1 if w < 0.65 else 2 if w < 0.85 else 3
    for k in range(sides):
        y = (k - (sides - 1) / 2) * (2 * w - 0.3) / sides
        m.piece.spots += [Spot(depth, y, _HALF_TURN), Spot(0, y, 0)]
    if kind == 0:
        m.piece.spots += [Spot(depth / 2, w, -1571), Spot(depth / 2, -w, 1571)]
    m.piece.tops = [((0.1, depth - 0.1), (-w + 0.1, w - 0.1), z)]


def coffee_table(m: Maker) -> None:
    d, z, depth, w = m.draw, m.draw.metres(360, 460), m.draw.metres(450, 650), m.draw.metres(800, 1200) / 2
    m.thing("coffee table")
    m.box((0, depth), (-w, w), (z - 0.04, z))
    m.legs((0.02, depth - 0.02), (-w + 0.02, w - 0.02), (0, z - 0.04), d.metres(18, 30), round=d.chance(40))
    if d.chance(50):
        m.box((0.03, depth - 0.03), (-w + 0.03, w - 0.03), (0.12, 0.14))
    m.piece.tops = [((0.06, depth - 0.06), (-w + 0.06, w - 0.06), z)]


def end_table(m: Maker) -> None:
    d, z, w = m.draw, m.draw.metres(450, 580), m.draw.metres(400, 520)
    m.thing("end table")
    if d.chance(50):
        m.cylinder((0, w), (-w / 2, w / 2), (z - 0.03, z))
        m.cylinder((w / 2 - 0.02, w / 2 + 0.02), (-0.02, 0.02), (0.02, z - 0.03), "second")
        m.cylinder((w * 0.2, w * 0.8), (-w * 0.3, w * 0.3), (0, 0.02), "second")
    else:
        m.box((0, w), (-w / 2, w / 2), (z - 0.03, z))
        m.legs((0.01, w - 0.01), (-w / 2 + 0.01, w / 2 - 0.01), (0, z - 0.03), 0.02, round=False)
    m.piece.tops = [((w * 0.25, w * 0.75), (-w * 0.25, w * 0.25), z)]


def desk(m: Maker) -> None:
    """Against a wall: drawers under one side, a screen and a keyboard on it."""
    m.thing("desk")
    d, z, depth, w = m.draw, m.draw.metres(720, 760), m.draw.metres(580, 780), m.draw.metres(1050, 1650) / 2
    m.box((0, depth), (-w, w), (z - 0.03, z))
    if d.chance(50):
        for y in (-w + 0.01, w - 0.04):
            m.box((0.01, depth - 0.02), (y, y + 0.03), (0, z - 0.03))
    else:
        m.legs((0.01, depth - 0.01), (-w + 0.01, w - 0.01), (0, z - 0.03), d.metres(18, 28), round=d.chance(30))
    m.box((0.03, 0.045), (-w + 0.06, w - 0.06), (0.35, z - 0.03))
    side = d.one_of((-1, 1))
    if d.chance(65):
        y0, y1 = sorted((side * (w - 0.06), side * (w - 0.46)))
        m.box((0.08, depth - 0.05), (y0, y1), (0.07, z - 0.03))
        drawers(m, depth - 0.05, (y0, y1), (0.07, z - 0.04), 3)
    seat = -side * 0.15
    m.piece.spots = [Spot(depth, seat, _HALF_TURN)]
    m.piece.front = 0.7
    if d.chance(75):
        screen(m, (0.12, 0.32), seat, z, d.metres(220, 300))
        m.thing("keyboard")
        m.box((depth - 0.24, depth - 0.10), (seat - 0.21, seat + 0.21), (z, z + 0.02))
        m.piece.tops = [((0.1, depth - 0.1), tuple(sorted((side * (w - 0.08), side * (w - 0.45)))), z)]  # type: ignore[list-item]
    else:
        m.piece.tops = [((0.08, depth - 0.08), (-w + 0.08, w - 0.08), z)]


def screen(m: Maker, x: tuple[float, float], y: float, z: float, half: float) -> None:
    """A monitor on its foot."""
    m.thing("monitor")
    m.box(x, (y - 0.12, y + 0.12), (z, z + 0.012), "second")
    m.box((x[0] + 0.04, x[0] + 0.07), (y - 0.03, y + 0.03), (z + 0.012, z + 0.25), "second")
    m.box((x[0] + 0.07, x[0] + 0.10), (y - half, y + half), (z + 0.10, z + 0.12 + 1.15 * half), "second")
    m.box((x[0] + 0.10, x[0] + 0.104), (y - half + 0.012, y + half - 0.012), (z + 0.112, z + 0.108 + 1.15 * half))


def drawers(m: Maker, x: float, y: tuple[float, float], z: tuple[float, float], rows: int, columns: int = 1) -> None:
    """Fronts a little proud of a body whose front is at x, each with a handle."""
    high, wide = (z[1] - z[0]) / rows, (y[1] - y[0]) / columns
    for row in range(rows):
        for column in range(columns):
            y0, z0 = y[0] + wide * column, z[0] + high * row
            m.box((x, x + 0.014), (y0 + 0.008, y0 + wide - 0.008), (z0 + 0.008, z0 + high - 0.008))
            middle, up = y0 + wide / 2, z0 + 0.6 * high
            m.box((x + 0.014, x + 0.032), (middle - 0.06, middle + 0.06), (up - 0.008, up + 0.008), "detail")
