"""What else is in a room? Lamps, boxes, bags, plants, mats: on the floor or on tops."""

from __future__ import annotations

from .furniture import Maker, cosine_sine


def floor_lamp(m: Maker) -> None:
    m.thing("lamp")
    r, top = m.draw.metres(120, 200), m.draw.metres(1450, 1750)
    m.cylinder((r - 0.13, r + 0.13), (-0.13, 0.13), (0, 0.025), "second")
    m.cylinder((r - 0.012, r + 0.012), (-0.012, 0.012), (0.025, top - 0.1), "second")
    if m.draw.chance(70):
        m.cylinder((0, 2 * r), (-r, r), (top - 0.27, top))
    else:
        m.ball((0, 2 * r), (-r, r), (top - 0.3, top))


def table_lamp(m: Maker) -> None:
    m.thing("lamp")
    r, top = m.draw.metres(80, 130), m.draw.metres(320, 480)
    m.cylinder((r - 0.06, r + 0.06), (-0.06, 0.06), (0, 0.02), "second")
    m.ball((r - 0.05, r + 0.05), (-0.05, 0.05), (0.01, top - 0.13), "second")
    m.cylinder((0, 2 * r), (-r, r), (top - 0.18, top))


def ceiling_light(m: Maker, ceiling: float) -> None:
    m.thing("light")
    r = m.draw.metres(140, 220)
    if m.draw.chance(50):
        m.cylinder((-r, r), (-r, r), (ceiling - 0.09, ceiling - 0.004))
    else:
        low = max(2.0, ceiling - 0.7)  # above all heads
        m.cylinder((-0.008, 0.008), (-0.008, 0.008), (low + 0.1, ceiling - 0.004), "detail")
        m.ball((-r, r), (-r, r), (low, low + 1.2 * r))


def trash_can(m: Maker) -> None:
    m.thing("trash can")
    r, top = m.draw.metres(110, 190), m.draw.metres(280, 620)
    if m.draw.chance(60):
        m.cylinder((0, 2 * r), (-r, r), (0, top))
        m.cylinder((0.01, 2 * r - 0.01), (-r + 0.01, r - 0.01), (top, top + 0.02), "second")
    else:
        m.box((0, 2 * r), (-0.8 * r, 0.8 * r), (0, top))
        m.box((0.012, 2 * r - 0.012), (-0.8 * r + 0.012, 0.8 * r - 0.012), (top, top + 0.015), "second")


def carton(m: Maker) -> None:
    m.thing("box")
    d, w, depth, top = m.draw, m.draw.metres(250, 500) / 2, m.draw.metres(250, 450), m.draw.metres(180, 400)
    m.box((0, depth), (-w, w), (0, top))
    if d.chance(40):  # open flaps
        m.box((-0.06, 0.06), (-w, w), (top + 0.005, top + 0.012), lean=500)
        m.box((depth - 0.06, depth + 0.06), (-w, w), (top + 0.005, top + 0.012), lean=-500)


def small_box(m: Maker) -> None:
    m.thing("box")
    w, depth, top = m.draw.metres(140, 260) / 2, m.draw.metres(100, 200), m.draw.metres(60, 180)
    m.box((0, depth), (-w, w), (0, top))


def bag(m: Maker) -> None:
    m.thing("bag")
    w, depth, top = m.draw.metres(300, 420) / 2, m.draw.metres(140, 220), m.draw.metres(260, 380)
    m.box((0.02, depth - 0.02), (-w, w), (0, 0.7 * top))
    m.ball((0, depth), (-w - 0.01, w + 0.01), (0.02, top))
    for y in (-0.4 * w, 0.4 * w):
        m.box((depth / 2 - 0.008, depth / 2 + 0.008), (y - 0.008, y + 0.008), (top - 0.06, top + 0.08), "second")
    m.box((depth / 2 - 0.008, depth / 2 + 0.008), (-0.4 * w, 0.4 * w), (top + 0.07, top + 0.09), "second")


def backpack(m: Maker) -> None:
    m.thing("backpack")
    w, top = m.draw.metres(280, 340) / 2, m.draw.metres(400, 480)
    m.ball((0, 0.22), (-w, w), (0.004, top))
    m.box((0.03, 0.18), (-w + 0.03, w - 0.03), (0, 0.6 * top))
    m.box((0.17, 0.245), (-w + 0.05, w - 0.05), (0.05, 0.45 * top), "second")


def plant(m: Maker) -> None:
    _plant(m, m.draw.metres(130, 190), m.draw.metres(700, 1300))


def small_plant(m: Maker) -> None:
    _plant(m, m.draw.metres(55, 80), m.draw.metres(220, 360))


def _plant(m: Maker, r: float, top: float) -> None:
    """A pot, and round leaves on a stem or long ones out of the pot."""
    m.thing("plant")
    d, pot = m.draw, min(1.7 * r, top * 0.35)
    m.cylinder((0, 2 * r), (-r, r), (0, pot), "second")
    if d.chance(40):
        m.cylinder((r - 0.1 * r, 1.1 * r), (-0.1 * r, 0.1 * r), (pot, 0.7 * top))
        for k in range(5):
            size = r * d.integer(65, 95) / 100
            x, y = r + r * d.integer(-45, 45) / 100, r * d.integer(-45, 45) / 100
            z = pot + size + (top - pot - 2 * size) * k / 4
            m.ball(
                (x - size, x + size), (y - size * 0.7, y + size * 0.7), (z - size, z + size), turn=d.integer(0, 3141)
            )
        return
    for k in range(9):
        half, lean, turn = (top - pot) * d.integer(30, 50) / 100, d.integer(60, 500), 698 * k + d.integer(-200, 200)
        (up, out), (c, s) = cosine_sine(lean), cosine_sine(turn)
        x, y, z, wide = r - out * half * c, -out * half * s, pot + 0.96 * up * half, 0.35 * r
        m.ball((x - 0.08 * r, x + 0.08 * r), (y - wide, y + wide), (z - half, z + half), lean=lean, turn=turn)


def pile_of_books(m: Maker) -> None:
    m.thing("books")
    z = 0.0
    for _ in range(m.draw.integer(1, 4)):
        w, depth, thick = m.draw.metres(90, 130), m.draw.metres(150, 200), m.draw.metres(15, 45)
        m.box((0.1 - depth / 2, 0.1 + depth / 2), (-w, w), (z, z + thick), turn=m.draw.integer(-200, 200))
        z += thick


def cup(m: Maker) -> None:
    m.thing("cup")
    r, top = m.draw.metres(32, 48), m.draw.metres(75, 120)
    m.cylinder((0, 2 * r), (-r, r), (0, top))
    m.box((2 * r - 0.004, 2 * r + 0.025), (-0.006, 0.006), (0.3 * top, 0.8 * top))


def bottle(m: Maker) -> None:
    m.thing("bottle")
    r, top = m.draw.metres(32, 45), m.draw.metres(220, 310)
    m.cylinder((0, 2 * r), (-r, r), (0, 0.65 * top))
    m.ball((0, 2 * r), (-r, r), (0.5 * top, 0.8 * top))
    m.cylinder((0.7 * r, 1.3 * r), (-0.3 * r, 0.3 * r), (0.75 * top, top), "second")


def paper(m: Maker) -> None:
    """A few sheets."""
    m.thing("paper")
    for k in range(m.draw.integer(1, 3)):
        m.box((0, 0.21), (-0.15, 0.15), (0.003 * k, 0.003 * k + 0.003), turn=m.draw.integer(-500, 500))


def laptop(m: Maker) -> None:
    m.thing("laptop")
    m.box((0, 0.23), (-0.165, 0.165), (0, 0.018), "second")
    m.box((-0.045, -0.03), (-0.165, 0.165), (0.008, 0.23), "second", lean=250)
    m.box((-0.03, -0.027), (-0.155, 0.155), (0.03, 0.22), lean=250)


def clothes(m: Maker) -> None:
    """Thrown down."""
    m.thing("clothes")
    for _ in range(m.draw.integer(2, 3)):
        x, y, a, b = (m.draw.metres(*r) for r in ((0, 150), (-100, 100), (120, 230), (100, 180)))
        m.ball((x - a, x + a), (y - b, y + b), (0, m.draw.metres(60, 120)), turn=m.draw.integer(0, 3141))


def microwave(m: Maker) -> None:
    m.thing("microwave")
    m.box((0, 0.34), (-0.24, 0.24), (0.01, 0.28))
    m.box((0.02, 0.32), (-0.22, 0.22), (0, 0.01), "second")
    m.box((0.34, 0.355), (-0.1, 0.235), (0.02, 0.27), "second")


ON_TABLES = (cup, cup, bottle, paper, paper, laptop, small_box, pile_of_books)  # what lies about


def mat(m: Maker) -> None:
    """A rug, thin enough to stand on."""
    m.thing("mat")
    w, depth = m.draw.metres(1400, 2400) / 2, m.draw.metres(1000, 1700)
    m.box((0, depth), (-w, w), (0, 0.012))


def bath_mat(m: Maker) -> None:
    m.thing("mat")
    w, depth = m.draw.metres(600, 850) / 2, m.draw.metres(420, 550)
    m.box((0, depth), (-w, w), (0, 0.012))
