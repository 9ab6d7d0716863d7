"""Where does the furniture stand? A room for every seed, from integer draws alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import furniture_things as things
from .furniture import UPRIGHT, Draw, Maker, Piece, Solid, bounds_of
from .furniture_bath import counter, shower_curtain
from .furniture_place import Floor, Placed, Pose, Volume, as_parts, in_room
from .furniture_scenes import HANGING, NYU40_OF_NAME, SCENE_TYPES, STANDING, Build, builder, wanted
from .furniture_walls import blinds, curtains
from .materials import WALL, material
from .options import RoomOptions
from .parts import BOX, WALLS, Parts

_TRIES = 40
# What is placed first; the rest follows in the order in which it was drawn.
_FIRST = (
    *("door", "bathtub", "counter", "bed", "curtain", "window", "nightstand", "toilet", "sink", "sofa", "desk"),
    *("refrigerator", "wardrobe closet", "tv stand", "bookshelf", "table", "coffee table", "cabinet", "file cabinet"),
    *("dresser", "end table", "radiator", "chair", "office chair", "armchair"),
)
_HUNG = ("picture", "mirror", "tv", "whiteboard", "shelf", "towel")


@dataclass(frozen=True, eq=False)
class Furnished:
    """What :class:`SynthRoom` consists of; fields as there."""

    extent: np.ndarray
    parts: Parts
    categories: tuple[str, ...]
    nyu40: np.ndarray
    boxes: np.ndarray
    scene_type: str


def furnish(seed: int, options: RoomOptions) -> Furnished:
    """The room of a seed."""
    draw = Draw(seed)
    names = list(SCENE_TYPES)
    scene_type = names[draw.weighted([SCENE_TYPES[name].weight for name in names])]
    plan = Plan(draw, options, scene_type)
    length, width, _ = plan.floor.size
    kinds = wanted(draw, scene_type, options.tail, length * width)
    if options.cues == "appearance":
        plan.fill_alike(kinds)
    else:
        plan.fill(kinds)
    return plan.furnished()


class Plan:
    """A room while it is being furnished."""

    def __init__(self, draw: Draw, options: RoomOptions, scene_type: str):
        self.draw, self.options, self.scene_type = draw, options, scene_type
        scene = SCENE_TYPES[scene_type]
        sides = [draw.metres(*scene.length), draw.metres(*scene.width)]
        if draw.chance(50):
            sides.reverse()
        self.floor = Floor(sides[0], sides[1], draw.metres(2350, 2850))
        self.corner: list[float] | None = None  # low x, y, high x, y of a block that makes the room an L
        if scene_type != "bathroom" and draw.chance(20):
            self._wall_in_a_corner()

    def _wall_in_a_corner(self) -> None:
        length, width, height = self.floor.size
        x, y = self.draw.metres(400, 1300), self.draw.metres(400, 1300)
        far_x, far_y = self.draw.chance(50), self.draw.chance(50)
        x0, x1 = (length - x, length) if far_x else (0.0, x)
        y0, y1 = (width - y, width) if far_y else (0.0, y)
        self.corner = [x0, y0, x1, y1]
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        self.floor.blocks.append(Volume(*middle, 1.0, 0.0, x / 2, y / 2, (0.0, height)))

    def make(self, build: Build) -> Piece:
        maker = Maker(self.draw, self.options.cues)
        build(maker)
        return maker.piece

    def fill(self, kinds: Sequence[str]) -> None:
        """Places one after the other, the large ones first; what finds no place stays out."""
        tasks = self._tasks(list(kinds))
        tasks.sort(key=lambda task: _FIRST.index(task[0]) if task[0] in _FIRST else len(_FIRST))
        for kind, piece in tasks:
            self._place(kind, piece)
        self._lay_about()
        if self.draw.chance(70):
            length, width, height = self.floor.size
            pose = Pose(length / 2, width / 2)
            light = self.make(lambda m: things.ceiling_light(m, height))
            if self.floor.fits(light, pose, movable=True):
                self.floor.put("light", light, pose)

    def fill_alike(self, kinds: Sequence[str]) -> None:
        """All furniture in shapes of one pool, whatever it is, and where it fits: only its materials tell."""
        for kind in kinds:
            hung = kind in (*_HUNG, "door", "window", "curtain", "shower curtain")
            own = {"curtain": "curtain", "shower curtain": "shower curtain"}.get(kind)
            category = own or self.make(builder(self.draw, kind, self.scene_type)).things[0].category
            maker = Maker(self.draw, self.options.cues, dressed_as=category)
            self.draw.one_of(HANGING if hung else STANDING)(maker)
            maker.piece.things[0].category = category
            piece = Piece(maker.piece.things[:1])
            if hung:
                self._at_wall(kind, piece, gap=(0, 0), corners=0, hung=True)
            elif self.draw.chance(70) or not self._in_the_middle(kind, piece):
                self._at_wall(kind, piece)

    def _tasks(self, kinds: list[str]) -> list[tuple[str, Piece]]:
        """Pieces for what was drawn: curtains come with their window, shower curtains with their bathtub."""
        tubs = max(kinds.count("bathtub"), kinds.count("shower curtain"))
        hung = kinds.count("shower curtain")
        sinks = kinds.count("sink")
        kitchen = "counter" in kinds or self.scene_type in ("kitchen", "apartment")
        tasks, chairs = [], dict[Build, Piece]()
        for kind in kinds:
            if kind in ("bathtub", "shower curtain"):
                if tubs:
                    tubs, hung, with_curtain = tubs - 1, hung - 1, hung > 0
                    tasks.append(("bathtub", self._tub(with_curtain)))
            elif kind == "counter":
                with_sink = sinks > 0
                sinks -= with_sink
                tasks.append((kind, self.make(lambda m, w=with_sink: counter(m, w))))  # type: ignore[misc]
            elif kind == "sink" and kitchen:
                continue
            else:
                build = builder(self.draw, kind, self.scene_type)
                again = kind == "chair" and build in chairs and self.draw.chance(75)  # most are one of a set
                piece = chairs[build] if again else self.make(build)
                if kind == "chair":
                    chairs[build] = piece
                if kind in ("curtain", "window"):
                    self._dress_window(piece, kind == "curtain")
                name = piece.things[0].category
                known = name in ("coffee table", "end table", "file cabinet", "wardrobe closet", "tv stand", "radiator")
                tasks.append((name if known or name in ("office chair", "armchair") else kind, piece))
        return tasks

    def _tub(self, with_curtain: bool) -> Piece:
        maker = Maker(self.draw, self.options.cues)
        builder(self.draw, "bathtub", self.scene_type)(maker)
        if with_curtain:
            high = bounds_of(maker.piece.things[0].solids[:5])[1]
            shower_curtain(maker, high[0], high[1], high[2])
        return maker.piece

    def _dress_window(self, piece: Piece, with_curtains: bool) -> None:
        maker = Maker(self.draw, self.options.cues)
        maker.piece = piece
        low, high = bounds_of(piece.things[0].solids[:4])
        if with_curtains:
            curtains(maker, high[1], low[2], high[2])
        elif self.draw.chance(15):
            blinds(maker, high[1], high[2])

    # Where each kind of piece goes

    def _place(self, kind: str, piece: Piece) -> bool:
        if kind in ("chair", "office chair", "armchair"):
            return self._at_a_table(kind, piece) or self._at_wall(kind, piece, movable=True, gap=(20, 200))
        if kind == "table":
            return self._in_the_middle(kind, piece) or self._at_wall(kind, piece)
        if kind == "coffee table":
            return self._before(kind, piece, "sofa", (300, 500)) or self._in_the_middle(kind, piece)
        if kind in ("nightstand", "end table"):
            beside = [p for p in self.floor.placed if p.kind in ("bed", "sofa")]
            return self._beside(kind, piece, beside) or self._at_wall(kind, piece)
        if kind in ("mat", "bath mat"):
            return self._on_the_floor(kind, piece)
        if kind == "tv stand":
            facing = [(p.wall + 2) % 4 for p in self.floor.placed if p.kind == "sofa" and p.wall is not None]
            return self._at_wall(kind, piece, walls=facing) or self._at_wall(kind, piece)
        if kind == "radiator":
            return self._under_a_window(kind, piece) or self._at_wall(kind, piece, gap=(0, 0))
        if kind in ("lamp", "box", "plant", "books", "microwave"):
            return self._small(kind, piece)
        if kind in ("bag", "backpack", "stool", "otherfurniture"):
            return self._at_wall(kind, piece, movable=True, gap=(20, 120), turned=300)
        if kind in ("door", "window", "curtain", *_HUNG):
            return self._at_wall(kind, piece, gap=(0, 0), corners=0, hung=True)
        return self._at_wall(kind, piece)

    def _try(self, kind: str, piece: Piece, pose: Pose, *, wall: int | None = None, **how: object) -> bool:
        if not self.floor.fits(piece, pose, **how):  # type: ignore[arg-type]
            return False
        self.floor.put(kind, piece, pose, wall=wall)
        return True

    def _at_wall(
        self,
        kind: str,
        piece: Piece,
        *,
        walls: Sequence[int] = (0, 1, 2, 3),
        gap: tuple[int, int] = (0, 5),
        movable: bool = False,
        turned: int = 0,
        corners: int = 25,
        hung: bool = False,
    ) -> bool:
        """With its back to a wall; pushed against a neighbour or into a corner now and then."""
        draw = self.draw
        if not hung and draw.integer(0, 999) < 1000 * self.options.touching:
            standing = [p for p in self.floor.placed if p.wall is not None and p.low[2] < 0.01 and p.kind != "door"]
            if self._beside(kind, piece, standing, movable=movable):
                return True
        low, high = piece.bounds()
        half = (high[1] - low[1]) / 2
        for _ in range(_TRIES if walls else 0):
            wall = draw.one_of(walls)
            length = self.floor.wall_length(wall)
            room = round(1000 * (length - 2 * half)) - 2
            if room <= 0:
                continue
            along = half + 0.001 + draw.integer(0, room) / 1000
            if draw.chance(corners):
                along = half + 0.001 if draw.chance(50) else length - half - 0.001
            pose = self.floor.at_wall(piece, wall, along, draw.integer(*gap) / 1000)
            if turned:
                pose = pose._replace(milliradians=draw.integer(-turned, turned))
            if self._try(kind, piece, pose, wall=wall, movable=movable):
                return True
        return False

    def _beside(self, kind: str, piece: Piece, neighbours: Sequence[Placed], *, movable: bool = False) -> bool:
        """Against the side of a neighbour, backs in line."""
        left = [(p, side) for p in neighbours for side in (-1, 1)]
        low, high = piece.bounds()
        while left:
            p, side = left.pop(self.draw.integer(0, len(left) - 1))
            y = p.high[1] - low[1] + 0.001 if side > 0 else p.low[1] - high[1] - 0.001
            x, y = p.pose.point(p.low[0] - low[0], y)
            pose = Pose(x, y, p.pose.milliradians, p.pose.quarters)
            if self._try(kind, piece, pose, wall=p.wall, movable=movable):
                return True
        return False

    def _in_the_middle(self, kind: str, piece: Piece) -> bool:
        low, high = piece.bounds()
        for clear in (0.8, 0.6, 0.4, 0.2):
            for _ in range(_TRIES // 3):
                quarters = self.draw.integer(0, 3)
                x, y = (self.draw.integer(500, round(1000 * side) - 500) / 1000 for side in self.floor.size[:2])
                to_middle = Pose(0, 0, 0, quarters).point((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
                pose = Pose(x - to_middle[0], y - to_middle[1], 0, quarters)
                if self._try(kind, piece, pose, clear=clear):
                    return True
        return False

    def _before(self, kind: str, piece: Piece, of: str, gap: tuple[int, int]) -> bool:
        """In front of another piece, its long side towards it."""
        low = piece.bounds()[0]
        for p in self.floor.placed:
            if p.kind == of:
                shift = self.draw.integer(-150, 150) / 1000
                x = p.high[0] + self.draw.integer(*gap) / 1000 - low[0]
                x, y = p.pose.point(x, (p.low[1] + p.high[1]) / 2 + shift)
                if self._try(kind, piece, Pose(x, y, 0, p.pose.quarters), movable=True):
                    return True
        return False

    def _at_a_table(self, kind: str, piece: Piece) -> bool:
        """Facing the table or desk: a little off it or, where pieces touch, pushed under it as far as it goes."""
        draw = self.draw
        free = [(p, i) for p in self.floor.placed for i in range(len(p.piece.spots)) if i not in p.taken]
        if kind == "armchair":
            free = []
        if kind == "office chair":
            desks = [spot for spot in free if spot[0].kind == "desk"]
            free = desks or free
        high = piece.bounds()[1]
        while free:
            p, i = free.pop(draw.integer(0, len(free) - 1))
            spot = p.piece.spots[i]
            pushed = draw.integer(0, 999) < 1000 * self.options.touching
            first, turned = (-300, 0) if pushed else (draw.integer(-60, 250), draw.integer(-150, 150))
            x, y = p.pose.point(spot.x, spot.y)
            for gap in range(first, 400, 40):
                heading = p.pose.milliradians + spot.milliradians
                back = Pose(x, y, heading, p.pose.quarters).point(-gap / 1000 - high[0], 0)
                pose = Pose(*back, heading + turned, p.pose.quarters)
                if self._try(kind, piece, pose, movable=True, nest=p):
                    p.taken.add(i)
                    return True
        return False

    def _under_a_window(self, kind: str, piece: Piece) -> bool:
        for p in list(self.floor.placed):
            if p.kind in ("window", "curtain") and p.wall is not None:
                along = p.pose.y if p.wall % 2 == 0 else p.pose.x
                if self._try(kind, piece, self.floor.at_wall(piece, p.wall, along, 0.0), wall=p.wall):
                    return True
        return False

    def _on_the_floor(self, kind: str, piece: Piece) -> bool:
        """A mat: before a bed, a sofa or a bathtub, or anywhere; furniture may stand on it, walls and mats may not."""
        low, high = piece.bounds()
        mats = [v for p in self.floor.placed if p.kind == "mat" for v in p.volumes]
        for _ in range(_TRIES):
            before = [p for p in self.floor.placed if p.kind in ("bed", "sofa", "bathtub", "sink", "table")]
            quarters = self.draw.integer(0, 3)
            x, y = (self.draw.integer(300, round(1000 * side) - 300) / 1000 for side in self.floor.size[:2])
            if before and self.draw.chance(70):
                p = self.draw.one_of(before)
                ahead = p.high[0] + 0.25 * (high[0] - low[0])
                (x, y), quarters = p.pose.point(ahead, (p.low[1] + p.high[1]) / 2), p.pose.quarters
            to_middle = Pose(0, 0, 0, quarters).point((low[0] + high[0]) / 2, 0)
            pose = Pose(x - to_middle[0], y - to_middle[1], 0, quarters)
            volume = Floor.volumes(piece, pose)[0]
            if volume.within(*self.floor.size) and not any(volume.meets(v) for v in (*mats, *self.floor.blocks)):
                self.floor.put("mat", piece, pose)
                return True
        return False

    def _small(self, kind: str, piece: Piece) -> bool:
        """On a table or another top if there is one, or a larger one of its kind on the floor."""
        build = {"lamp": things.table_lamp, "box": things.small_box, "plant": things.small_plant}.get(kind)
        tops = [p for p in self.floor.placed if p.piece.tops and p.kind != "bed"]
        if tops and (build is None or self.draw.chance(55)):
            small = self.make(build) if build else piece
            if any(self._on_top(kind, small, self.draw.one_of(tops)) for _ in range(_TRIES // 4)):
                return True
        return build is not None and self._at_wall(kind, piece, movable=True, gap=(20, 150), turned=200)

    def _lay_about(self) -> None:
        """Cups, papers and the like on tables, clothes on beds."""
        for p in [p for p in self.floor.placed if p.piece.tops]:
            for _ in range(self.draw.integer(0, 3) if p.kind != "bed" else self.draw.integer(0, 1)):
                build = things.clothes if p.kind == "bed" else self.draw.one_of(things.ON_TABLES)
                small = self.make(build)
                any(self._on_top(small.things[0].category, small, p) for _ in range(3))

    def _on_top(self, kind: str, small: Piece, of: Placed) -> bool:
        low, high = small.bounds()
        xs, ys, z = self.draw.one_of(of.piece.tops)
        x, y = (self.draw.integer(round(1000 * a), round(1000 * b)) / 1000 for a, b in (xs, ys))
        x, y = of.pose.point(x, y)
        turned = of.pose.milliradians + self.draw.integer(-300, 300)
        pose = Pose(x, y, turned, of.pose.quarters, of.pose.z + z)
        x, y = pose.point(-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2)
        return self._try(kind, small, pose._replace(x=x, y=y), movable=True, nest=of)

    def furnished(self) -> Furnished:
        """Everything as arrays."""
        length, width, height = self.floor.size
        solids: list[Solid] = []
        owner: list[int] = []
        categories = ["floor", "wall", "ceiling"]
        half = (length / 2, width / 2, height / 2)
        boxes = [[*half[:2], 0, length, width, 0, 0], [*half, length, width, height, 0]]
        boxes.append([*half[:2], height, length, width, 0, 0])
        for p in self.floor.placed:
            for thing, (low, high) in zip(p.piece.things, p.piece.boxes, strict=True):
                x, y = p.pose.point((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
                sizes = [b - a for a, b in zip(low, high, strict=True)]
                boxes.append([x, y, p.pose.z + (low[2] + high[2]) / 2, *sizes, p.pose.heading()])
                solids += [in_room(solid, p.pose) for solid in thing.solids]
                owner += [len(categories)] * len(thing.solids)
                categories.append(thing.category)
        if self.corner is not None:
            x0, y0, x1, y1 = self.corner
            middle, half = ((x0 + x1) / 2, (y0 + y1) / 2, height / 2), ((x1 - x0) / 2, (y1 - y0) / 2, height / 2)
            solids.append(Solid(BOX, middle, half, UPRIGHT, material(WALL)))
            owner.append(WALLS)
        nyu40 = np.array([NYU40_OF_NAME[name] for name in categories], dtype=np.int64)
        parts = as_parts(solids, owner)
        return Furnished(np.array(self.floor.size), parts, tuple(categories), nyu40, np.array(boxes), self.scene_type)
