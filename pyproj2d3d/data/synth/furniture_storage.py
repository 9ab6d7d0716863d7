"""Where are things kept? Cabinets, dressers, shelves, the refrigerator."""

from __future__ import annotations

from .furniture import Maker, Range
from .furniture_tables import drawers


def _doors(m: Maker, x: float, y: Range, z: Range, columns: int, *, handle: float = 0.5) -> None:
    """Fronts a little proud of a body whose front is at x; handles where two doors meet, at a part of the height."""
    wide = (y[1] - y[0]) / columns
    for column in range(columns):
        y0 = y[0] + wide * column
        m.box((x, x + 0.016), (y0 + 0.006, y0 + wide - 0.006), (z[0] + 0.006, z[1] - 0.006))
        at = y0 + wide - 0.05 if column % 2 == 0 and columns > 1 else y0 + 0.05
        up = z[0] + handle * (z[1] - z[0])
        m.cylinder((x + 0.016, x + 0.036), (at - 0.009, at + 0.009), (up - 0.07, up + 0.07), "detail")


def cabinet(m: Maker) -> None:
    m.thing("cabinet")
    d, depth, w = m.draw, m.draw.metres(380, 550), m.draw.metres(600, 1300) / 2
    top = d.one_of((d.metres(750, 950), d.metres(1100, 1400), d.metres(1700, 2000)))
    m.box((0, depth - 0.03), (-w + 0.02, w - 0.02), (0, 0.08), "second")
    m.box((0, depth), (-w, w), (0.08, top))
    columns = 2 if w < 0.5 else 3
    if d.chance(35) and top < 1.5:
        drawers(m, depth, (-w, w), (top - 0.2, top - 0.01), 1, columns)
        _doors(m, depth, (-w, w), (0.09, top - 0.2), columns, handle=0.8)
    else:
        _doors(m, depth, (-w, w), (0.09, top - 0.01), columns)
    m.piece.tops = [((0.05, depth - 0.05), (-w + 0.08, w - 0.08), top)] if top < 1.3 else []
    m.piece.front = 0.4


def file_cabinet(m: Maker) -> None:
    m.thing("file cabinet")
    d, depth, w, top = m.draw, m.draw.metres(500, 600), m.draw.metres(380, 460) / 2, m.draw.one_of((0.68, 1.02, 1.32))
    m.box((0, depth), (-w, w), (0.02, top))
    m.box((0.02, depth - 0.02), (-w + 0.02, w - 0.02), (0, 0.02), "second")
    drawers(m, depth, (-w, w), (0.03, top), 2 if top < 0.8 else d.integer(3, 4))
    m.piece.tops = [((0.05, depth - 0.05), (-w + 0.05, w - 0.05), top)] if top < 1.2 else []
    m.piece.front = 0.4


def dresser(m: Maker) -> None:
    m.thing("dresser")
    d, depth, w, top = m.draw, m.draw.metres(420, 520), m.draw.metres(800, 1400) / 2, m.draw.metres(750, 1050)
    m.legs((0.01, depth - 0.01), (-w + 0.01, w - 0.01), (0, 0.1), 0.025, "main", round=d.chance(50))
    m.box((0, depth), (-w, w), (0.1, top - 0.025))
    m.box((0, depth + 0.02), (-w - 0.015, w + 0.015), (top - 0.025, top))
    drawers(m, depth, (-w, w), (0.1, top - 0.03), d.integer(3, 4), 2 if w > 0.45 else 1)
    m.piece.tops = [((0.06, depth - 0.06), (-w + 0.1, w - 0.1), top)]
    m.piece.front = 0.4


def nightstand(m: Maker) -> None:
    m.thing("nightstand")
    d, depth, w, top = m.draw, m.draw.metres(340, 420), m.draw.metres(380, 520) / 2, m.draw.metres(460, 620)
    m.box((0, depth), (-w, w), (0.12, top))
    m.legs((0.01, depth - 0.01), (-w + 0.01, w - 0.01), (0, 0.12), 0.02, "main", round=False)
    drawers(m, depth, (-w, w), (0.13, top - 0.01), d.integer(1, 2))
    m.piece.tops = [((0.1, depth - 0.1), (-w + 0.1, w - 0.1), top)]


def wardrobe(m: Maker) -> None:
    m.thing("wardrobe closet")
    depth, w, top = m.draw.metres(560, 640), m.draw.metres(900, 1600) / 2, m.draw.metres(1900, 2200)
    m.box((0, depth), (-w, w), (0, top))
    _doors(m, depth, (-w, w), (0.06, top - 0.02), 2 if w < 0.65 else 3)
    m.piece.front = 0.5


def tv_stand(m: Maker) -> None:
    """A low bench with a television on it."""
    m.thing("tv stand")
    d, depth, w, top = m.draw, m.draw.metres(380, 450), m.draw.metres(1200, 1700) / 2, m.draw.metres(420, 560)
    m.box((0, depth), (-w, w), (0.06, top))
    m.legs((0.03, depth - 0.03), (-w + 0.03, w - 0.03), (0, 0.06), 0.025)
    _doors(m, depth, (-w, w), (0.07, top - 0.01), 3)
    m.thing("tv")
    half, x = d.metres(420, 600), 0.16
    m.box((x - 0.08, x + 0.12), (-0.2, 0.2), (top, top + 0.015), "second")
    m.box((x - 0.01, x + 0.02), (-0.05, 0.05), (top + 0.015, top + 0.12), "second")
    m.box((x, x + 0.045), (-half, half), (top + 0.08, top + 0.10 + 1.13 * half), "second")
    m.box((x + 0.045, x + 0.049), (-half + 0.012, half - 0.012), (top + 0.092, top + 0.088 + 1.13 * half))
    m.piece.front = 0.5


def bookshelf(m: Maker) -> None:
    m.thing("bookshelf")
    d, depth, w = m.draw, m.draw.metres(260, 340), m.draw.metres(600, 1200) / 2
    rows = d.integer(3, 6)
    each = d.metres(300, 360)
    top = 0.06 + rows * each + 0.02
    for y in (-w, w - 0.022):
        m.box((0, depth), (y, y + 0.022), (0, top))
    m.box((0, 0.012), (-w + 0.022, w - 0.022), (0.02, top - 0.002))
    for row in range(rows + 1):
        z = 0.06 + row * each
        m.box((0.012, depth - 0.004), (-w + 0.022, w - 0.022), (z, z + 0.02))
    m.thing("books")
    for row in range(rows):
        _books(m, (0.02, depth - 0.04), (-w + 0.03, w - 0.03), 0.08 + row * each, each - 0.03)
    m.piece.front = 0.4


def shelf(m: Maker) -> None:
    """Boards on the wall with a few books."""
    m.thing("shelf")
    d, depth, w = m.draw, m.draw.metres(180, 260), m.draw.metres(600, 1100) / 2
    low = d.metres(1350, 1500)
    for k in range(d.integer(1, 2)):
        z = low + 0.33 * k
        m.box((0, depth), (-w, w), (z, z + 0.025))
        for y in (-w + 0.1, w - 0.1):
            m.box((0, depth - 0.05), (y - 0.012, y + 0.012), (z - 0.05, z), "detail")
    m.thing("books")
    _books(m, (0.01, depth - 0.02), (-w + 0.02, w - 0.02), low + 0.025, 0.27)


def _books(m: Maker, x: Range, y: Range, z: float, room: float) -> None:
    """A row with a gap now and then; books of one block have one height and depth."""
    d, at = m.draw, y[0]
    while at < y[1] - 0.08:
        end = min(at + d.metres(100, 380), y[1])
        if d.chance(80):
            m.box((x[0], x[1] - d.metres(0, 60)), (at, end - 0.003), (z, z + room * d.integer(60, 96) / 100))
        at = end
    if not m.piece.things[-1].solids:
        m.box((x[0], x[1] - 0.03), (y[0], y[0] + 0.2), (z, z + 0.7 * room))


def refrigerator(m: Maker) -> None:
    m.thing("refrigerator")
    d, depth, w = m.draw, m.draw.metres(580, 680), m.draw.metres(560, 760) / 2
    top = d.one_of((d.metres(840, 900), d.metres(1500, 1850), d.metres(1500, 1850)))
    m.box((0.03, depth), (-w, w), (0.03, top), "main")
    m.box((0.06, depth - 0.04), (-w + 0.02, w - 0.02), (0, 0.03), "second")
    split = 0.03 + (top - 0.03) * d.one_of((300, 680)) / 1000
    hinge = d.one_of((-1, 1))
    for z0, z1 in ((0.05, split - 0.005), (split + 0.005, top)) if top > 1 else ((0.05, top),):
        m.box((depth + 0.006, depth + 0.05), (-w, w), (z0, z1))
        y, middle, reach = hinge * (w - 0.06), (z0 + z1) / 2, 0.28 * (z1 - z0)
        m.cylinder((depth + 0.065, depth + 0.085), (y - 0.01, y + 0.01), (middle - reach, middle + reach), "detail")
        for z in (middle - reach + 0.01, middle + reach - 0.03):
            m.box((depth + 0.05, depth + 0.075), (y - 0.008, y + 0.008), (z, z + 0.02), "detail")
    m.box((depth, depth + 0.006), (-w + 0.01, w - 0.01), (0.06, top - 0.01), "second")
    m.piece.front = 0.7
