"""Is the analytic room exact? Depth one can work out by hand, truth against depth, and the recipe it promises."""

import math

import numpy as np
import pytest
import torch

from pyproj2d3d import Camera
from pyproj2d3d.data import Room


def looking(place, right, down, ahead, size=(480, 640)):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3] = torch.tensor([right, down, ahead, place], dtype=torch.float64).T
    intrinsics = torch.tensor([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, pose, size)


def lifted(depth, camera):
    """(H W, 3) the places that the pixel centres of one view see."""
    v, u = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in camera.size), indexing="ij")
    k, pose = camera.intrinsics[0], camera.world_from_camera[0]
    xyz = torch.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], torch.ones_like(u)], dim=-1) * depth[..., None]
    return (xyz @ pose[:3, :3].T + pose[:3, 3]).flatten(0, 1)


def test_a_wall_four_metres_ahead_is_four_metres_deep_and_the_ceiling_is_nearer():
    camera = looking(place=(4, 3, 2), right=(0, -1, 0), down=(0, 0, -1), ahead=(1, 0, 0))
    depth, labels, _ = Room().render(camera)
    assert depth[0, 240, 320].item() == 4.0  # x = 8 m
    assert (depth[0, 116:241] == 4.0).all()  # one metre up at 4 m is 125 pixels: z is the same all over the wall
    assert (depth[0, :115] < 4.0).all()
    assert math.isclose(depth[0, 40, 7].item(), 1.0 / (200 / 500), rel_tol=1e-12)  # the ceiling, one metre up, 200 rows
    assert labels[0, 240, 320] == 1
    assert labels[0, 40, 7] == 22


def test_a_box_seen_from_straight_above_is_nearer_than_the_floor_by_its_height():
    room = Room(seed=1)
    low, high = room.low[0], room.high[0]
    x, y = (low + high)[:2] / 2
    height = high[2] + 0.5
    camera = looking(place=(x, y, height), right=(1, 0, 0), down=(0, -1, 0), ahead=(0, 0, -1))
    depth, labels, _ = room.render(camera)
    assert math.isclose(depth[0, 240, 320].item(), 0.5, rel_tol=1e-12)
    half_width = (high - low)[0] / 2 / 0.5 * 500  # of its top, in pixels
    on_top = torch.isclose(depth[0, 240], torch.tensor(0.5, dtype=torch.float64))
    assert abs(int(on_top.sum()) - 2 * half_width) <= 1
    floor = labels[0] == 2
    assert torch.allclose(depth[0][floor], torch.tensor(height))
    assert labels[0, 240, 320] not in (1, 2, 22)


def test_depth_is_a_multiple_of_the_ray_also_under_a_pose_that_is_not_orthonormal():
    camera = looking(place=(4, 3, 2), right=(0, -1, 0), down=(0, 0, -1), ahead=(2, 0, 0))
    assert Room().depth(camera)[0, 240, 320].item() == 2.0  # two steps of two metres reach the wall


def test_every_place_that_a_pixel_sees_is_visible_there_and_hides_what_is_behind_it():
    room = Room(seed=2)
    for camera in (room.cameras(3, seed=5)[v].resized((120, 160)) for v in range(3)):
        depth = room.depth(camera)[0]
        assert room.visible(lifted(depth, camera), camera).all()
        assert room.visible(lifted(depth - 0.01, camera), camera).all()
        assert not room.visible(lifted(depth + 0.01, camera), camera).any()


def test_points_are_visible_exactly_where_no_box_is_met_on_the_way():
    room, steps = Room(seed=4), torch.linspace(0, 1, 1001, dtype=torch.float64)[1:-1, None, None]
    camera, points = room.cameras(4, seed=1), room.points(3000)[0]
    visible = room.visible(points, camera)
    for v in range(4):
        t = torch.linalg.inv(camera.world_from_camera[v])
        x, y, z = (points @ t[:3, :3].T + t[:3, 3]).T
        k = camera.intrinsics[v]
        u, w = k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]
        framed = (z > 0) & (u >= -0.5) & (u < 639.5) & (w >= -0.5) & (w < 479.5)
        assert not visible[v][~framed].any()
        origin = camera.world_from_camera[v, :3, 3]
        way = origin + steps * (points[framed] - origin)  # (steps, points, 3)
        met = torch.zeros(way.shape[:2], dtype=torch.bool)
        for low, high in zip(room.low[:-1], room.high[:-1], strict=True):
            met |= ((way > torch.from_numpy(low)) & (way < torch.from_numpy(high))).all(dim=2)
        differ = visible[v][framed] == met.any(dim=0)
        assert differ.float().mean() < 0.01  # steps of millimetres miss a corner that is only grazed
        assert framed.any()


def test_float32_points_on_a_face_are_not_hidden_by_that_face():
    room = Room(seed=3)
    points, camera = room.points(20_000)[0], room.cameras(6)
    exact, rounded = room.visible(points, camera), room.visible(points.float(), camera)
    assert exact.any()
    assert (exact != rounded).sum() <= 6  # a pixel's border may be crossed


def test_points_lie_on_faces_that_can_be_seen_and_are_uniform_by_area():
    room = Room(seed=6)
    points, labels, colors = room.points(100_000)
    xyz = points.numpy()
    assert points.dtype == torch.float64
    assert labels.dtype == torch.int64
    assert colors.dtype == torch.uint8
    assert points.shape == colors.shape == (100_000, 3)
    extent = room.high - room.low
    footprint = (extent[:-1, 0] * extent[:-1, 1]).sum()
    sides = (2 * (extent[:-1, 0] + extent[:-1, 1]) * extent[:-1, 2]).sum()
    area = 2 * 48 + 2 * 3 * (8 + 6) + sides  # the tops of the boxes make up for the floor under them
    for label, wanted in ((22, 48), (2, 48 - footprint), (1, 84)):
        assert abs((labels == label).double().mean().item() - wanted / area) < 0.005
    on = {22: (2, 3.0), 2: (2, 0.0)}
    for label, (axis, at) in on.items():
        assert (xyz[labels.numpy() == label, axis] == at).all()
    floor = xyz[labels.numpy() == 2]
    for low, high in zip(room.low[:-1], room.high[:-1], strict=True):
        assert not ((floor[:, :2] > low[:2]) & (floor[:, :2] < high[:2])).all(axis=1).any()
    furniture = ~np.isin(labels.numpy(), (1, 2, 22))
    box = [
        ((xyz[furniture] >= lo) & (xyz[furniture] <= hi)).all(axis=1)
        for lo, hi in zip(room.low[:-1], room.high[:-1], strict=True)
    ]
    assert (np.sum(box, axis=0) == 1).all()


def test_images_and_points_agree_on_labels_and_colours():
    room = Room(seed=7)
    points, labels, colors = room.points(50_000)
    camera = room.path(4)[2]
    _, label_image, color_image = room.render(camera)
    seen = room.visible(points, camera)[0]
    t = torch.linalg.inv(camera.world_from_camera[0])
    x, y, z = (points[seen] @ t[:3, :3].T + t[:3, 3]).T
    u = (camera.intrinsics[0, 0, 0] * x / z + camera.intrinsics[0, 0, 2] + 0.5).long()
    v = (camera.intrinsics[0, 1, 1] * y / z + camera.intrinsics[0, 1, 2] + 0.5).long()
    assert (label_image[0, v, u] == labels[seen]).double().mean() > 0.98
    apart = (color_image[0, v, u].int() - colors[seen].int()).abs().amax(dim=1)
    assert (apart <= 3).double().mean() > 0.9  # the others are on an edge of the paint


def test_boxes_stand_apart_on_the_floor_within_the_sizes_of_the_recipe():
    for seed in range(5):
        room = Room(seed)
        extent = (room.high - room.low)[:-1]
        assert len(extent) == 12
        assert (room.low[:-1, 2] == 0).all()
        assert (extent[:, :2] >= 0.2).all()
        assert (extent[:, :2] <= 0.7).all()
        assert (extent[:, 2] >= 0.4).all()
        assert (extent[:, 2] <= 1.6).all()
        for a in range(12):
            apart = (room.low[a] >= room.high[:-1]) | (room.high[a] <= room.low[:-1])
            assert apart[:, :2].any(axis=1).sum() == 11


def test_cameras_follow_the_recipe():
    room = Room(seed=8)
    camera = room.cameras(200)
    place, ahead = camera.world_from_camera[:, :3, 3].numpy(), camera.world_from_camera[:, :3, 2].numpy()
    assert camera.size == (480, 640)
    assert camera.intrinsics[7].tolist() == [[577.870605, 0, 319.5], [0, 577.870605, 239.5], [0, 0, 1]]
    assert place[:, 2].min() >= 1.1
    assert place[:, 2].max() <= 1.8
    pitch = np.arcsin(ahead[:, 2])
    assert pitch.min() >= -0.5
    assert pitch.max() <= 0.15
    assert set(np.sign(ahead[:, 0]) + 2 * np.sign(ahead[:, 1])) == {-3, -1, 1, 3}  # all four quarters of yaw
    for low, high in zip(room.low[:-1], room.high[:-1], strict=True):
        assert not ((place > low) & (place < high)).all(axis=1).any()
    upright = camera.world_from_camera[:, 2, 1]
    assert (upright < 0).all()  # y points down
    rotation = camera.world_from_camera[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(200, 3, 3))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(200, dtype=torch.float64))


def test_a_path_is_smooth_and_above_the_boxes():
    camera = Room().path(60, seed=3)
    place, ahead = camera.world_from_camera[:, :3, 3], camera.world_from_camera[:, :3, 2]
    assert (place[1:] - place[:-1]).norm(dim=1).max() < 0.5
    assert (ahead[1:] * ahead[:-1]).sum(dim=1).min() > math.cos(0.3)
    assert place[:, 2].min() > 1.6
    assert (place > 0.5).all()
    assert (place[:, :2] < torch.tensor([7.5, 5.5])).all()


def test_the_same_seed_gives_the_same_room_and_another_seed_another():
    one, same, other = Room(1), Room(1), Room(2)
    assert (one.low == same.low).all()
    assert (one.low != other.low).any()
    for a, b in zip(one.points(500, seed=3), same.points(500, seed=3), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.points(500, seed=3)[0], one.points(500, seed=4)[0])
    for make in (Room.cameras, Room.path):
        assert torch.equal(make(one, 3, seed=1).world_from_camera, make(same, 3, seed=1).world_from_camera)
        assert not torch.equal(make(one, 3, seed=1).world_from_camera, make(one, 3, seed=2).world_from_camera)
    camera = one.path(1).resized((48, 64))
    for a, b in zip(one.render(camera), same.render(camera), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("make", [Room.cameras, Room.path])
def test_no_views_and_no_points_are_fine(make):
    room = Room()
    none = make(room, 0)
    assert room.depth(none).shape == (0, 480, 640)
    assert room.render(none)[2].shape == (0, 480, 640, 3)
    assert room.visible(room.points(5)[0], none).shape == (0, 5)
    points, labels, colors = room.points(0)
    assert (points.shape, labels.shape, colors.shape) == ((0, 3), (0,), (0, 3))
    assert room.visible(points, make(room, 2)).shape == (2, 0)


def test_a_camera_that_looks_away_from_outside_sees_nothing():
    camera = looking(place=(9, 3, 1), right=(0, -1, 0), down=(0, 0, -1), ahead=(1, 0, 0), size=(4, 6))
    depth, labels, colors = Room().render(camera)
    assert (depth == 0).all()
    assert (labels == -1).all()
    assert (colors == 0).all()
