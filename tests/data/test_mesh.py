"""Does the depth of a rendered mesh agree with the exact depth of the room it is a mesh of?"""

import sys

import pytest
import torch

from pyproj2d3d import Camera
from pyproj2d3d.data import Room, render_depth
from pyproj2d3d.data.mesh import _open3d

SQUARE = torch.tensor([[-1.2, -1.2, 2], [1.2, -1.2, 2], [1.2, 1.2, 2], [-1.2, 1.2, 2]])
TWO_TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.fixture
def open3d():
    try:
        return _open3d()
    except ImportError as error:
        pytest.skip(str(error))


def camera(dtype=torch.float32, focal=2.0, ahead=1.0):
    intrinsics = torch.tensor([[focal, 0, 3], [0, 2, 2], [0, 0, 1]], dtype=dtype)
    return Camera(intrinsics, torch.diag(torch.tensor([1, 1, ahead, 1], dtype=dtype)), (5, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_square_two_metres_ahead_covers_the_pixels_one_can_count(open3d, dtype):
    depth = render_depth(SQUARE.to(dtype), TWO_TRIANGLES, camera())
    wanted = torch.zeros(1, 5, 7, dtype=dtype)
    wanted[0, 1:4, 2:5] = 2  # the square spans u = 3 -+ 1.2 and v = 2 -+ 1.2
    torch.testing.assert_close(depth, wanted)
    assert ((depth > 0) == (wanted > 0)).all()


def test_room_depth_comes_back_from_the_room_mesh(open3d):
    room = Room(seed=3)
    cameras = room.cameras(3).resized((120, 160))
    exact, depth = room.depth(cameras), render_depth(*room.mesh(), cameras)
    agrees = (depth - exact).abs() < 1e-5
    assert agrees.double().mean() > 0.9999  # a ray along an edge may go either way
    assert depth.dtype == torch.float64


def test_the_truth_of_the_room_is_that_of_rays_cast_at_its_mesh(open3d):
    room = Room(seed=5)
    points, camera = room.points(20_000)[0], room.cameras(3)
    vertices, faces = room.mesh()
    caster = open3d.t.geometry.RaycastingScene()
    caster.add_triangles(
        open3d.core.Tensor(vertices.float().numpy()), open3d.core.Tensor(faces.numpy().astype("uint32"))
    )
    visible = room.visible(points, camera)
    framed = Room.visible(_without_boxes(room), points, camera)
    for v in range(3):
        origin = camera.world_from_camera[v, :3, 3].expand_as(points)
        rays = torch.cat([origin, points - origin], dim=1).float()
        first = torch.from_numpy(caster.cast_rays(open3d.core.Tensor(rays.numpy()))["t_hit"].numpy())
        assert ((first > 1 - 1e-4) & framed[v] == visible[v]).double().mean() > 0.9995
    assert (framed & ~visible).any()


def _without_boxes(room):
    empty = Room()
    empty.low, empty.high = room.low.copy(), room.high.copy()
    empty.low[:-1] = empty.high[:-1] = -1.0
    return empty


def test_a_mesh_far_from_the_origin_is_as_exact_as_a_near_one(open3d):
    room, far = Room(seed=3), torch.tensor([4e5, 5e6, 100.0], dtype=torch.float64)
    near = room.cameras(1).resized((48, 64))
    pose = near.world_from_camera.clone()
    pose[:, :3, 3] += far
    vertices, faces = room.mesh()
    depth = render_depth(vertices + far, faces, Camera(near.intrinsics, pose, near.size))
    assert ((depth - room.depth(near)).abs() < 1e-5).double().mean() > 0.999


def test_a_vertex_of_no_face_may_be_anywhere(open3d):
    stray = torch.cat((SQUARE, torch.tensor([[1e30, 0, 0]])))
    assert torch.equal(render_depth(stray, TWO_TRIANGLES, camera()), render_depth(SQUARE, TWO_TRIANGLES, camera()))


def test_negative_focal_lengths_mirror_the_image(open3d):
    room = Room(seed=3)
    one = room.cameras(1).resized((48, 64))
    depth = render_depth(*room.mesh(), one)
    mirrored = render_depth(*room.mesh(), one.flipped())
    assert mirrored.shape == depth.shape
    assert ((mirrored - depth.flip(-1)).abs() < 1e-5).double().mean() > 0.999
    assert (mirrored - depth).abs().max() > 0.1


def test_a_pose_that_is_not_orthonormal_is_taken_as_it_stands(open3d):
    depth = render_depth(SQUARE, TWO_TRIANGLES, camera(ahead=2.0))
    torch.testing.assert_close(depth[0, 2, 3], torch.tensor(1.0))  # one step of two metres


def test_both_sides_of_a_triangle_are_seen(open3d):
    depth = render_depth(SQUARE, TWO_TRIANGLES, camera())
    assert torch.equal(depth, render_depth(SQUARE, TWO_TRIANGLES.flip(1), camera()))


def test_what_is_behind_the_camera_is_not_seen(open3d):
    assert (render_depth(SQUARE, TWO_TRIANGLES, camera(ahead=-1.0)) == 0).all()


@pytest.mark.parametrize("n", [0, 4])
def test_a_mesh_without_faces_is_nowhere(n):
    depth = render_depth(SQUARE[:n], torch.zeros(0, 3, dtype=torch.int64), camera())
    assert depth.tolist() == torch.zeros(1, 5, 7).tolist()


def test_no_views_give_no_images(open3d):
    none = Camera(torch.eye(3).expand(0, 3, 3), torch.eye(4).expand(0, 4, 4), (5, 7))
    assert render_depth(SQUARE, TWO_TRIANGLES, none).shape == (0, 5, 7)


def test_without_open3d_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(ImportError, match=r'pip install "pyproj2d3d\[open3d\]"'):
        render_depth(SQUARE, TWO_TRIANGLES, camera())


@pytest.mark.parametrize(
    ("vertices", "faces", "error", "text"),
    [
        (SQUARE.half(), TWO_TRIANGLES, TypeError, "vertices must be a float32 or float64 tensor, got torch.float16"),
        (SQUARE.numpy(), TWO_TRIANGLES, TypeError, "vertices must be a float32 or float64 tensor, got ndarray"),
        (SQUARE, TWO_TRIANGLES.int(), TypeError, "faces must be an int64 tensor, got torch.int32"),
        (SQUARE[:, :2], TWO_TRIANGLES, ValueError, r"vertices must have shape \(\*, 3\), got \(4, 2\)"),
        (SQUARE, TWO_TRIANGLES[0], ValueError, r"faces must have shape \(\*, 3\), got \(3,\)"),
        (SQUARE.to("meta"), TWO_TRIANGLES, ValueError, "vertices must be on the host: .* got meta"),
        (SQUARE, TWO_TRIANGLES.to("meta"), ValueError, "faces must be on the host: .* got meta"),
        (SQUARE / 0, TWO_TRIANGLES, ValueError, "vertices must be finite"),
        (SQUARE, TWO_TRIANGLES + 1, ValueError, "faces must index 4 vertices, got 1 to 4"),
        (SQUARE, TWO_TRIANGLES - 1, ValueError, "faces must index 4 vertices, got -1 to 2"),
    ],
)
def test_wrong_input_is_named(vertices, faces, error, text):
    with pytest.raises(error, match=text):
        render_depth(vertices, faces, camera())


def test_no_camera_is_named():
    with pytest.raises(TypeError, match="camera must be a Camera, got NoneType"):
        render_depth(SQUARE, TWO_TRIANGLES, None)


def test_a_camera_elsewhere_than_on_the_host_is_named():
    with pytest.raises(ValueError, match=r"camera must be on the host: .* got meta"):
        render_depth(SQUARE, TWO_TRIANGLES, camera().to("meta"))
