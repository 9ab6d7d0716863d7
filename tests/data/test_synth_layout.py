"""Would a person call it a room? What comes, where it stands, and what the knobs do to it."""

import csv
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest

from pyproj2d3d.data.synth import RoomOptions, SynthRoom
from pyproj2d3d.data.synth.furniture import Draw, Maker, Solid, bounds_of, cosine_sine
from pyproj2d3d.data.synth.furniture_finish import POOL, finish
from pyproj2d3d.data.synth.furniture_place import Floor, Pose, Volume, solids_meet
from pyproj2d3d.data.synth.furniture_scenes import (
    HANGING,
    NYU40_OF_NAME,
    RANKED,
    SCENE_TYPES,
    STANDING,
    wanted,
    weight_of,
)
from pyproj2d3d.data.synth.parts import BOX, CYLINDER, WALLS, Parts
from pyproj2d3d.data.synth.trace import inside

CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)  # ScanNet's, as NYU40 ids
SEEDS = range(40)
UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@cache
def room_of(seed, **options):
    return SynthRoom(seed, RoomOptions(**options))


def of_object(room, object):
    """Its parts alone."""
    keep = room.parts.object == object
    names = ("shape", "center", "half", "world_from_part", "object", "material")
    return Parts(*(getattr(room.parts, name)[keep] for name in names))


def called(room, *names):
    """Which objects have one of these categories."""
    return [o for o, name in enumerate(room.categories) if name in names]


def surface_points(parts, steps=7):
    """(P, n, 3) places on the parts and in them, those at the very ends along their axes among them."""
    line = np.linspace(-1, 1, steps)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    across = np.maximum(np.sqrt((grid[:, :2] ** 2).sum(axis=1)), 1e-9) / np.maximum(
        np.abs(grid[:, :2]).max(axis=1), 1e-9
    )
    tube = grid / np.stack([across, across, np.ones_like(across)], axis=1)
    ball = grid * (np.abs(grid).max(axis=1) / np.maximum(np.sqrt((grid**2).sum(axis=1)), 1e-9))[:, None]
    local = np.stack([grid, tube, ball])[parts.shape] * parts.half[:, None]
    return parts.center[:, None] + np.einsum("pij,pnj->pni", parts.world_from_part, local)


def in_box(points, box):
    """Places (n, 3) in the coordinates of a box, divided by half of its sizes."""
    c, s = math.cos(box[6]), math.sin(box[6])
    d = points - box[:3]
    turned = np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0], d[:, 2]], axis=1)
    return turned / (box[3:6] / 2)


# What comes


def test_every_class_of_scannet_comes_within_thirty_rooms():
    found = set().union(*(room_of(seed).nyu40.tolist() for seed in range(30)))
    assert set(CLASSES) <= found
    assert {17, 18, 19, 20, 22, 23, 25, 27, 29, 30, 32, 35, 37, 38, 40} <= found  # and most others of NYU40


def test_floor_wall_and_ceiling_are_the_first_objects_of_every_room():
    for seed in range(10):
        room = room_of(seed)
        assert room.categories[:3] == ("floor", "wall", "ceiling")
        assert room.nyu40[:3].tolist() == [2, 1, 22]
        length, width, height = room.extent
        assert room.boxes[0].tolist() == [length / 2, width / 2, 0, length, width, 0, 0]
        assert room.boxes[1].tolist() == [length / 2, width / 2, height / 2, length, width, height, 0]
        assert room.boxes[2].tolist() == [length / 2, width / 2, height, length, width, 0, 0]


def test_the_type_of_the_scene_decides_what_comes():
    kinds = {}
    for seed in SEEDS:
        room = room_of(seed)
        kinds.setdefault(room.scene_type, Counter()).update(set(room.categories))
    assert set(kinds) == set(SCENE_TYPES)
    assert kinds["bedroom"]["bed"] >= 0.9 * sum(room_of(s).scene_type == "bedroom" for s in SEEDS)
    for private in ("toilet", "bathtub", "shower curtain"):
        assert [name for name in kinds if kinds[name][private]] == ["bathroom"]
    assert not kinds["bathroom"]["couch"]
    assert kinds["kitchen"]["counter"]


def test_all_types_of_scenes_and_their_furniture_are_known():
    for seed in SEEDS:
        room = room_of(seed)
        assert len(room.categories) == len(room.nyu40) == len(room.boxes)
        assert [NYU40_OF_NAME[name] for name in room.categories] == room.nyu40.tolist()
        assert set(room.parts.object.tolist()) - {WALLS} == set(range(3, len(room.nyu40)))


def test_the_ids_are_those_of_scannets_label_table(real_data):
    path = real_data("label_tables") / "scannetv2-labels.combined.tsv"
    with path.open(newline="") as file:
        real = {row["raw_category"]: int(row["nyu40id"]) for row in csv.DictReader(file, delimiter="\t")}
    assert {name: real[name] for name in NYU40_OF_NAME} == NYU40_OF_NAME


def test_rooms_are_not_all_rectangular():
    blocks = [np.flatnonzero(room_of(seed).parts.object == WALLS) for seed in SEEDS]
    with_block = [(seed, block[0]) for seed, block in zip(SEEDS, blocks, strict=True) if len(block)]
    assert 2 <= len(with_block) <= 20
    for seed, p in with_block:
        room = room_of(seed)
        low, high = room.parts.center[p] - room.parts.half[p], room.parts.center[p] + room.parts.half[p]
        assert np.isclose(high[2] - low[2], room.extent[2])
        assert (np.isclose(low[:2], 0) | np.isclose(high[:2], room.extent[:2])).all()  # in a corner


# Where it stands


@pytest.mark.parametrize("seed", range(12))
def test_no_part_leaves_the_room(seed):
    room = room_of(seed)
    points = surface_points(room.parts).reshape(-1, 3)
    assert (points > -1e-6).all()
    assert (points < room.extent + 1e-6).all()


@pytest.mark.parametrize("seed", range(12))
def test_a_box_contains_its_parts_and_could_not_be_smaller(seed):
    room = room_of(seed)
    for o in range(3, len(room.nyu40)):
        parts = of_object(room, o)
        local = in_box(surface_points(parts, steps=9).reshape(-1, 3), room.boxes[o])
        assert np.abs(local).max() < 1 + 1e-6
        slack = (1 - np.abs(np.stack([local.min(axis=0), local.max(axis=0)]))) * room.boxes[o, 3:6] / 2
        assert slack.max() < 0.02  # what the grid on round and turned parts may miss, in metres
        if (parts.shape == BOX).all():
            assert slack.max() < 1e-6
        assert -math.pi <= room.boxes[o, 6] <= math.pi


@pytest.mark.parametrize("seed", range(12))
def test_objects_do_not_reach_into_each_other(seed):
    room = room_of(seed)
    soft = {"pillow", "mat", "clothes"}  # a pillow sinks in, furniture stands on a mat
    objects = [o for o in range(3, len(room.nyu40)) if room.categories[o] not in soft] + [WALLS]
    points = {o: surface_points(of_object(room, o), steps=5).reshape(-1, 3) for o in objects}
    for o in objects:
        parts = of_object(room, o)
        others = np.concatenate([points[i] for i in objects if i != o])
        assert not inside(parts, others, margin=0.008).any(), room.categories[o]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_floats(seed):
    """Every part touches the shell, or a part that does, or one that touches such a part, and so on."""
    room, near = room_of(seed), 0.008
    places = surface_points(room.parts)
    count = len(places)
    held = ((places < near) | (places > room.extent - near)).any(axis=(1, 2))
    owner = np.repeat(np.arange(count), places.shape[1])
    touches = np.zeros((count, count), dtype=bool)
    for p in range(count):
        one = Parts(*(a[p : p + 1] for a in vars(room.parts).values()))
        touches[p, owner[inside(one, places.reshape(-1, 3), margin=-near)]] = True
    touches |= touches.T
    while True:
        more = held | touches[held].any(axis=0)
        if (more == held).all():
            break
        held = more
    assert held.all(), [room.categories[room.parts.object[p]] for p in np.flatnonzero(~held)]


def test_a_door_can_be_walked_through():
    for seed in range(12):
        room = room_of(seed)
        for o in called(room, "door"):
            box = room.boxes[o]
            c, s = math.cos(box[6]), math.sin(box[6])
            ahead, aside = (a.reshape(-1) for a in np.meshgrid(np.linspace(0.15, 0.8, 8), np.linspace(-0.35, 0.35, 8)))
            for height in (0.3, 0.8, 1.4):
                x, y = box[0] + c * ahead - s * aside, box[1] + s * ahead + c * aside
                assert not inside(room.parts, np.stack([x, y, np.full(64, height)], axis=1)).any()


def test_heavy_furniture_has_its_back_to_a_wall():
    backed = []
    for seed in SEEDS:
        room = room_of(seed)
        for o in called(room, "bed", "couch", "toilet", "counter", "refrigerator", "bathtub", "bookshelf", "desk"):
            x, y, _, depth, _, _, heading = room.boxes[o]
            behind = np.array([x - math.cos(heading) * depth / 2, y - math.sin(heading) * depth / 2])
            backed.append(np.abs(np.concatenate([behind, room.extent[:2] - behind])).min() < 0.03)
    assert len(backed) > 40
    assert np.mean(backed) > 0.95


def test_pictures_hang_flat_on_a_wall_at_the_height_of_the_eyes():
    seen = 0
    for seed in SEEDS:
        room = room_of(seed)
        for x, y, z, thick, _, _, heading in room.boxes[called(room, "picture")].tolist():
            seen += 1
            to_wall = [x, y, room.extent[0] - x, room.extent[1] - y][round(heading / (math.pi / 2)) % 4]
            assert math.isclose(to_wall, thick / 2, abs_tol=1e-6)
            assert 1.4 < z < 1.7
    assert seen > 5


def test_pillows_lie_on_beds_and_sofas():
    seen = 0
    for seed in SEEDS:
        room = room_of(seed)
        beds = room.boxes[called(room, "bed", "couch")]
        for o in called(room, "pillow"):
            seen += 1
            assert any((np.abs(in_box(room.boxes[o, None, :3], bed)) < 1.1).all() for bed in beds)
    assert seen > 10


def test_chairs_at_a_table_face_it():
    facing, seen = 0, 0
    for seed in SEEDS:
        room = room_of(seed)
        tables = room.boxes[called(room, "table", "desk")]
        for x, y, _, _, _, _, heading in room.boxes[called(room, "chair", "office chair")].tolist():
            ahead = [
                in_box(np.array([[x + math.cos(heading) * d, y + math.sin(heading) * d, t[2]]]), t)
                for t in tables
                for d in (0.3, 0.6)
            ]
            near = [np.abs(in_box(np.array([[x, y, t[2]]]), t)[0] * t[3:6] / 2) - t[3:6] / 2 for t in tables]
            if any(n[:2].max() < 0.5 for n in near):
                seen += 1
                facing += any((np.abs(a) < 1.05).all() for a in ahead)
    assert seen > 50
    assert facing / seen > 0.85


# The knobs


def drawn(tail):
    counts, types = Counter(), list(SCENE_TYPES)
    for seed in range(300):
        counts.update(wanted(Draw(seed), types[seed % len(types)], tail, 16.0))
    return counts


def test_a_longer_tail_makes_common_classes_commoner_and_rare_ones_rarer():
    even, usual, long = (drawn(tail) for tail in (0.0, 1.0, 2.0))
    for kind in ("chair", "otherfurniture"):
        assert even[kind] < 0.8 * usual[kind] < 0.8 * long[kind]
    for kind in ("curtain", "picture"):
        assert even[kind] > 1.5 * usual[kind] > 1.5 * long[kind]
    assert set(RANKED) <= set(long)


def test_a_long_tail_shows_in_the_rooms():
    even, long = (Counter(n for s in range(15) for n in room_of(s, tail=t).categories) for t in (0.0, 2.0))
    assert long["chair"] + long["office chair"] > 1.5 * (even["chair"] + even["office chair"])
    assert long["curtain"] + long["picture"] < 0.7 * (even["curtain"] + even["picture"])


def test_without_a_tail_all_classes_weigh_the_same_but_for_where_they_are_at_home():
    assert weight_of("chair", 0.0) > weight_of("door", 0.0)  # doors are everywhere
    assert weight_of("toilet", 0.0) > weight_of("chair", 0.0)
    assert weight_of("toilet", 1.0) / weight_of("toilet", 0.0) == pytest.approx(
        1 / (1 + RANKED.index("toilet")), rel=1e-3
    )
    assert weight_of("shower curtain", 10.0) == 1  # never 0: it may still come


def touching_pairs(room):
    """How many pairs of furniture on the floor are closer than 2 cm, as their boxes go."""
    on_floor = [b for b in room.boxes[3:] if b[2] - b[5] / 2 < 0.02 and b[5] > 0.3]
    volumes = [
        Volume(b[0], b[1], math.cos(b[6]), math.sin(b[6]), b[3] / 2, b[4] / 2, (0, 1)).grown(0.01) for b in on_floor
    ]
    return sum(a.meets(b) for i, a in enumerate(volumes) for b in volumes[:i])


def test_touching_pushes_furniture_together():
    apart, together = (
        sum(touching_pairs(SynthRoom(s, RoomOptions(touching=t))) for s in range(12)) for t in (0.0, 1.0)
    )
    assert together > 1.5 * apart


def test_the_main_material_of_a_class_is_that_of_no_other_class():
    owners = {}
    for name, label in NYU40_OF_NAME.items():
        if name not in ("wall", "floor", "ceiling"):
            for role, patterns, colors in finish(name, "main"):
                for look in ((role, p, c) for p in patterns for c in colors):
                    owners.setdefault(look, set()).add(label)
    shared = {look: labels for look, labels in owners.items() if len(labels & set(CLASSES)) > 1}
    assert not shared


def test_cues_of_geometry_alone_give_all_furniture_the_same_materials():
    pool = {(role, p, c) for role, patterns, colors in POOL for p in patterns for c in colors}
    looks = {}
    for seed in range(12):
        room = room_of(seed, cues="geometry")
        furniture = room.parts.object > WALLS
        for material, o in zip(
            room.parts.material[furniture].tolist(), room.parts.object[furniture].tolist(), strict=True
        ):
            look = (material // 1000, material // 100 % 10, material // 10 % 10)
            assert look in pool
            looks.setdefault(room.nyu40[o], Counter())[material // 1000] += 1
    roles = {role for role, _, _ in POOL}
    assert set(looks[5]) == set(looks[7]) == roles  # chairs and tables have them all


def test_cues_of_appearance_alone_give_all_furniture_the_same_shapes():
    sizes = {}
    for seed in range(30):
        room = room_of(seed, cues="appearance")
        for o in range(3, len(room.nyu40)):
            sizes.setdefault(int(room.nyu40[o]), []).append(room.boxes[o, 3:6])
    assert set(CLASSES) <= set(sizes) | {1, 2}
    standing = [label for label in (3, 4, 5, 6, 7, 14, 39) if len(sizes[label]) > 15]
    assert len(standing) > 4
    usual = np.mean(np.concatenate([sizes[label] for label in standing]), axis=0)
    for label in standing:
        assert (np.abs(np.mean(sizes[label], axis=0) - usual) < 0.2).all()
    assert max(s[1] for s in sizes[4]) < 1.6  # no bed is as long as a bed


def test_cues_of_appearance_alone_keep_the_materials_of_the_class():
    for seed in range(6):
        room = room_of(seed, cues="appearance")
        for o in range(3, len(room.nyu40)):
            choices = finish(room.categories[o], "main")
            mains = {(r, p, c) for r, patterns, colors in choices for p in patterns for c in colors}
            seen = {(m // 1000, m // 100 % 10, m // 10 % 10) for m in of_object(room, o).material.tolist()}
            assert seen & mains


def test_the_style_changes_no_geometry():
    home, studio = room_of(3), room_of(3, style="studio")
    assert np.array_equal(home.parts.center, studio.parts.center)
    assert home.categories == studio.categories


# The pieces


@pytest.mark.parametrize("build", [*STANDING, *HANGING], ids=lambda b: b.__name__)
def test_a_piece_has_its_back_at_zero_and_stands_on_the_floor_or_hangs(build):
    for seed in range(5):
        maker = Maker(Draw(seed))
        build(maker)
        low, high = maker.piece.bounds()
        assert abs(low[0]) < 0.12  # a back may lean
        assert (abs(low[2]) < 1e-9) == (build in STANDING)
        assert max(high) < 2.3


def test_draws_are_integers_within_their_bounds():
    draw = Draw(1)
    assert {draw.integer(2, 4) for _ in range(100)} == {2, 3, 4}
    assert {draw.one_of("ab") for _ in range(50)} == {"a", "b"}
    assert sum(draw.chance(25) for _ in range(1000)) in range(200, 300)
    assert Counter(draw.weighted((3, 0, 1)) for _ in range(400)).keys() == {0, 2}
    assert [Draw(7, 1).integer(0, 10**6) for _ in range(2)] == [Draw(7, 1).integer(0, 10**6)] * 2
    assert Draw(7, 1).integer(0, 10**6) != Draw(7).integer(0, 10**6)


def test_quarter_turns_are_exact():
    assert [cosine_sine(0, q) for q in range(4)] == [(1, 0), (0, 1), (-1, 0), (0, -1)]
    assert Pose(1.0, 2.0, 0, 1).point(0.5, 0.25) == (0.75, 2.5)
    assert Pose(0, 0, 1000, 3).heading() == pytest.approx(1 - math.pi / 2)


def test_parts_meet_when_no_plane_parts_them():
    def bar(center, turn=UPRIGHT):
        return Solid(BOX, center, (1.0, 0.1, 0.1), turn, 0)

    c, s = cosine_sine(785)
    slanted = ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))
    assert solids_meet(bar((0, 0, 0)), bar((0, 0.19, 0)))
    assert not solids_meet(bar((0, 0, 0)), bar((0, 0.2, 0)))  # a touch is no overlap
    assert not solids_meet(bar((0, 0, 0)), bar((1.0, 1.0, 0), slanted))
    assert solids_meet(bar((0, 0, 0)), bar((0.9, 0.6, 0), slanted))
    standing = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    assert solids_meet(bar((0, 0, 0)), bar((0.5, 0.15, 0.5), standing))
    assert not solids_meet(bar((0, 0, 0)), bar((0.5, 0.25, 0.5), standing))


def test_a_piece_fits_where_nothing_is_and_not_where_something_is():
    floor = Floor(4.0, 3.0, 2.5)
    maker = Maker(Draw(0))
    maker.thing("box")
    maker.box((0, 1), (-0.5, 0.5), (0, 1))
    piece = maker.piece
    assert floor.fits(piece, Pose(1.0, 1.0))
    floor.put("box", piece, Pose(1.0, 1.0))
    assert not floor.fits(piece, Pose(1.5, 1.0))
    assert floor.fits(piece, Pose(2.0, 1.0))  # it touches
    assert not floor.fits(piece, Pose(2.0, 1.0), clear=0.1)
    assert floor.fits(piece, Pose(1.0, 1.0, z=1.0))  # on top of it
    assert not floor.fits(piece, Pose(3.5, 1.0))  # through the wall
    assert not floor.fits(piece, Pose(1.0, 1.0, z=1.6))  # through the ceiling
    assert [floor.at_wall(piece, wall, 1.0, 0.25)[:2] for wall in range(4)] == [
        (0.25, 1),
        (1, 0.25),
        (3.75, 1),
        (1, 2.75),
    ]


def test_the_bounds_of_parts_are_exact_for_round_ones():
    c, s = cosine_sine(500)
    lean = ((c, 0.0, -s), (0.0, 1.0, 0.0), (s, 0.0, c))
    low, high = bounds_of([Solid(CYLINDER, (0.0, 0.0, 0.0), (0.3, 0.2, 1.0), lean, 0)])
    assert high == pytest.approx([0.3 * c + s, 0.2, 0.3 * s + c])
    assert low == pytest.approx([-h for h in high])
