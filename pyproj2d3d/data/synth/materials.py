"""What is a part made of? The roles that furniture is given, the patterns of each, and the colours of both styles.

A material is an integer, ``1000 * role + variant``; the variant is ``100 * pattern + 10 * color + tone``: pattern picks
from ``PATTERNS[role]``, color from the role's palette of the room's style (both modulo how many there are), and tone,
0 to 9, makes two pieces of one kind a little darker or lighter, coarser or finer. So a class may own a role, a pattern,
or a range of variants, and is told by it in either style.
"""

from __future__ import annotations

from dataclasses import dataclass

WOOD, LAMINATE, CLOTH, LEATHER, METAL, PLASTIC, CERAMIC, GLASS, PAPER, PAINTED = range(1, 11)
SCREEN, WALL, FLOOR_COVER, CEILING_COVER, CURTAIN_CLOTH, PICTURE, BOOKS, MIRROR, LAMPSHADE = range(11, 20)

PATTERNS = {
    WOOD: ("grain", "figured", "boards"),
    LAMINATE: ("plain", "speckled", "marble"),
    CLOTH: ("weave", "checked", "striped", "dotted", "mottled"),
    LEATHER: ("creased",),
    METAL: ("brushed", "painted"),
    PLASTIC: ("smooth", "ribbed"),
    CERAMIC: ("glazed", "tiles"),
    GLASS: ("hills", "city", "sky"),  # a window: what is outside; bright, whatever the light inside
    PAPER: ("text", "whiteboard", "cardboard", "poster"),
    PAINTED: ("plain", "panelled"),  # panelled: a door or a cabinet's front
    SCREEN: ("off", "on"),
    WALL: ("paint", "stripes", "figured", "wainscot", "tiles", "bricks"),
    FLOOR_COVER: ("parquet", "tiles", "carpet", "rug"),
    CEILING_COVER: ("plaster", "panels", "boards"),
    CURTAIN_CLOTH: ("plain", "striped", "figured", "slats"),  # slats: blinds
    PICTURE: ("landscape", "abstract", "portrait", "photograph"),
    BOOKS: ("mixed", "series"),
    MIRROR: ("silver",),
    LAMPSHADE: ("lit",),  # shines by itself
}


def material(role: int, pattern: int = 0, color: int = 0, tone: int = 0) -> int:
    """The integer of a role in one of its patterns, colours and tones.

    >>> material(CLOTH, pattern=2, color=4)
    3240
    """
    return 1000 * role + 100 * pattern + 10 * color + tone


@dataclass(frozen=True)
class Style:
    """What a domain looks like: its colours, how fine its patterns are, and its light."""

    palettes: dict[int, list[tuple[int, int, int]]]  # per role
    scale: float  # of the periods of patterns
    contrast: float
    ambient: tuple[float, float, float]  # light from everywhere, RGB; 1 shows a colour as it stands in the palette
    lamp: tuple[float, float, float]  # what the lamps under the ceiling add from near by, together
    daylight: tuple[float, float, float]  # what a window adds


def _palettes(written: dict[int, str]) -> dict[int, list[tuple[int, int, int]]]:
    """RGB of the colours that are written as on the web."""
    return {role: [tuple(bytes.fromhex(c)) for c in colors.split()] for role, colors in written.items()}  # type: ignore[misc]


_HOME = _palettes(
    {
        WOOD: "be8e5c 704a2e 985434 d8b07c 623224 a26c3e ce9e6e 4c3428 c68240 8e7860",
        LAMINATE: "e4d6bc ceba96 967c62 bcc4b2 786454 e8e0d0",
        CLOTH: "9e3430 426848 d0a03e 364876 827e48 e2d2b4 70503c c88c84 c06642 387270",
        LEATHER: "704228 4c2e22 98623a 3e2a26 80322a",
        METAL: "b0a89a 967c54 78746e 423e3c cec8be",
        PLASTIC: "e8e2d4 b03c32 466454 d6aa50 5a4a42 6e8296",
        GLASS: "e2dcce 966842 ece8e0",  # of a window's bars
        CERAMIC: "f4f0e6 e2d6be becec8 ecdcd6",
        PAPER: "f0eada e0ceaa e6ded2 cea876",
        PAINTED: "eee4ce bac4aa d2b692 9e7860 a8b6bc 7a5a46",
        SCREEN: "1a1818 221e1e",
        WALL: "e4ceac d6c4a8 ccceb0 e2bea4 bec8c8 ecdec4",
        FLOOR_COVER: "aa825a 886042 c4a47c 965c4c a4967e 705846",
        CEILING_COVER: "f4ecdc ece0ca",
        CURTAIN_CLOTH: "ceb28c 96463c 76805c e2d4ba 60647c",
        PICTURE: "78502c be9850 463024 e4d8c4",  # of the frame
        BOOKS: "962a28 26467c ceba82 306448 5c3e6c e0dcce 2c2a2c",
        MIRROR: "c6d0d0",
        LAMPSHADE: "ffe2ac",
    }
)
_STUDIO = _palettes(
    {
        WOOD: "d0c8ba 807c78 beb29e e8e2d6 323030 a8a096 ded0b4 423c3a d6bea0 625e5c",
        LAMINATE: "f0f2f4 c8ced4 464c54 96a0aa 282c30 dee4e6",
        CLOTH: "40444c 78b43c 28acb0 c03478 2e7850 eaecf0 babec6 2862cc f48432 242830",
        LEATHER: "2a2a2e dedede 5c626a 3a4254 ba3a36",
        METAL: "ced2d8 a0a8b2 6e747c 2c2e32 e8eaee",
        PLASTIC: "f6f8fa e63c3c 2896dc fac828 2c2e34 78c878",
        GLASS: "eceef2 464a50 b4bac0",  # of a window's bars
        CERAMIC: "fafcff d6dee6 464c54 bed6e2",
        PAPER: "fafafc e2e8f0 f4f6f8 bea482",
        PAINTED: "f6f8fa c4ccd6 606a76 3c6ea0 dce0e4 30343a",
        SCREEN: "12141a 1c1e24",
        WALL: "e8ecf0 ced6de b2becc dee4e2 96a2b2 f0f2f6",
        FLOOR_COVER: "969698 c4c6c8 60646a 3c4250 808a94 d2cec6",
        CEILING_COVER: "f6f8fa e2e6ea",
        CURTAIN_CLOTH: "dee2e8 505a6c 78aac8 aab0b8 383c44",
        PICTURE: "24262a eceef0 aab0b8 3c6496",  # of the frame
        BOOKS: "1e5aaa ecf0f4 dc3c32 282c32 f0be28 46aaa0 969ea8",
        MIRROR: "ced8e4",
        LAMPSHADE: "f4f8ff",
    }
)
STYLES = {
    "home": Style(_HOME, 1.0, 1.0, (0.50, 0.48, 0.45), (0.66, 0.595, 0.51), (0.42, 0.45, 0.50)),
    "studio": Style(_STUDIO, 0.45, 0.85, (0.64, 0.65, 0.67), (0.41, 0.43, 0.46), (0.31, 0.33, 0.36)),
}


def own_color(material: int, style: str) -> tuple[int, int, int]:
    """RGB of a material in a style's palette, before tone and light."""
    colors = STYLES[style].palettes[material // 1000]
    return colors[material // 10 % 10 % len(colors)]
