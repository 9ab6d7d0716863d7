"""Is the mesh of a synthetic room what a scan could be? On the surfaces, open to the room, labelled, and complete."""

import math

import numpy as np
import pytest
from synth_by_hand import camera_at, room_of

from pyproj2d3d.data.synth import RoomOptions
from pyproj2d3d.data.synth.materials import CLOTH, GLASS, WOOD, material
from pyproj2d3d.data.synth.parts import BOX, CEILING, CYLINDER, ELLIPSOID, FLOOR, WALLS
from pyproj2d3d.data.synth.surface import box_piece, cylinder_piece, ellipsoid_piece
from pyproj2d3d.data.synth.trace import inside

OAK = material(WOOD)
TURNED = [[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]
HALVES = [(0.4, 0.6, 0.02), (0.3, 0.3, 0.3), (0.02, 0.02, 0.35), (0.0005, 0.2, 0.3)]
each_half = pytest.mark.parametrize("half", HALVES, ids=str)
each_piece = pytest.mark.parametrize("piece", [box_piece, cylinder_piece, ellipsoid_piece])


def furnished(spacing=0.05, **chosen):
    """A table with a vase on it, a turned chest against the wall with a ball half inside, and a stool at the chest."""
    parts = [
        (BOX, (1.5, 2.0, 0.72), (0.5, 0.7, 0.02), OAK),
        (CYLINDER, (1.5, 2.0, 0.35), (0.05, 0.05, 0.35), OAK),  # the table's leg: from the floor up to its top
        (CYLINDER, (1.4, 2.2, 0.84), (0.06, 0.06, 0.1), material(CLOTH)),
        (BOX, (3.0, 3.5, 0.4), (0.5, 0.3, 0.4), OAK, TURNED),
        (ELLIPSOID, (3.0, 3.5, 0.8), (0.2, 0.2, 0.15), material(CLOTH, 1)),
        (BOX, (0.2, 4.0, 0.5), (0.2, 0.5, 0.5), OAK),  # its back is against the wall at x = 0
        (BOX, (1.0, 0.01, 1.5), (0.4, 0.01, 0.3), material(GLASS)),
    ]
    return room_of(*parts, options=RoomOptions(spacing=spacing, **chosen))


@pytest.fixture(scope="module")
def room():
    return furnished()


@pytest.fixture(scope="module")
def mesh(room):
    return room.mesh()


def beyond(room, points, part):
    """(n,) metres, at least, by which points are off the surface of a part; negative inside of it."""
    p = room.parts
    x, y, z = ((points - p.center[part]) @ p.world_from_part[part] / p.half[part]).T
    if p.shape[part] == BOX:
        unit = np.maximum(np.maximum(abs(x), abs(y)), abs(z))
    elif p.shape[part] == CYLINDER:
        unit = np.maximum(np.sqrt(x * x + y * y), abs(z))
    else:
        unit = np.sqrt(x * x + y * y + z * z)
    return (unit - 1) * p.half[part].min()


def edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def cross(vertices, faces):
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def test_a_box_of_two_by_one_by_one_squares_has_six_grids_joined_by_strips():
    piece = box_piece(np.array([0.1, 0.05, 0.05]), 0.1)
    assert len(piece.vertices) == 2 * 4 + 4 * 6  # two faces of one square, four of two
    squares, strips, corners = 2 * 1 + 4 * 2, 8 * 1 + 4 * 2, 8
    assert len(piece.faces) == 2 * (squares + strips) + corners
    top = piece.vertices[piece.normals[:, 2] == 1]
    assert np.unique(top[:, 0]).round(9).tolist() == [-0.098, 0.0, 0.098]  # the last row stays 2 mm inside the face
    assert (top[:, 2] == 0.05).all()


@each_piece
@each_half
def test_the_mesh_of_a_solid_is_closed_and_its_faces_turn_outwards(piece, half):
    made = piece(np.array(half), 0.05)
    there = {tuple(edge) for edge in edges(made.faces).tolist()}
    assert len(there) == 3 * len(made.faces)  # no edge is walked twice in the same sense
    assert {(b, a) for a, b in there} == there  # and each is walked back
    assert len(made.vertices) - len(there) // 2 + len(made.faces) == 2  # Euler: it is a sphere
    area = cross(made.vertices, made.faces)
    assert (np.linalg.norm(area, axis=1) > 1e-9).all()
    assert ((made.vertices[made.faces].mean(axis=1) * area).sum(axis=1) > 0).all()


@each_piece
@each_half
def test_normals_are_unit_and_point_outwards(piece, half):
    made = piece(np.array(half), 0.05)
    np.testing.assert_allclose(np.linalg.norm(made.normals, axis=1), 1, atol=1e-12)
    assert ((made.normals * made.vertices).sum(axis=1) > 0).all()
    assert ((made.normals[made.faces].mean(axis=1) * cross(made.vertices, made.faces)).sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("piece", "share"),
    [(box_piece, 8.0), (cylinder_piece, 2 * math.pi), (ellipsoid_piece, 4 / 3 * math.pi)],
    ids=["box", "cylinder", "ellipsoid"],
)
def test_the_mesh_of_a_solid_encloses_its_volume(piece, share):
    half = np.array([0.5, 0.3, 0.4])
    made = piece(half, 0.02)
    a, b, c = (made.vertices[made.faces[:, k]] for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6
    assert 0.985 < volume / (share * half.prod()) < 1


@pytest.mark.parametrize(("piece", "most"), [(box_piece, 1.42), (cylinder_piece, 2.2), (ellipsoid_piece, 1.55)])
@pytest.mark.parametrize("spacing", [0.02, 0.05, 0.3])
def test_no_two_neighbours_are_farther_apart_than_the_diagonal_of_a_square(piece, most, spacing):
    """Of squares that are bent into a disc those at its four corners are drawn out to twice that."""
    made = piece(np.array([0.25, 0.3, 0.35]), spacing)
    a, b = edges(made.faces).T
    longest = np.linalg.norm(made.vertices[a] - made.vertices[b], axis=1).max()
    assert 0.5 * spacing < longest <= most * spacing


def test_the_sides_of_a_box_keep_their_own_normals_up_to_the_edge():
    normals = box_piece(np.array([0.3, 0.2, 0.1]), 0.05).normals
    assert (np.sort(np.abs(normals), axis=1) == [0, 0, 1]).all()


def test_every_vertex_lies_on_the_surface_of_its_own_object(room, mesh):
    for part in range(len(room.parts)):
        of = mesh.object == room.parts.object[part]
        assert of.sum() > 20
        np.testing.assert_allclose(beyond(room, mesh.vertices[of], part), 0, atol=1e-12)
    on = {FLOOR: (2, 0.0), CEILING: (2, 2.5)}
    for of, (axis, plane) in on.items():
        assert (mesh.vertices[mesh.object == of, axis] == plane).all()
    walls = mesh.vertices[mesh.object == WALLS, :2]
    assert np.isin(walls, [0.0, 4.0, 5.0]).any(axis=1).all()


def test_no_vertex_is_inside_of_another_part_or_outside_of_the_room(room, mesh):
    assert not inside(room.parts, mesh.vertices, margin=1e-4).any()
    assert (mesh.vertices >= 0).all()
    assert (mesh.vertices <= room.extent).all()


def test_what_rests_on_something_is_not_there(mesh):
    level = np.abs(mesh.normals[:, 2]) > 0.99
    x, y, z = mesh.vertices.T
    off_leg = np.hypot(x - 1.5, y - 2.0)
    assert off_leg[level & (mesh.object == FLOOR)].min() >= 0.05  # the floor under the table's leg
    assert off_leg[(mesh.object == 3) & (mesh.normals[:, 2] < 0)].min() >= 0.05  # the table's underside above it
    assert not (level & (mesh.object == 4)).any()  # both ends of the leg
    off_vase = np.hypot(x - 1.4, y - 2.2)
    assert off_vase[(mesh.object == 3) & (mesh.normals[:, 2] > 0)].min() >= 0.06
    assert not ((mesh.object == 8) & (mesh.normals[:, 0] < -0.5)).any()  # a chest's back against the wall
    assert not ((x == 0) & (mesh.object == WALLS) & (y > 3.5) & (y < 4.5) & (z < 1)).any()  # and the wall behind it
    assert (z[(mesh.object == 7)] >= 0.8).all()  # a ball half sunk into a chest


def test_every_vertex_has_a_face_and_every_face_an_area_and_one_object(mesh):
    assert np.unique(mesh.faces).tolist() == list(range(len(mesh.vertices)))
    area = cross(mesh.vertices, mesh.faces)
    assert (np.linalg.norm(area, axis=1) > 1e-9).all()
    assert ((mesh.normals[mesh.faces].mean(axis=1) * area).sum(axis=1) > 0).all()
    of = mesh.object[mesh.faces]
    of_shell = (of <= CEILING).all(axis=1)  # whose floor, walls and ceiling are joined
    assert (of_shell | (of == of[:, :1]).all(axis=1)).all()


def test_normals_point_into_the_room(mesh):
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-12)
    shell = mesh.object <= CEILING
    towards_middle = np.array([2.0, 2.5, 1.25]) - mesh.vertices
    assert ((towards_middle * mesh.normals).sum(axis=1)[shell] > 0).all()
    assert (mesh.normals[mesh.object == FLOOR] == [0, 0, 1]).all()
    assert (mesh.normals[mesh.object == CEILING] == [0, 0, -1]).all()


def test_a_mesh_has_the_types_that_were_promised(mesh):
    assert (mesh.vertices.dtype, mesh.normals.dtype, mesh.colors.dtype) == (np.float64, np.float64, np.uint8)
    assert (mesh.faces.dtype, mesh.object.dtype) == (np.int64, np.int64)
    n = len(mesh.vertices)
    assert (mesh.vertices.shape, mesh.normals.shape, mesh.colors.shape) == ((n, 3), (n, 3), (n, 3))
    assert mesh.object.shape == (n,)


@pytest.mark.parametrize("spacing", [0.05, 0.1])
def test_the_open_floor_has_a_vertex_in_about_every_square(spacing):
    mesh = room_of(options=RoomOptions(spacing=spacing)).mesh()
    floor = (mesh.object == FLOOR).sum()
    assert 1 <= floor / (4 * 5 / spacing**2) < 1.08
    a, b = edges(mesh.faces).T
    assert np.linalg.norm(mesh.vertices[a] - mesh.vertices[b], axis=1).max() < 2.3 * spacing  # with the jitter


def test_no_vertex_floats_before_the_surfaces_that_a_camera_sees_and_many_are_seen(room, mesh):
    camera = camera_at((3.5, 0.8, 1.6), (-0.55, 0.7, -0.3))
    seen = room.render(camera, 0)
    k, pose = camera.intrinsics[0].numpy(), camera.world_from_camera[0].numpy()
    x, y, z = ((mesh.vertices - pose[:3, 3]) @ pose[:3, :3]).T
    ahead = z > 0.1
    column = np.floor(k[0, 0] * x[ahead] / z[ahead] + k[0, 2] + 0.5).astype(int)
    row = np.floor(k[1, 1] * y[ahead] / z[ahead] + k[1, 2] + 0.5).astype(int)
    within = (column >= 0) & (column < 160) & (row >= 0) & (row < 120)
    behind = z[ahead][within] - seen.depth[row[within], column[within]]
    labels = mesh.object[ahead][within] == seen.object[row[within], column[within]]
    open_ = np.abs(behind) < 0.03
    assert open_.mean() > 0.5
    assert labels[open_].mean() > 0.97
    assert (behind < -0.05).mean() < 0.02  # a pixel beside the edge of something near
    assert labels[behind < -0.05].mean() < 0.5


def test_every_place_that_a_camera_sees_has_a_vertex_close_by(room, mesh):
    camera = camera_at((3.5, 0.8, 1.6), (-0.55, 0.7, -0.3), size=(24, 32), focal=24.0)
    depth = room.render(camera, 0).depth
    k, pose = camera.intrinsics[0].numpy(), camera.world_from_camera[0].numpy()
    row, column = (i.reshape(-1) for i in np.indices(depth.shape))
    ray = np.stack([(column - k[0, 2]) / k[0, 0], (row - k[1, 2]) / k[1, 1], np.ones(len(row))], axis=1)
    place = (ray * depth.reshape(-1, 1)) @ pose[:3, :3].T + pose[:3, 3]
    nearest = np.array([np.sqrt(((mesh.vertices - p) ** 2).sum(axis=1).min()) for p in place])
    assert nearest.max() < 2 * 0.05  # faces that are partly buried are left out whole
    assert np.median(nearest) < 0.5 * 0.05


def test_a_room_gives_the_same_mesh_twice_and_another_seed_other_places_within_the_faces():
    one, two = furnished().mesh(), furnished().mesh()
    for name in ("vertices", "faces", "normals", "colors", "object"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    other = room_of(seed=1, options=RoomOptions(spacing=0.1)).mesh()
    same = room_of(seed=0, options=RoomOptions(spacing=0.1)).mesh()
    assert np.array_equal(other.faces, same.faces)
    assert not np.array_equal(other.vertices, same.vertices)


def test_an_empty_room_is_a_closed_shell():
    mesh = room_of(options=RoomOptions(spacing=0.2)).mesh()
    assert set(mesh.object.tolist()) == {FLOOR, WALLS, CEILING}
    there = {tuple(edge) for edge in edges(mesh.faces).tolist()}
    assert {(b, a) for a, b in there} == there


def test_a_part_that_is_all_inside_of_another_leaves_no_vertex():
    room = room_of((BOX, (2, 2, 0.5), (0.5, 0.5, 0.5), OAK), (ELLIPSOID, (2, 2, 0.5), (0.2, 0.2, 0.2), OAK))
    mesh = room.mesh()
    assert set(mesh.object.tolist()) == {FLOOR, WALLS, CEILING, 3}


def test_a_part_that_sticks_out_of_the_room_ends_at_the_wall():
    mesh = room_of((BOX, (0.1, 2, 1), (0.3, 0.2, 0.2), OAK)).mesh()
    part = mesh.vertices[mesh.object == 3]
    assert part[:, 0].min() > 0
    assert part[:, 0].max() == 0.4
