"""What belongs into a room? For each type of scene what is always there, and what is drawn, by how common it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import furniture_bath as bath
from . import furniture_seats as seats
from . import furniture_storage as storage
from . import furniture_tables as tables
from . import furniture_things as things
from . import furniture_walls as walls
from .furniture import Draw, Maker

Build = Callable[[Maker], None]

# NYU40 ids of the raw categories that rooms have, as in scannetv2-labels.combined.tsv
NYU40_OF_NAME = {
    **{"wall": 1, "floor": 2, "cabinet": 3, "file cabinet": 3, "kitchen cabinet": 3, "bathroom vanity": 3, "bed": 4},
    **{"chair": 5, "office chair": 5, "armchair": 5, "couch": 6, "table": 7, "coffee table": 7, "end table": 7},
    **{"door": 8, "window": 9, "bookshelf": 10, "picture": 11, "counter": 12, "blinds": 13, "desk": 14, "shelf": 15},
    **{"curtain": 16, "dresser": 17, "pillow": 18, "mirror": 19, "mat": 20, "ceiling": 22, "books": 23},
    **{"refrigerator": 24, "tv": 25, "towel": 27, "shower curtain": 28, "box": 29, "whiteboard": 30, "nightstand": 32},
    **{"toilet": 33, "sink": 34, "lamp": 35, "bathtub": 36, "bag": 37, "stove": 38, "light": 38, "trash can": 39},
    **{"wardrobe closet": 39, "ottoman": 39, "bench": 39, "tv stand": 39, "radiator": 39, "monitor": 40},
    **{"keyboard": 40, "plant": 40, "stool": 40, "backpack": 40, "microwave": 40},
    **{"clothes": 21, "paper": 26, "cup": 40, "bottle": 40, "laptop": 40},
}

# ScanNet's classes but wall and floor, the most common first: the rank that the long tail goes by.
RANKED = (
    *("chair", "otherfurniture", "table", "door", "cabinet", "window", "picture", "desk", "sofa"),
    *("sink", "curtain", "bed", "bookshelf", "counter", "toilet", "refrigerator", "bathtub", "shower curtain"),
)
_MOST = {
    **{"toilet": 1, "bathtub": 1, "shower curtain": 1, "refrigerator": 1, "bed": 2, "counter": 2, "sink": 2, "door": 3},
    **{"sofa": 3, "table": 3, "curtain": 3, "window": 4, "otherfurniture": 4, "desk": 5, "cabinet": 5, "picture": 5},
}
_OFTEN = ("box", "lamp", "nightstand", "towel", "stool", "books", "plant")  # there may be two
_PER_MILLION = 1_000_000


@dataclass(frozen=True)
class SceneType:
    weight: int  # how often it comes
    length: tuple[int, int]  # of the two sides of the room, millimetres
    width: tuple[int, int]
    pieces: tuple[int, int]  # how many are drawn
    core: tuple[tuple[str, int], ...]  # classes that come with a probability in percent, before the draws
    home: tuple[str, ...]  # classes that are drawn
    extras: tuple[str, ...]  # what else lies and stands around, by name


_EVERYWHERE = ("door", "window", "picture", "curtain", "otherfurniture")
SCENE_TYPES = {
    "bedroom": SceneType(
        16,
        *((3400, 4800), (3000, 4200), (6, 10)),
        (("bed", 100), ("window", 60)),
        (*_EVERYWHERE, "chair", "cabinet", "desk", "bookshelf", "table", "bed", "sofa"),
        (
            "nightstand",
            "nightstand",
            "dresser",
            "lamp",
            "mirror",
            "box",
            "bag",
            "backpack",
            "mat",
            "tv",
            "books",
            "plant",
        ),
    ),
    "living room": SceneType(
        15,
        *((4200, 6000), (3600, 5000), (9, 14)),
        (("sofa", 100), ("table", 70), ("window", 60)),
        (*_EVERYWHERE, "chair", "cabinet", "bookshelf", "table", "sofa", "desk"),
        ("lamp", "lamp", "plant", "mat", "mat", "tv", "books", "box", "bag", "shelf", "mirror", "stool"),
    ),
    "kitchen": SceneType(
        15,
        *((3200, 4800), (2800, 4000), (6, 10)),
        (("counter", 100), ("sink", 90), ("refrigerator", 75), ("table", 50), ("window", 40)),
        (*_EVERYWHERE, "chair", "cabinet", "table", "counter", "refrigerator", "sink"),
        ("microwave", "box", "plant", "stool", "stool", "books", "towel", "bag", "shelf", "mat"),
    ),
    "bathroom": SceneType(
        17,
        *((2400, 3600), (2100, 3000), (4, 7)),
        (("toilet", 95), ("sink", 85), ("bathtub", 70), ("shower curtain", 65)),
        (*_EVERYWHERE, "cabinet", "sink", "bathtub", "toilet", "shower curtain"),
        ("towel", "towel", "bath mat", "mirror", "plant", "bag", "box"),
    ),
    "office": SceneType(
        14,
        *((3600, 5600), (3200, 4400), (8, 14)),
        (("desk", 100), ("chair", 100), ("window", 50)),
        (*_EVERYWHERE, "desk", "chair", "cabinet", "bookshelf", "table", "sofa"),
        ("whiteboard", "box", "box", "backpack", "bag", "lamp", "books", "plant", "shelf"),
    ),
    "dining room": SceneType(
        8,
        *((3600, 5000), (3200, 4200), (8, 13)),
        (("table", 100), ("chair", 100), ("chair", 100), ("window", 60)),
        (*_EVERYWHERE, "chair", "cabinet", "table", "bookshelf", "sofa"),
        ("lamp", "plant", "mat", "mirror", "books", "dresser", "box", "bag"),
    ),
    "library": SceneType(
        6,
        *((4000, 6000), (3400, 5000), (8, 13)),
        (("bookshelf", 100), ("bookshelf", 100), ("table", 60)),
        (*_EVERYWHERE, "bookshelf", "chair", "table", "desk", "sofa", "cabinet"),
        ("books", "books", "lamp", "plant", "mat", "backpack", "shelf"),
    ),
    "conference room": SceneType(
        5,
        *((4200, 6200), (3600, 4800), (8, 14)),
        (("table", 100), ("chair", 100), ("chair", 100), ("chair", 100)),
        (*_EVERYWHERE, "chair", "table", "cabinet", "desk"),
        ("whiteboard", "whiteboard", "tv", "plant", "backpack", "books", "box"),
    ),
    "apartment": SceneType(
        6,
        *((4800, 6400), (4200, 5400), (11, 16)),
        (("bed", 100), ("sofa", 60), ("counter", 50), ("refrigerator", 40), ("window", 80)),
        (
            *_EVERYWHERE,
            "bed",
            "sofa",
            "desk",
            "chair",
            "table",
            "cabinet",
            "bookshelf",
            "counter",
            "refrigerator",
            "sink",
        ),
        ("nightstand", "lamp", "mat", "tv", "dresser", "plant", "box", "backpack", "mirror", "books"),
    ),
}

_CHAIRS: dict[str, tuple[tuple[Build, int], ...]] = {
    "": ((seats.chair, 8), (seats.armchair, 1)),
    "office": ((seats.office_chair, 7), (seats.chair, 3)),
    "conference room": ((seats.office_chair, 5), (seats.chair, 5)),
    "living room": ((seats.armchair, 6), (seats.chair, 4)),
    "bedroom": ((seats.chair, 5), (seats.office_chair, 3), (seats.armchair, 2)),
}
_TABLES: dict[str, tuple[tuple[Build, int], ...]] = {
    "": ((tables.table, 1),),
    "living room": ((tables.coffee_table, 5), (tables.end_table, 3), (tables.table, 2)),
    "bedroom": ((tables.end_table, 6), (tables.table, 2)),
    "office": ((tables.table, 6), (tables.end_table, 2)),
    "library": ((tables.table, 6), (tables.coffee_table, 2)),
}
_CABINETS: dict[str, tuple[tuple[Build, int], ...]] = {
    "": ((storage.cabinet, 1),),
    "office": ((storage.cabinet, 4), (storage.file_cabinet, 6)),
    "library": ((storage.cabinet, 6), (storage.file_cabinet, 4)),
}
_OTHERS: dict[str, tuple[tuple[Build, int], ...]] = {
    "": ((things.trash_can, 5), (walls.radiator, 4), (seats.bench, 1)),
    "bedroom": (
        (storage.wardrobe, 6),
        (walls.radiator, 3),
        (things.trash_can, 2),
        (seats.ottoman, 2),
        (seats.bench, 1),
    ),
    "living room": ((storage.tv_stand, 5), (seats.ottoman, 4), (walls.radiator, 2), (things.trash_can, 1)),
    "apartment": ((storage.wardrobe, 4), (storage.tv_stand, 4), (seats.ottoman, 2), (things.trash_can, 2)),
}
_SINKS: dict[str, tuple[tuple[Build, int], ...]] = {"": ((bath.sink, 6), (bath.vanity, 4))}
_ONE: dict[str, Build] = {
    **{"door": walls.door, "window": walls.window, "picture": walls.picture, "curtain": walls.window},
    **{"desk": tables.desk, "sofa": seats.sofa, "bed": seats.bed, "bookshelf": storage.bookshelf},
    **{"counter": bath.counter, "toilet": bath.toilet, "refrigerator": storage.refrigerator},
    **{"bathtub": bath.bathtub, "shower curtain": bath.bathtub, "nightstand": storage.nightstand},
    **{"dresser": storage.dresser, "mirror": walls.mirror, "tv": walls.hanging_tv, "whiteboard": walls.whiteboard},
    **{"shelf": storage.shelf, "towel": walls.towel, "box": things.carton, "bag": things.bag, "mat": things.mat},
    **{"backpack": things.backpack, "stool": seats.stool, "bath mat": things.bath_mat, "plant": things.plant},
    **{"lamp": things.floor_lamp, "books": things.pile_of_books, "microwave": things.microwave},
}
# What all furniture looks like where shapes are to tell nothing: what stands, and what hangs on a wall.
STANDING: tuple[Build, ...] = (
    *(seats.chair, seats.armchair, seats.stool, seats.bench, seats.ottoman, tables.coffee_table, tables.end_table),
    *(storage.nightstand, storage.file_cabinet, storage.dresser, storage.cabinet, things.trash_can, things.carton),
)
HANGING: tuple[Build, ...] = (walls.picture, walls.mirror, walls.whiteboard)
_SOME = {"chair": _CHAIRS, "table": _TABLES, "cabinet": _CABINETS, "otherfurniture": _OTHERS, "sink": _SINKS}


def builder(draw: Draw, kind: str, scene_type: str) -> Build:
    """What makes a thing of this class, or of this name, in a scene of this type."""
    if kind not in _SOME:
        return _ONE[kind]
    choices = _SOME[kind].get(scene_type, _SOME[kind][""])
    return choices[draw.weighted([weight for _, weight in choices])][0]


def wanted(draw: Draw, scene_type: str, tail: float, area: float) -> list[str]:
    """What is to come into a room of ``area`` square metres: classes of furniture, and names of what else there is.

    Classes are drawn with a weight of 1 / rank^tail; more of them the larger the room is.
    """
    scene = SCENE_TYPES[scene_type]
    kinds = ["door"] + [kind for kind, percent in scene.core if draw.chance(percent)]
    weights = [weight_of(kind, tail) for kind in scene.home]
    usual = sum(scene.length) * sum(scene.width) / 4e6
    for _ in range(round(draw.integer(*scene.pieces) * area / usual)):
        for _ in range(4):  # once more where there is enough of it
            kind = scene.home[draw.weighted(weights)]
            if kinds.count(kind) < _MOST.get(kind, 8):
                kinds.append(kind)
                break
    extras = [draw.one_of(scene.extras) for _ in range(draw.integer(4, 8))]
    return kinds + [name for i, name in enumerate(extras) if extras[:i].count(name) < 1 + (name in _OFTEN)]


def weight_of(kind: str, tail: float) -> int:
    """Of a class where it is at home: more if few types of scenes are, so that rooms together follow the tail."""
    share = sum(s.weight for s in SCENE_TYPES.values() if kind in s.home)
    # an integer, so that the last bit of a power, which depends on the machine, changes no draw
    return max(1, round(_PER_MILLION / ((RANKED.index(kind) + 1) ** tail * share)))
