"""Are the synthetic rooms exact? Depth one can work out by hand, then against a tracer that tries everything."""

import math
import zlib

import numpy as np
import pytest
import torch

from pyproj2d3d import Camera
from pyproj2d3d.data.synth import RoomOptions, SynthRoom
from pyproj2d3d.data.synth.furniture import about_y, about_z, product
from pyproj2d3d.data.synth.parts import BOX, CEILING, CYLINDER, ELLIPSOID, FLOOR, WALLS, Parts
from pyproj2d3d.data.synth.path import clearance, obstacles
from pyproj2d3d.data.synth.room import lifted
from pyproj2d3d.data.synth.trace import inside, surface, trace

EXTENT = np.array([4.0, 5.0, 3.0])
SMALL = RoomOptions(size=(60, 80))


def parts_of(*rows):
    """From (shape, centre, half sizes, rotation) each."""
    shape, center, half, turn = zip(*rows, strict=True)
    count = np.arange(len(rows))
    return Parts(
        np.array(shape), np.array(center, float), np.array(half, float), np.array(turn, float), count + 3, count
    )


NONE = Parts(
    np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0, int), np.zeros(0, int)
)


def looking_along_x(place, size=(61, 81), focal=50.0):
    """Intrinsics whose middle pixel looks exactly along x, and the pose."""
    intrinsics = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3] = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0], place], float).T
    return intrinsics, pose, size


def soup(seed, n=60):
    """Parts of all shapes with any turn, anywhere in the room."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        turn = product(about_z(int(random.integers(0, 6283))), about_y(int(random.integers(-1500, 1500))))
        half = random.uniform(0.02, 0.35, 3)
        rows.append((k % 3, random.uniform(0.2, EXTENT - 0.2), half, turn))
    return parts_of(*rows)


def views_of(room, size=(60, 80)):
    camera = room.camera().resized(size)
    for v in range(len(camera)):
        yield camera.intrinsics[v].numpy(), camera.world_from_camera[v].numpy(), size


def brute_force(parts, extent, origin, ray):
    """z and part of the first hit of one ray, by the textbook: every part, every root, every face."""
    found = []
    for axis in range(3):
        if ray[axis]:
            found.append((max(-origin[axis] / ray[axis], (extent[axis] - origin[axis]) / ray[axis]), len(parts)))
    found = [min(found)]
    for p in range(len(parts)):
        inverse = np.linalg.inv(parts.world_from_part[p] @ np.diag(parts.half[p]))
        o, d = inverse @ (origin - parts.center[p]), inverse @ ray
        roots = []
        if parts.shape[p] == BOX:
            roots = [(s - o[k]) / d[k] for k in range(3) for s in (-1, 1) if d[k]]
        else:
            round_ = slice(0, 3 if parts.shape[p] == ELLIPSOID else 2)
            a, b, c = d[round_] @ d[round_], 2 * o[round_] @ d[round_], o[round_] @ o[round_] - 1
            if a and b * b >= 4 * a * c:
                roots = [(-b + s * math.sqrt(b * b - 4 * a * c)) / (2 * a) for s in (-1, 1)]
            if parts.shape[p] == CYLINDER and d[2]:
                roots += [(s - o[2]) / d[2] for s in (-1, 1)]
        on = [t for t in roots if t > 0 and beyond(parts.shape[p], o + t * d) < 1e-9]
        if on and beyond(parts.shape[p], o) > 0:
            found.append((min(on), p))
    return sorted(found)


def beyond(shape, unit):
    """Below 0 inside of a unit solid, 0 on its surface."""
    x, y, z = np.abs(unit)
    if shape == BOX:
        return max(x, y, z) - 1
    return max(math.hypot(x, y), z) - 1 if shape == CYLINDER else math.sqrt(x * x + y * y + z * z) - 1


def assert_as_brute_force(parts, extent, intrinsics, pose, size, pixels, seed):
    hits = trace(parts, extent, intrinsics, pose, size)
    random = np.random.default_rng(seed)
    for v, u in zip(random.integers(0, size[0], pixels), random.integers(0, size[1], pixels), strict=True):
        ray = pose[:3, :3] @ np.linalg.inv(intrinsics) @ np.array([u, v, 1.0])
        found = brute_force(parts, extent, pose[:3, 3], ray)
        assert math.isclose(hits.z[v, u], found[0][0], rel_tol=1e-7), (v, u, found[:2])
        assert hits.part[v, u] in [p for z, p in found if z < found[0][0] + 1e-6]


def test_the_wall_ahead_is_as_deep_as_it_is_far_and_depth_is_not_the_length_of_the_ray():
    hits = trace(NONE, EXTENT, *looking_along_x((1.0, 2.5, 1.5)))
    assert hits.z[30, 40] == 3.0  # the wall is at x = 4
    assert (hits.z[30] == 3.0).all()  # also at the side, where the ray is longer
    assert math.isclose(hits.z[0, 40], 1.5 / (30 / 50))  # up to the ceiling
    assert (hits.part == 0).all()


@pytest.mark.parametrize(
    ("shape", "axis", "z"),
    [(BOX, about_z(0), 1.7), (ELLIPSOID, about_z(0), 1.7), (CYLINDER, about_z(0), 1.7), (CYLINDER, about_y(1571), 1.5)],
    ids=["box", "ellipsoid", "side of a cylinder", "cap of a cylinder"],
)
def test_a_part_in_the_way_is_nearer_by_its_half_size(shape, axis, z):
    parts = parts_of((shape, (3.0, 2.5, 1.5), (0.3, 0.2, 0.5), axis))
    hits = trace(parts, EXTENT, *looking_along_x((1.0, 2.5, 1.5)))
    assert hits.part[30, 40] == 0
    assert math.isclose(hits.z[30, 40], z, rel_tol=1e-6)  # 2 m to its centre
    assert hits.part[0, 0] == 1  # past it


def test_the_outline_of_a_box_is_where_its_corners_project():
    parts = parts_of((BOX, (3.0, 2.5, 1.5), (0.5, 0.31, 0.52), about_z(0)))
    seen = trace(parts, EXTENT, *looking_along_x((1.0, 2.5, 1.5), size=(101, 101), focal=100.0)).part == 0
    rows, columns = np.nonzero(seen)  # its front is 1.5 m ahead
    assert (columns.min() - 50, columns.max() - 50) == (-math.floor(31 / 1.5), math.floor(31 / 1.5))
    assert (rows.min() - 50, rows.max() - 50) == (-math.floor(52 / 1.5), math.floor(52 / 1.5))
    assert seen[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_the_nearer_of_two_parts_hides_the_other_whatever_their_order():
    near, far = ((BOX, (x, 2.5, 1.5), (0.1, 0.4, 0.4), about_z(0)) for x in (2.0, 3.0))
    for parts, first in ((parts_of(near, far), 0), (parts_of(far, near), 1)):
        hits = trace(parts, EXTENT, *looking_along_x((1.0, 2.5, 1.5)))
        assert hits.part[30, 40] == first
        assert math.isclose(hits.z[30, 40], 0.9)


@pytest.mark.parametrize("seed", range(4))
def test_any_parts_at_any_turn_are_hit_as_by_brute_force(seed):
    random, parts = np.random.default_rng(seed), soup(seed)
    intrinsics = np.array([[55.0, 0, 41.3], [0, 48.0, 28.9], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0]
    pose[:3, 3] = random.uniform(0.3, EXTENT - 0.3)  # near some and inside others
    assert_as_brute_force(parts, EXTENT, intrinsics, pose, (60, 80), 120, seed)


def test_a_pose_that_is_not_orthonormal_and_a_mirrored_image_are_hit_as_by_brute_force():
    random = np.random.default_rng(5)
    intrinsics = np.array([[-55.0, 0, 41.3], [0, 48.0, 28.9], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(random.normal(size=(3, 3)))[0] + random.normal(size=(3, 3)) * 0.05
    pose[:3, 3] = EXTENT / 2
    assert_as_brute_force(soup(5), EXTENT, intrinsics, pose, (60, 80), 120, 5)


@pytest.mark.parametrize("seed", [1, 4, 6])
def test_a_room_is_seen_as_by_brute_force(seed):
    room = SynthRoom(seed, RoomOptions(frames=24, size=(60, 80)))
    for i, (intrinsics, pose, size) in enumerate(views_of(room)):
        if i % 8 == 0:
            assert_as_brute_force(room.parts, room.extent, intrinsics, pose, size, 25, i)


def test_every_hit_lies_on_its_part_and_its_normal_faces_the_camera():
    for parts, extent, view in (
        (soup(7), EXTENT, looking_along_x((0.4, 2.5, 1.5), size=(120, 160), focal=90.0)),
        *((r.parts, r.extent, next(views_of(r, (120, 160)))) for r in (SynthRoom(2, SMALL),)),
    ):
        intrinsics, pose, size = view
        hits = trace(parts, extent, intrinsics, pose, size)
        points, part = lifted(hits.z, intrinsics, pose), hits.part.reshape(-1)
        local, normals, object = surface(parts, extent, points, part)
        on_shell = part == len(parts)
        assert 0.05 < on_shell.mean() < 0.95
        for i in np.flatnonzero(~on_shell)[::37]:
            assert abs(beyond(parts.shape[part[i]], local[i])) < 1e-7
        assert np.abs(np.abs(local[on_shell] - 0.5).max(axis=1) - 0.5).max() < 1e-9
        assert np.allclose((normals**2).sum(axis=1), 1)
        facing = (normals * (points - pose[:3, 3])).sum(axis=1)
        assert (facing < 1e-6).all()
        assert (object[~on_shell] == parts.object[part[~on_shell]]).all()


def test_the_shell_is_floor_walls_and_ceiling():
    at = np.array([[2.0, 2, 0], [0, 2, 1], [4, 2, 1], [2, 0, 1], [2, 5, 1], [2, 2, 3]])
    local, normals, object = surface(NONE, EXTENT, at, np.zeros(6, dtype=np.int64))
    assert object.tolist() == [FLOOR, WALLS, WALLS, WALLS, WALLS, CEILING]
    assert normals.tolist() == [[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1]]
    assert local[0].tolist() == [0.5, 0.4, 0]


def test_normals_of_round_parts_point_away_from_them():
    parts = parts_of(
        (CYLINDER, (1, 1, 1), (0.2, 0.2, 0.5), about_z(0)), (ELLIPSOID, (2, 2, 1), (0.2, 0.4, 0.4), about_z(1571))
    )
    at = np.array([[1.2, 1, 1.1], [1.05, 1, 1.5], [1.05, 1, 0.5], [2, 2, 1.4], [2.4, 2, 1]])
    _, normals, _ = surface(parts, EXTENT, at, np.array([0, 0, 0, 1, 1]))
    assert np.allclose(normals, [[1, 0, 0], [0, 0, 1], [0, 0, -1], [0, 0, 1], [1, 0, 0]], atol=1e-3)


def test_a_part_that_the_camera_is_in_is_not_seen_from_there():
    parts = parts_of(*((shape, (1.0, 2.5, 1.5), (0.3, 0.3, 0.3), about_z(0)) for shape in (BOX, CYLINDER, ELLIPSOID)))
    hits = trace(parts, EXTENT, *looking_along_x((1.0, 2.5, 1.5)))
    assert (hits.part == 3).all()


@pytest.mark.parametrize("place", [(0.0, 2, 1), (5, 2, 1), (1, 2, 3.0), (1, -2, 1)])
def test_a_camera_outside_of_the_room_is_an_error(place):
    with pytest.raises(ValueError, match=r"the camera must be inside the room of \[4.0, 5.0, 3.0\] m, got"):
        trace(NONE, EXTENT, *looking_along_x(place))


def test_inside_is_below_the_faces_and_does_not_count_ones_own_part():
    parts = parts_of(
        (BOX, (1, 1, 1), (0.5, 0.1, 0.1), about_z(785)),
        (CYLINDER, (2, 2, 1), (0.2, 0.2, 0.5), about_z(0)),
        (ELLIPSOID, (3, 3, 1), (0.2, 0.2, 0.2), about_z(0)),
    )
    corner = 0.49 * math.sqrt(0.5)
    at = np.array(
        [[1 + corner, 1 + corner, 1], [1 + corner, 1, 1], [2.15, 2.15, 1], [2.1, 2.1, 1], [3.1, 3.1, 1.1], [3, 3, 1.15]]
    )
    assert inside(parts, at).tolist() == [True, False, False, True, True, True]
    assert inside(parts, at, np.array([0, 0, 0, 0, 2, 1])).tolist() == [False, False, False, True, False, True]
    assert inside(parts, at, margin=0.06).tolist() == [False, False, False, False, False, False]
    assert inside(parts, at, margin=-0.02).tolist() == [True, False, True, True, True, True]
    assert inside(parts, np.zeros((0, 3))).shape == (0,)


def test_an_image_and_its_labels_belong_together():
    room = SynthRoom(3, RoomOptions(frames=3, size=(60, 80)))
    camera = room.camera()
    color_camera = camera.resized((121, 162))
    for view in range(3):
        images, color = room.render(camera, view), room.render(color_camera, view)
        assert images.depth.shape == images.object.shape == (60, 80)
        assert (color.color.shape, color.color.dtype) == ((121, 162, 3), np.uint8)
        hits = trace(
            room.parts, room.extent, camera.intrinsics[view].numpy(), camera.world_from_camera[view].numpy(), (60, 80)
        )
        assert (images.depth == hits.z).all()
        furniture = hits.part < len(room.parts)
        assert (images.object[furniture] == room.parts.object[hits.part[furniture]]).all()
        assert (images.object[~furniture] <= CEILING).all()
        assert 0 < images.depth.min() < images.depth.max() < math.sqrt((room.extent**2).sum())


def test_mirroring_and_cropping_the_camera_mirrors_and_crops_the_image():
    room = SynthRoom(4, RoomOptions(frames=1, size=(60, 80)))
    whole = room.render(room.camera(), 0)
    mirrored = room.render(room.camera().flipped(), 0)
    assert np.allclose(mirrored.depth, whole.depth[:, ::-1], rtol=1e-12)
    cropped = room.render(room.camera().cropped(10, 20, 30, 40), 0)
    assert np.allclose(cropped.depth, whole.depth[10:40, 20:60], rtol=1e-12)
    assert (cropped.object != whole.object[10:40, 20:60]).mean() < 0.001


def test_render_refuses_a_view_that_is_not_there():
    room = SynthRoom(0, RoomOptions(frames=2, size=(6, 8)))
    with pytest.raises(IndexError, match="view must be within 2 views, got 2"):
        room.render(room.camera(), 2)


# The path


@pytest.mark.parametrize("seed", range(8))
def test_the_camera_walks_at_the_height_of_a_hand_and_keeps_off_walls_and_furniture(seed):
    room = SynthRoom(seed, SMALL)
    place = room.camera().world_from_camera[:, :3, 3].numpy()
    assert ((place[:, 2] >= 1.2) & (place[:, 2] <= 1.7)).all()
    assert ((place[:, :2] > 0.25) & (place[:, :2] < room.extent[:2] - 0.25)).all()
    assert not inside(room.parts, place, margin=-0.1).any()
    assert clearance(place[:, :2], *obstacles(room.parts, room.extent)).min() > 0.25


@pytest.mark.parametrize("seed", range(4))
def test_what_one_frame_sees_the_next_one_mostly_sees_too(seed):
    room = SynthRoom(seed, SMALL)
    before, shares = None, []
    for intrinsics, pose, size in views_of(room):
        z = trace(room.parts, room.extent, intrinsics, pose, size).z
        if before is not None:
            x, y, depth = ((before - pose[:3, 3]) @ pose[:3, :3]).T
            u = np.floor(intrinsics[0, 0] * x / depth + intrinsics[0, 2] + 0.5)
            v = np.floor(intrinsics[1, 1] * y / depth + intrinsics[1, 2] + 0.5)
            framed = (depth > 0) & (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
            again = z[v[framed].astype(int), u[framed].astype(int)]
            shares.append((np.abs(again - depth[framed]) < 0.1).sum() / len(framed))
        before = lifted(z, intrinsics, pose)
    assert min(shares) > 0.2
    assert np.mean(shares) > 0.6


def test_poses_are_rotations_and_intrinsics_those_of_a_depth_camera():
    camera = SynthRoom(1, RoomOptions(frames=30)).camera()
    turn = camera.world_from_camera[:, :3, :3]
    assert torch.allclose(turn @ turn.mT, torch.eye(3, dtype=torch.float64), atol=1e-8)
    assert (torch.linalg.det(turn) > 0).all()
    assert (turn[:, 2, 1] < -0.3).all()  # upright: below in the image is below in the room
    assert camera.intrinsics[0].tolist() == [[577.870605, 0, 319.5], [0, 577.870605, 239.5], [0, 0, 1]]
    studio = SynthRoom(1, RoomOptions(frames=1, style="studio")).camera()
    assert studio.intrinsics[0, 0, 0] < 0.9 * camera.intrinsics[0, 0, 0]  # another field of view


@pytest.mark.parametrize("frames", [0, 1, 100])
def test_a_walk_may_have_any_number_of_frames(frames):
    camera = SynthRoom(2, RoomOptions(frames=frames, size=(6, 8))).camera()
    assert isinstance(camera, Camera)
    assert len(camera) == frames


def test_a_longer_walk_starts_like_a_shorter_one():
    short, long = (SynthRoom(2, RoomOptions(frames=n)).camera().world_from_camera for n in (10, 24))
    assert torch.equal(short, long[:10])


def test_walls_and_floor_are_in_every_room_but_not_in_every_frame():
    without = np.zeros(2)
    for seed in range(6):
        room = SynthRoom(seed, RoomOptions(size=(30, 40)))
        seen = []
        for intrinsics, pose, size in views_of(room, (30, 40)):
            hits = trace(room.parts, room.extent, intrinsics, pose, size)
            _, _, object = surface(room.parts, room.extent, lifted(hits.z, intrinsics, pose), hits.part.reshape(-1))
            seen.append([(object == FLOOR).any(), (object == WALLS).any()])
        assert np.any(seen, axis=0).all()
        without += (~np.array(seen)).sum(axis=0)
    assert (without > 0).all()


# One seed, one room

LITERALS = (
    ("apartment", ("floor", "wall", "ceiling", "door", "door", "counter"), 249, [5.8, 5.021, 2.639]),
    {1: 2152, 2: 1764, 4: 257, 5: 1159, 7: 650, 8: 1538, 9: 368, 16: 297, 20: 997, 29: 34},
    [807418590, 3786936552],
    [1.23805337, 3.509318606, 1.684187696],
)


def test_one_seed_makes_one_room_and_another_seed_another():
    first, again, other = SynthRoom(5), SynthRoom(5), SynthRoom(6)
    for name in ("shape", "center", "half", "world_from_part", "object", "material"):
        assert np.array_equal(getattr(first.parts, name), getattr(again.parts, name))
    assert np.array_equal(first.boxes, again.boxes)
    assert torch.equal(first.camera().world_from_camera, again.camera().world_from_camera)
    assert not np.array_equal(first.extent, other.extent)


def test_a_room_has_the_same_bits_on_every_machine():
    """Literals: what a machine computes otherwise shows here."""
    room = SynthRoom(7, RoomOptions(frames=3, size=(48, 64)))
    images = [room.render(room.camera(), view) for view in range(3)]
    histogram = np.bincount(np.concatenate([room.nyu40[i.object].reshape(-1) for i in images]), minlength=41)
    millimetres = np.stack([np.floor(1000 * i.depth + 0.5) for i in images]).astype("<u2")
    poses = np.floor(room.camera().world_from_camera.numpy() * 1e9 + 0.5).astype("<i8")
    got = (room.scene_type, room.categories[:6], len(room.parts), room.extent.tolist())
    assert got == LITERALS[0]
    assert {i: int(n) for i, n in enumerate(histogram) if n} == LITERALS[1]
    assert [zlib.crc32(a.tobytes()) for a in (millimetres, poses)] == LITERALS[2]
    assert room.camera().world_from_camera[0, :3, 3].tolist() == LITERALS[3]


def test_a_room_says_what_it_is():
    room = SynthRoom(1)
    assert repr(room) == f"SynthRoom(bathroom, seed=1, {len(room.nyu40)} objects of {len(room.parts)} parts)"


# Options


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"frames": 2.5}, TypeError, "frames must be an integer, got 2.5"),
        ({"frames": True}, TypeError, "frames must be an integer, got True"),
        ({"frames": -1}, ValueError, "frames must be 0 or more, got -1"),
        ({"size": (480, 0)}, ValueError, "size must be positive"),
        ({"size": 480}, TypeError, "size must be two integers"),
        ({"style": "loft"}, ValueError, "style must be one of home, studio, got 'loft'"),
        ({"cues": "colour"}, ValueError, "cues must be one of both, appearance, geometry, got 'colour'"),
        ({"tail": -1}, ValueError, "tail must be within 0 and 10, got -1"),
        ({"tail": math.nan}, ValueError, "tail must be within 0 and 10, got nan"),
        ({"touching": 1.5}, ValueError, "touching must be within 0 and 1, got 1.5"),
        ({"spacing": 0}, ValueError, "spacing must be within 0.005 and 1, got 0"),
        ({"noise": 0.1}, TypeError, "noise must be a bool, got 0.1"),
        ({"holes": None}, TypeError, "holes must be a bool, got None"),
        ({"tail": "long"}, TypeError, "tail must be a number, got 'long'"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_that_names_it(wrong, error, message):
    with pytest.raises(error, match=message):
        RoomOptions(**wrong)


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [(-1, ValueError, "seed must be 0 or more, got -1"), (1.0, TypeError, "seed must be an integer, got 1.0")],
)
def test_a_seed_that_cannot_be_is_an_error(seed, error, message):
    with pytest.raises(error, match=message):
        SynthRoom(seed)
