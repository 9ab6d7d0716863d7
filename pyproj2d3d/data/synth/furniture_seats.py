"""What does one sit and lie on? Chairs, sofas, beds."""

from __future__ import annotations

from .furniture import Maker, Range, cosine_sine


def chair(m: Maker) -> None:
    m.thing("chair")
    d, width, depth = m.draw, m.draw.metres(400, 480), m.draw.metres(400, 450)
    w, seat, top = width / 2, d.metres(420, 470), d.metres(800, 950)
    kind, thick, r = d.integer(0, 2), d.metres(25, 60), d.metres(14, 22)
    m.legs((0.03, depth), (-w, w), (0, seat - thick), r, round=d.chance(50))
    m.box((0.02, depth + 0.01), (-w, w), (seat - thick, seat))
    lean, rise = d.integer(60, 180), top - seat
    back = 0.035 - rise * lean / 2200  # where the middle of a back comes that leans from the edge of the seat
    if kind == 0:  # a panel
        m.box((back - 0.015, back + 0.015), (-w, w), (seat - 0.01, top), lean=lean)
    elif kind == 1:  # posts with rails
        for y in (-w + r, w - r):
            m.box((back - r, back + r), (y - r, y + r), (seat - 0.02, top), "second", lean=lean)
        for k in range(3):
            z = seat + rise * (0.4 + 0.25 * k)
            shift = (0.5 * (top + seat) - z) * lean / 1000
            m.box((back + shift - 0.01, back + shift + 0.01), (-w + r, w - r), (z - 0.035, z + 0.035), lean=lean)
    else:  # a cushion between posts
        for y in (-w + r, w - r):
            m.box((back - r, back + r), (y - r, y + r), (seat - 0.02, top - 0.05), "second", lean=lean)
        m.box((back - 0.01, back + 0.035), (-w + 0.03, w - 0.03), (seat + 0.12, top), lean=lean)
    if d.chance(30):
        for y in (-w + 0.02, w - 0.02):
            m.box((0.02, depth - 0.06), (y - 0.02, y + 0.02), (seat + 0.19, seat + 0.22), "second")
            m.cylinder((depth - 0.11, depth - 0.08), (y - 0.015, y + 0.015), (seat, seat + 0.19), "second")


def office_chair(m: Maker) -> None:
    m.thing("office chair")
    d, w, depth = m.draw, m.draw.metres(460, 500) / 2, m.draw.metres(450, 490)
    seat, top = d.metres(440, 500), d.metres(900, 1080)
    middle = 0.05 + depth / 2
    first = d.integer(0, 1256)
    for k in range(5):
        turn = first + 1257 * k
        c, s = cosine_sine(turn)
        x, y = middle + 0.15 * c, 0.15 * s
        m.box((x - 0.14, x + 0.14), (y - 0.025, y + 0.025), (0.06, 0.095), "second", turn=turn)
        x, y = middle + 0.27 * c, 0.27 * s
        m.ball((x - 0.03, x + 0.03), (y - 0.03, y + 0.03), (0, 0.06), "second")
    m.cylinder((middle - 0.03, middle + 0.03), (-0.03, 0.03), (0.095, seat - 0.08), "detail")
    m.box((0.06, 0.05 + depth), (-w, w), (seat - 0.08, seat))
    lean = d.integer(80, 160)
    back = 0.06 - (top - seat) * lean / 2000
    m.box((back - 0.03, back + 0.03), (-w + 0.03, w - 0.03), (seat + 0.09, top), lean=lean)
    behind = 0.022 - 0.000075 * lean  # the bar that holds the back
    m.box((behind - 0.0125, behind + 0.0125), (-0.04, 0.04), (seat - 0.1, seat + 0.25), "second", lean=lean)
    m.box((0.0, 0.16), (-0.04, 0.04), (seat - 0.1, seat - 0.08), "second")
    if d.chance(70):
        for y in (-w - 0.02, w + 0.02):
            m.box((0.14, 0.40), (y - 0.03, y + 0.03), (seat + 0.18, seat + 0.21), "second")
            m.box((0.24, 0.30), (y - 0.02, y + 0.02), (seat - 0.07, seat + 0.18), "second")


def stool(m: Maker) -> None:
    m.thing("stool")
    r, seat = m.draw.metres(150, 190), m.draw.metres(430, 620)
    m.cylinder((0, 2 * r), (-r, r), (seat - 0.04, seat))
    inset = 0.3 * r
    m.legs((inset, 2 * r - inset), (-r + inset, r - inset), (0, seat - 0.04), 0.015)


def bench(m: Maker) -> None:
    m.thing("bench")
    w, depth, seat = m.draw.metres(900, 1300) / 2, m.draw.metres(320, 400), m.draw.metres(420, 470)
    m.box((0, depth), (-w, w), (seat - 0.05, seat))
    for y in (-w + 0.06, w - 0.12):
        m.box((0.03, depth - 0.03), (y, y + 0.06), (0, seat - 0.05))


def ottoman(m: Maker) -> None:
    m.thing("ottoman")
    w, top = m.draw.metres(450, 600), m.draw.metres(360, 430)
    m.legs((0.02, w - 0.02), (-w / 2 + 0.02, w / 2 - 0.02), (0, 0.06), 0.02)
    m.box((0, w), (-w / 2, w / 2), (0.06, top - 0.06))
    m.box((0.008, w - 0.008), (-w / 2 + 0.008, w / 2 - 0.008), (top - 0.06, top))


def armchair(m: Maker) -> None:
    _upholstered(m, "armchair", 1)


def sofa(m: Maker) -> None:
    _upholstered(m, "couch", m.draw.integer(2, 3))


def _upholstered(m: Maker, category: str, seats: int) -> None:
    """Feet, a base, seat and back cushions between two arms."""
    m.thing(category)
    d, each, depth = m.draw, m.draw.metres(560, 660), m.draw.metres(780, 920)
    seat, top, arm, arm_top = d.metres(400, 450), d.metres(760, 900), d.metres(120, 200), d.metres(540, 640)
    w, round_arms = each * seats / 2, d.chance(60)
    side = w + arm
    m.legs((0.04, depth - 0.04), (-side + 0.04, side - 0.04), (0, 0.08), 0.025)
    m.box((0.01, depth - 0.02), (-w, w), (0.08, seat - 0.15))
    m.box((0, 0.16), (-w, w), (seat - 0.15, top - 0.06))
    for y in (-side, w):
        m.box((0, depth - 0.03), (y, y + arm), (0.08, arm_top - (arm / 3 if round_arms else 0)))
        if round_arms:
            m.cylinder((0.005, depth - 0.025), (y - 0.004, y + arm + 0.004), (arm_top - arm * 2 / 3, arm_top), axis=0)
    for k in range(seats):
        y = -w + each * k
        m.box((0.18, depth), (y + 0.006, y + each - 0.006), (seat - 0.15, seat))
        m.box((0.16, 0.33), (y + 0.006, y + each - 0.006), (seat + 0.004, top), lean=170)
    if seats > 1:
        for k in range(d.integer(0, 2)):
            m.thing("pillow")
            y, h = (-w + 0.26) * (1 - 2 * k), d.metres(190, 230)
            _pillow(m, (0.40, 0.56), (y - h, y + h), (seat - 0.012, seat + 2 * h - 0.012), 280)
    m.piece.front = 0.5


def _pillow(m: Maker, x: Range, y: Range, z: Range, lean: int) -> None:
    """Thick in the middle, with corners."""
    m.ball(x, y, z, lean=lean)
    thin = x[1] - x[0] < z[1] - z[0]
    m.box(_inner(x, 0.3 if thin else 0.06), _inner(y, 0.06), _inner(z, 0.06 if thin else 0.3), lean=lean)


def _inner(of: Range, share: float) -> Range:
    """A range without a share of it at either end."""
    off = share * (of[1] - of[0])
    return of[0] + off, of[1] - off


def bed(m: Maker) -> None:
    d = m.draw
    w, length, rest = d.one_of((0.45, 0.5, 0.7, 0.8, 0.9)), d.metres(1980, 2080), d.metres(420, 540)
    m.thing("bed")
    frame = rest - d.metres(180, 230)
    head = d.metres(850, 1150)
    if d.chance(60):
        m.legs((0.05, length), (-w, w), (0, 0.12), 0.03, round=False)
        m.box((0.05, length), (-w - 0.02, w + 0.02), (0.12, frame), "second")
    else:
        m.box((0.05, length), (-w - 0.02, w + 0.02), (0.01, frame), "second")
    m.box((0, 0.05), (-w - 0.03, w + 0.03), (0, head), "second")
    if d.chance(40):
        m.box((length, length + 0.04), (-w - 0.03, w + 0.03), (0, rest + 0.08), "second")
    m.box((0.06, length - 0.01), (-w, w), (frame, rest), "detail")  # the mattress
    start = d.metres(550, 800)
    m.box((start, length - 0.004), (-w - 0.027, w + 0.027), (frame - 0.06, rest + 0.035))
    if d.chance(60):
        m.box((start - 0.17, start + 0.12), (-w - 0.03, w + 0.03), (rest - 0.08, rest + 0.05))  # turned back
    m.piece.tops = [((start + 0.3, length - 0.3), (-w + 0.25, w - 0.25), rest + 0.035)]
    pillows = 1 if w < 0.6 else 2
    for k in range(pillows):
        m.thing("pillow")
        y, h = (k - (pillows - 1) / 2) * w, min(w / pillows - 0.03, 0.33)
        _pillow(m, (0.09, 0.50), (y - h, y + h), (rest - 0.015, rest + 0.135), d.integer(60, 200))
    m.piece.front = 0.4
