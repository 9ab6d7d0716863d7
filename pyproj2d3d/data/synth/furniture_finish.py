"""What is furniture made of? Materials by class, so that texture tells the classes apart, or one pool for all."""

from __future__ import annotations

from .materials import (
    BOOKS,
    CERAMIC,
    CLOTH,
    CURTAIN_CLOTH,
    GLASS,
    LAMINATE,
    LAMPSHADE,
    LEATHER,
    METAL,
    MIRROR,
    PAINTED,
    PAPER,
    PICTURE,
    PLASTIC,
    SCREEN,
    WOOD,
)

Choices = tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]  # of roles with their patterns and colours

# What every part is drawn from where geometry alone is to tell the classes apart.
POOL: Choices = (
    (WOOD, (0, 1, 2), (0, 1, 3, 5)),
    (CLOTH, (0, 1, 2, 4), (0, 2, 3, 6, 8)),
    (LAMINATE, (0, 2), (0, 2, 3)),
    (PAINTED, (0,), (0, 1, 3, 4)),
    (PLASTIC, (0, 1), (0, 1, 3, 5)),
)

_STEEL: Choices = ((METAL, (0,), (0, 2)),)
_DARK_METAL: Choices = ((METAL, (1,), (3,)),)
_ANY = tuple(range(10))

# The main material is that of one class alone; legs, handles and frames are shared by many, as in a real room.
_MAIN: dict[str, Choices] = {
    "chair": ((CLOTH, (0,), (0, 1, 2, 3)), (PLASTIC, (0,), (1, 3)), (WOOD, (0,), (2,))),
    "office chair": ((CLOTH, (0,), (3, 4)), (LEATHER, (0,), (3,))),
    "armchair": ((CLOTH, (0,), (4, 5, 6, 7)), (LEATHER, (0,), (2,))),
    "couch": ((CLOTH, (4,), _ANY), (LEATHER, (0,), (0, 1))),
    "bed": ((CLOTH, (1, 2), _ANY),),
    "table": ((WOOD, (0,), (0, 3, 5, 6)),),
    "coffee table": ((WOOD, (0,), (0, 3, 5, 6)),),
    "end table": ((WOOD, (0,), (0, 5, 6)),),
    "desk": ((WOOD, (2,), (0, 3, 8)), (LAMINATE, (0,), (1, 2))),
    "cabinet": ((PAINTED, (1,), (0, 1, 2, 3)), (LAMINATE, (0,), (0, 3))),
    "file cabinet": ((METAL, (1,), (0, 2)),),
    "kitchen cabinet": ((PAINTED, (1,), (0, 1, 4)), (LAMINATE, (0,), (0, 3))),
    "bathroom vanity": ((PAINTED, (1,), (0, 4)),),
    "bookshelf": ((WOOD, (0,), (1, 4, 7)),),
    "shelf": ((WOOD, (0,), (8, 9)),),
    "dresser": ((WOOD, (1,), (0, 2, 8)),),
    "nightstand": ((WOOD, (1,), (3, 5)),),
    "counter": ((LAMINATE, (1, 2), (0, 1, 2, 3, 4)),),
    "refrigerator": ((METAL, (0,), (4,)), (PLASTIC, (0,), (0,))),
    "toilet": ((CERAMIC, (0,), (0,)),),
    "sink": ((CERAMIC, (0,), (2,)), (METAL, (0,), (0,))),
    "bathtub": ((CERAMIC, (0,), (1, 3)),),
    "door": ((PAINTED, (0,), (0, 2, 3, 5)), (WOOD, (2,), (1, 2))),
    "window": ((GLASS, (0, 1, 2), (0, 1, 2)),),
    "picture": ((PICTURE, (0, 1, 2, 3), _ANY),),
    "curtain": ((CURTAIN_CLOTH, (0, 2), _ANY),),
    "blinds": ((CURTAIN_CLOTH, (3,), _ANY),),
    "shower curtain": ((CURTAIN_CLOTH, (1,), _ANY),),
    "mirror": ((MIRROR, (0,), (0,)),),
    "whiteboard": ((PAPER, (1,), (0,)),),
    "tv": ((SCREEN, (0, 1), (0, 1)),),
    "monitor": ((SCREEN, (1,), (0, 1)),),
    "pillow": ((CLOTH, (3,), _ANY), (CLOTH, (0,), (5,))),
    "lamp": ((LAMPSHADE, (0,), (0,)),),
    "books": ((BOOKS, (0, 1), _ANY),),
    "box": ((PAPER, (2,), (3, 1)),),
    "bag": ((LEATHER, (0,), (4,)), (CLOTH, (2,), (3, 8))),
    "backpack": ((CLOTH, (0,), (1, 3, 9)),),
    "towel": ((CLOTH, (2,), (3, 5, 9)),),
    "mat": ((CLOTH, (3, 1), (1, 3, 4, 9)),),
    "trash can": ((PLASTIC, (1,), (2, 4, 5)), (METAL, (0,), (3,))),
    "wardrobe closet": ((WOOD, (2,), (4, 9)),),
    "ottoman": ((LEATHER, (0,), (4,)),),
    "bench": ((WOOD, (2,), (6,)),),
    "tv stand": ((WOOD, (2,), (5, 7)),),
    "radiator": ((METAL, (1,), (4,)),),
    "stove": ((METAL, (0,), (3,)),),
    "microwave": ((PLASTIC, (0,), (4,)),),
    "stool": ((WOOD, (1,), (6, 7)), (PLASTIC, (0,), (2,))),
    "plant": ((CLOTH, (4,), (1,)),),
    "keyboard": ((PLASTIC, (1,), (0, 4)),),
    "cup": ((CERAMIC, (0,), (0, 1, 2)), (PLASTIC, (0,), (1, 3))),
    "bottle": ((PLASTIC, (0,), (2, 5)),),
    "paper": ((PAPER, (0,), (0, 2)),),
    "laptop": ((SCREEN, (1,), (0, 1)),),
    "clothes": ((CLOTH, (0, 2), _ANY),),
    "light": ((LAMPSHADE, (0,), (0,)),),
}
_OTHER: dict[str, dict[str, Choices]] = {
    "second": {
        "": ((WOOD, (0,), (0, 1, 3, 5)), (METAL, (1,), (3,))),
        "office chair": ((PLASTIC, (0,), (4,)),),
        "couch": ((WOOD, (0,), (1,)),),
        "armchair": ((WOOD, (0,), (1,)),),
        "bed": ((WOOD, (1,), (1, 4)),),
        "refrigerator": ((PLASTIC, (0,), (4,)),),
        "toilet": ((CERAMIC, (0,), (0,)),),
        "bathtub": ((CERAMIC, (0,), (1,)),),
        "sink": ((CERAMIC, (0,), (0,)),),
        "door": ((PAINTED, (0,), (0, 1)),),
        "window": ((PAINTED, (0,), (0,)), (PLASTIC, (0,), (0,))),
        "picture": ((WOOD, (1,), (1, 3)), (METAL, (1,), (3,))),
        "whiteboard": _STEEL,
        "tv": ((PLASTIC, (0,), (4,)),),
        "laptop": ((METAL, (0,), (0,)),),
        "monitor": ((PLASTIC, (0,), (4,)),),
        "lamp": _DARK_METAL,
        "plant": ((CERAMIC, (0,), (1, 3)),),
        "stove": ((METAL, (0,), (3,)),),
        "mirror": ((METAL, (0,), (1,)),),
        "cabinet": ((LAMINATE, (0,), (0, 5)),),
        "kitchen cabinet": ((LAMINATE, (0,), (0, 5)),),
        "trash can": _DARK_METAL,
        "curtain": _DARK_METAL,
        "shower curtain": _STEEL,
    },
    "detail": {"": _STEEL, "bed": ((CLOTH, (0,), (5,)),), "lamp": _DARK_METAL, "cabinet": _DARK_METAL},
}


def finish(category: str, slot: str) -> Choices:
    """What a part of a thing may be made of. ``slot``: main, second (legs, frames) or detail (handles, taps)."""
    if slot == "main":
        return _MAIN[category]
    of = _OTHER[slot]
    return of.get(category, of[""])
