"""Does a synthetic room look like one? Materials told apart in two styles, patterns, light, and one colour a place."""

import numpy as np
import pytest
from synth_by_hand import camera_at, room_of

from pyproj2d3d.data.synth import RoomOptions, materials
from pyproj2d3d.data.synth.materials import (
    CLOTH,
    GLASS,
    LEATHER,
    PATTERNS,
    PLASTIC,
    STYLES,
    WOOD,
    material,
    own_color,
)
from pyproj2d3d.data.synth.paint import light_of, paint, shell_materials
from pyproj2d3d.data.synth.parts import BOX, CEILING, CYLINDER, ELLIPSOID, FLOOR, WALLS
from pyproj2d3d.data.synth.trace import surface

each_style = pytest.mark.parametrize("style", list(STYLES))
PLAIN = material(PLASTIC)
ALL = [(role, pattern) for role, names in PATTERNS.items() for pattern in range(len(names))]


def painted(room, part, n=60, footprint=0.0, around=None):
    """(n, n, 3) colours of the upper face of a part, or of a square on the floor about a place; and where they are."""
    if part == len(room.parts):
        center, half, z = np.array(around), np.array([0.5, 0.5]), 0.0
    else:
        center, half = room.parts.center[part], room.parts.half[part]
        z = center[2] + half[2]
    at = ((np.arange(n) + 0.5) / n * 2 - 1) * 0.99
    x, y = np.meshgrid(center[0] + at * half[0], center[1] + at * half[1], indexing="ij")
    points = np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3)
    of = np.full(len(points), part)
    local, normals, _ = surface(room.parts, room.extent, points, of)
    return paint(room, points, of, local, normals, footprint).reshape(n, n, 3)


def tables(style, *of):
    """A room with a table top of each material, side by side under the same light."""
    parts = [(BOX, (1 + 0.9 * (i % 6), 1 + 0.9 * (i // 6), 0.5), (0.4, 0.35, 0.1), m) for i, m in enumerate(of)]
    return room_of(*parts, options=RoomOptions(style=style), extent=(8.0, 10.0, 2.5))


def box_scene(**chosen):
    return room_of(
        (BOX, (2.0, 2.5, 0.3), (0.4, 0.5, 0.3), material(CLOTH, 1, 0)),
        (CYLINDER, (2.0, 2.5, 0.75), (0.15, 0.15, 0.15), material(WOOD, 1, 2)),
        (ELLIPSOID, (2.9, 2.5, 0.3), (0.3, 0.3, 0.3), material(LEATHER, 0, 0)),
        options=RoomOptions(**chosen),
    )


# Materials


def test_a_material_holds_its_role_pattern_colour_and_tone():
    assert material(CLOTH, 2, 4, 7) == 3247
    assert own_color(3247, "home") == STYLES["home"].palettes[CLOTH][4]
    assert own_color(material(GLASS, 0, 4), "home") == STYLES["home"].palettes[GLASS][1]  # of three colours


def test_every_role_has_patterns_and_colours_in_both_styles():
    roles = {v for k, v in vars(materials).items() if k.isupper() and isinstance(v, int)}
    assert roles == set(PATTERNS) == set(STYLES["home"].palettes) == set(STYLES["studio"].palettes)


@each_style
def test_every_pattern_of_every_role_shows_something_that_is_not_all_alike(style):
    room = tables(style, *(material(role, pattern, 1) for role, pattern in ALL))
    for i, (role, pattern) in enumerate(ALL):
        color = painted(room, i).astype(float)
        name = f"{role} {PATTERNS[role][pattern]}"
        assert color.reshape(-1, 3).std(axis=0).max() > 0.8, name
        assert 10 < color.mean() < 245, name
        assert len(np.unique(color.reshape(-1, 3), axis=0)) > 8, name


@pytest.mark.parametrize("shape", [BOX, CYLINDER, ELLIPSOID])
def test_every_shape_takes_every_role(shape):
    roles = list(PATTERNS)
    parts = [
        (shape, (0.5 + 0.7 * (i % 5), 0.5 + 0.8 * (i // 5), 0.3), (0.2, 0.3, 0.25), material(r))
        for i, r in enumerate(roles)
    ]
    mesh = room_of(*parts, options=RoomOptions(spacing=0.05)).mesh()
    for i, role in enumerate(roles):
        color = mesh.colors[mesh.object == 3 + i].astype(float)
        assert color.std(axis=0).max() > 1, role
        assert 5 < color.mean() < 250, role


@each_style
def test_colours_of_one_role_are_told_apart(style):
    n = len(STYLES[style].palettes[CLOTH])
    room = tables(style, *(material(CLOTH, 0, color) for color in range(n)))
    mean = np.array([painted(room, i).reshape(-1, 3).mean(axis=0) for i in range(n)])
    distance = np.linalg.norm(mean[:, None] - mean, axis=-1)[~np.eye(n, dtype=bool)]
    assert distance.min() > 15


def test_an_object_keeps_its_colour_index_and_pattern_in_the_other_style_but_not_its_looks():
    of = [material(CLOTH, 2, 0), material(CLOTH, 0, 0), material(WOOD, 0, 1)]
    home, studio = (
        [painted(room, i).astype(float) for i in range(3)]
        for room in (tables(style, *of) for style in ("home", "studio"))
    )
    for one, other in zip(home, studio, strict=True):
        assert np.linalg.norm(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))) > 25

    def turns(stripes):  # how often the brightness crosses its mean on the way across
        bright = stripes.mean(axis=(1, 2)) > stripes.mean()
        return (bright[1:] != bright[:-1]).sum()

    assert turns(home[0]) > 4
    assert turns(studio[0]) > 1.5 * turns(home[0])  # finer


def test_home_is_warm_and_studio_is_not():
    camera = camera_at((3.6, 0.5, 1.6), (-0.6, 0.7, -0.2))
    warmth = {}
    for style in STYLES:
        red, _, blue = box_scene(style=style).render(camera, 0).color.reshape(-1, 3).mean(axis=0)
        warmth[style] = red - blue
    assert warmth["home"] > 30
    assert warmth["studio"] < 5


def test_the_grain_of_wood_runs_along_the_longer_side():
    parts = [(BOX, (2, 2.5, 0.5), half, material(WOOD)) for half in ((0.7, 0.3, 0.02), (0.3, 0.7, 0.02))]
    for part, along in zip(parts, (0, 1), strict=True):
        color = painted(room_of(part), 0, n=200).astype(float).mean(axis=2)
        change = [np.abs(np.diff(color, axis=axis)).mean() for axis in (0, 1)]
        assert change[1 - along] > 3 * change[along]


@each_style
def test_coarse_pixels_see_the_mean_of_a_pattern(style):
    of = [material(CLOTH, pattern, 0) for pattern in range(5)] + [material(WOOD, 0, 0), material(PLASTIC, 1, 1)]
    room = tables(style, *of)
    for i in range(len(of)):
        fine, coarse = (painted(room, i, n=120, footprint=f).astype(float)[12:-12, 12:-12] for f in (0.0, 0.5))
        np.testing.assert_allclose(coarse.mean(axis=(0, 1)), fine.mean(axis=(0, 1)), rtol=0.12, atol=3)
        assert np.abs(np.diff(coarse, axis=0)).mean() < 0.35 * np.abs(np.diff(fine, axis=0)).mean() + 0.15


def test_a_book_that_lies_shows_its_cover_and_a_row_of_books_shows_pages():
    of = material(materials.BOOKS)
    lying = (BOX, (1, 1, 0.5), (0.09, 0.12, 0.02), of)
    row = (BOX, (2, 2, 0.5), (0.4, 0.1, 0.12), of)
    cover, pages = (painted(room_of(lying, row), i).astype(float)[20:-20, 20:-20] for i in range(2))
    assert np.abs(np.diff(cover, axis=0)).mean() < 0.5
    assert np.abs(np.diff(pages, axis=0)).mean() > 3


# A place has one colour


def test_the_colour_of_a_place_does_not_depend_on_the_others():
    room, camera = box_scene(), camera_at((3.6, 0.5, 1.6), (-0.6, 0.7, -0.2))
    whole = room.render(camera, 0).color
    corner = camera.cropped(30, 40, 50, 60)
    assert np.array_equal(room.render(corner, 0).color, whole[30:80, 40:100])


@each_style
def test_the_mesh_has_the_colours_of_the_picture(style):
    room = box_scene(style=style, spacing=0.03)
    mesh, camera = room.mesh(), camera_at((3.6, 0.5, 1.6), (-0.6, 0.7, -0.4))
    seen = room.render(camera, 0)
    k, pose = camera.intrinsics[0].numpy(), camera.world_from_camera[0].numpy()
    x, y, z = ((mesh.vertices - pose[:3, 3]) @ pose[:3, :3]).T
    z = np.where(z > 0.1, z, np.inf)
    column, row = (
        np.floor(f * a / z + c + 0.5).astype(int) for f, a, c in ((k[0, 0], x, k[0, 2]), (k[1, 1], y, k[1, 2]))
    )
    within = np.isfinite(z) & (column >= 0) & (column < 160) & (row >= 0) & (row < 120)
    row, column = row[within], column[within]
    open_ = (np.abs(seen.depth[row, column] - z[within]) < 0.02) & (seen.object[row, column] == mesh.object[within])
    difference = np.abs(seen.color[row, column].astype(float) - mesh.colors[within])[open_]
    assert open_.sum() > 3000
    assert np.median(difference) < 6
    assert np.mean(difference) < 15  # where patterns have edges


def test_a_picture_is_the_same_twice():
    camera = camera_at((3.6, 0.5, 1.6), (-0.6, 0.7, -0.2))
    assert np.array_equal(box_scene().render(camera, 0).color, box_scene().render(camera, 0).color)


# The shell


def test_a_bathroom_is_tiled_and_rooms_differ():
    bath = shell_materials(room_of(scene_type="bathroom"))
    assert [materials.PATTERNS[m // 1000][m // 100 % 10] for m in bath] == ["tiles", "tiles", "plaster"]
    assert len({tuple(shell_materials(room_of(seed=s)).tolist()) for s in range(20)}) > 15


def test_a_block_of_wall_in_a_corner_is_papered_like_the_walls():
    room = room_of((BOX, (0.5, 0.5, 1.25), (0.5, 0.5, 1.25), material(materials.WALL)), seed=3)
    room.parts.object[0] = WALLS
    mesh = room.mesh()
    block = (mesh.vertices[:, :2] <= 1).all(axis=1) & (mesh.vertices[:, 2] > 0.2) & (mesh.object == WALLS)
    wall = (mesh.vertices[:, 0] == 4) & (mesh.vertices[:, 2] > 0.2)
    tint = [mesh.colors[of].mean(axis=0) / mesh.colors[of].mean() for of in (block, wall)]
    np.testing.assert_allclose(*tint, atol=0.03)


def test_floor_walls_and_ceiling_are_three_materials():
    assert [m // 1000 for m in shell_materials(room_of())] == [
        materials.FLOOR_COVER,
        materials.WALL,
        materials.CEILING_COVER,
    ]
    assert (FLOOR, WALLS, CEILING) == (0, 1, 2)


# Light


def test_it_is_darker_under_a_table_and_in_a_corner():
    room = room_of((BOX, (2.0, 2.5, 0.6), (0.7, 0.7, 0.03), PLAIN))

    def light(x, y):
        return light_of(room).at(np.float32([[x], [y], [0]]), np.float32([[0], [0], [1]])).mean()

    assert light(2.0, 2.5) < 0.75 * light(2.0, 1.2)
    assert light(0.05, 0.05) < 0.85 * light(1.0, 1.0)


def test_what_faces_the_lamps_is_brighter_than_what_looks_down():
    room, place = room_of(), np.float32([[2.0], [2.5], [1.0]])
    up, down = (light_of(room).at(place, np.float32([[0], [0], [z]])).mean() for z in (1, -1))
    assert up > 1.4 * down > 0


def test_a_window_is_bright_in_any_light_and_lights_the_room():
    pane = (BOX, (0.01, 2.5, 1.4), (0.01, 0.6, 0.5), material(GLASS))
    lit, unlit = room_of(pane), room_of()
    place, up = np.float32([[1.0], [2.5], [0.0]]), np.float32([[0], [0], [1]])
    assert light_of(lit).at(place, up).mean() > 1.05 * light_of(unlit).at(place, up).mean()
    camera = camera_at((2.5, 2.5, 1.4), (-1, 0, 0))
    assert lit.render(camera, 0).color[60, 70].mean() > 150


def test_places_at_the_lamps_and_in_the_corners_of_the_room_have_finite_light():
    room = room_of()
    corners = np.float32([[x, y, z] for x in (0, 4) for y in (0, 5) for z in (0, 2.5)]).T
    lamps = np.float32([[2.0, y * 5, 2.1] for y in (0.27, 0.73)]).T
    for places in (corners, lamps):
        found = light_of(room).at(places, np.tile(np.float32([[0], [0], [1]]), places.shape[1]))
        assert np.isfinite(found).all()
        assert (found > 0).all()
