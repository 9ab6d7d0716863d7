"""Does Camera keep its conventions, and does Matches hold together?"""

import copy
import pickle

import numpy as np
import pytest
import torch
from scenes import assert_close, assert_same_bits, make_camera, make_matches, make_scene, simple_camera

from pyproj2d3d import Camera, Matches, reference

K = torch.tensor([[100.0, 0, 31.5], [0, 80, 23.5], [0, 0, 1]])
POSE = torch.eye(4)


def uv(camera: Camera, point=(0.25, -0.125, 2.0)) -> list[float]:
    return reference.project(torch.tensor([point], dtype=camera.dtype), camera)[0, 0, :2].tolist()


def test_pixel_centres_lie_at_integers():
    camera = Camera(K, POSE, (48, 64))
    assert uv(camera) == [100 * 0.125 + 31.5, 80 * -0.0625 + 23.5] == [44.0, 18.5]


def test_unbatched_arguments_make_one_view():
    camera = Camera(K, POSE, (48, 64))
    assert len(camera) == 1
    assert camera.intrinsics.shape == (1, 3, 3)
    assert camera.world_from_camera.shape == (1, 4, 4)
    assert camera.size == (48, 64)
    assert repr(camera) == "Camera(V=1, size=(48, 64), torch.float32, cpu)"


@pytest.mark.parametrize("views", [0, 1, 3])
def test_one_matrix_is_shared_by_all_views(views):
    poses = POSE.repeat(views, 1, 1)
    for camera in (Camera(K, poses, (48, 64)), Camera(K[None], poses, (48, 64))):
        assert len(camera) == views
        assert torch.equal(camera.intrinsics, K.expand(views, 3, 3))
    assert len(Camera(K.repeat(views, 1, 1), POSE, (48, 64))) == views


def test_the_wider_dtype_is_kept():
    camera = Camera(K, POSE.double(), (48, 64))
    assert camera.dtype == camera.intrinsics.dtype == camera.world_from_camera.dtype == torch.float64
    assert camera.to(torch.float32).dtype == torch.float32
    assert camera.device == torch.device("cpu")


def test_the_graph_is_kept():
    intrinsics, pose = K.clone().requires_grad_(), POSE.clone().requires_grad_()
    camera = Camera(intrinsics, pose.expand(2, 4, 4), (48, 64)).resized((24, 32)).flipped().cropped(1, 2, 8, 8)[1]
    (camera.intrinsics[0, 0, 0] + camera.world_from_camera[0, 0, 3]).backward()
    assert intrinsics.grad[0, 0] == -0.5
    assert pose.grad[0, 3] == 1


def test_resizing_to_half_a_4_pixel_image():
    camera = simple_camera((4, 4), focal=4.0, centre=(1.5, 1.5)).resized((2, 2))
    assert camera.size == (2, 2)
    assert camera.intrinsics[0].tolist() == [[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]


@pytest.mark.parametrize("size", [(24, 32), (96, 64), (13, 200), (1, 1)])
def test_resizing_moves_u_to_u_plus_half_times_s_minus_half(size):
    camera = make_camera(3, torch.Generator().manual_seed(0))
    points = make_scene(200, dtype=torch.float64).points
    expected = reference.project(points, camera)
    expected[..., 0] = (expected[..., 0] + 0.5) * (size[1] / 64) - 0.5
    expected[..., 1] = (expected[..., 1] + 0.5) * (size[0] / 48) - 0.5
    assert_close(reference.project(points, camera.resized(size)), expected)


def test_resizing_there_and_back_changes_nothing():
    camera = simple_camera()
    assert_same_bits(camera.resized((96, 256)).resized((48, 64)), camera)


def test_cropping_moves_the_origin_and_may_pad():
    camera = Camera(K, POSE, (48, 64))
    assert uv(camera.cropped(3, 10, 20, 30)) == [34.0, 15.5]
    assert camera.cropped(3, 10, 20, 30).size == (20, 30)
    assert uv(camera.cropped(-3, -10, 100, 100)) == [54.0, 21.5]


def test_flipping_mirrors_pixels_and_makes_the_focal_length_negative():
    camera = Camera(K, POSE, (48, 64))
    assert uv(camera.flipped()) == [63 - 44.0, 18.5]
    assert uv(camera.flipped(horizontal=False)) == [44.0, 47 - 18.5]
    assert camera.flipped().intrinsics[0, 0, 0] == -100
    assert_same_bits(camera.flipped().flipped(), camera)


def test_methods_leave_the_camera_as_it_was():
    camera = Camera(K, POSE, (48, 64))
    camera.resized((2, 2)), camera.cropped(1, 1, 2, 2), camera.flipped(), camera.to(torch.float64)
    assert torch.equal(camera.intrinsics[0], K)
    assert camera.size == (48, 64)


def test_indexing_keeps_the_axis_of_views():
    camera = make_camera(4, torch.Generator().manual_seed(0))
    assert_same_bits(camera[2].intrinsics, camera.intrinsics[2:3])
    assert_same_bits(camera[-1].world_from_camera, camera.world_from_camera[3:])
    assert_same_bits(camera[1:3], (camera.intrinsics[1:3], camera.world_from_camera[1:3]))
    assert len(camera[4:]) == 0
    assert [len(view) for view in camera] == [1, 1, 1, 1]
    for beyond in (4, -5):
        with pytest.raises(IndexError, match=f"view must be within 4 views, got {beyond}"):
            camera[beyond]
    for wrong in ([0], 0.0, "0"):
        with pytest.raises(TypeError, match="view must be an integer, got"):
            camera[wrong]


def test_moving_takes_what_a_tensor_takes():
    camera = simple_camera()
    assert camera.to(dtype=torch.float32).dtype == camera.to("cpu", torch.float32).dtype == torch.float32
    assert camera.to(device="meta").device.type == "meta"
    assert camera.to(torch.zeros(0)).world_from_camera.dtype == torch.float32
    assert camera.to(torch.float32, copy=True).world_from_camera.dtype == torch.float32
    for wrong in (torch.int64, torch.float16):
        with pytest.raises(TypeError, match=f"dtype must be float32 or float64, got {str(wrong)[6:]}"):
            camera.to(wrong)


def test_a_crop_begins_at_a_pixel():
    for name, place in (("top", (0.5, 1)), ("left", (1, "1"))):
        with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
            simple_camera().cropped(*place, 3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pose_is_refused_exactly_where_its_inverse_is_not_finite(dtype):
    """Rounded otherwise than by the inverse, a determinant of 0 was another, and points projected to NaN."""
    rng = torch.Generator().manual_seed(0)
    poses = torch.eye(4, dtype=dtype).repeat(20_000, 1, 1)
    poses[:, :2, :3] = (10 * torch.randn(len(poses), 2, 3, generator=rng, dtype=dtype)).round() / 10
    poses[:, 2, :3] = poses[:, 0, :3] + poses[:, 1, :3]  # of rank 2, but for rounding
    finite = torch.ops.pyproj2d3d.camera_from_world(poses).isfinite().all(2).all(1)
    assert 100 < finite.sum() < len(poses) - 100
    Camera(K.to(dtype), poses[finite], (4, 4))
    for pose in poses[~finite][:200]:
        with pytest.raises(ValueError, match="must be invertible"):
            Camera(K.to(dtype), pose, (4, 4))


def test_cat_keeps_the_order_of_views():
    camera = make_camera(4, torch.Generator().manual_seed(0))
    assert_same_bits(
        Camera.cat([camera[3], camera[0:2]]), (camera.intrinsics[[3, 0, 1]], camera.world_from_camera[[3, 0, 1]])
    )


def test_cat_refuses_sizes_that_differ():
    camera = simple_camera()
    with pytest.raises(ValueError, match=r"cameras must be some of one size, got sizes \[\(48, 64\), \(4, 4\)\]"):
        Camera.cat([camera, camera.resized((4, 4))])
    with pytest.raises(ValueError, match="cameras must be some"):
        Camera.cat([])


def test_camera_and_matches_survive_pickling_and_copying():
    camera = make_camera(2, torch.Generator().manual_seed(0))
    matches = make_matches([[(0, 3)], [(1, 2)]], 2, (2, 2))
    for twin in (pickle.loads(pickle.dumps((camera, matches))), copy.deepcopy((camera, matches))):
        assert_same_bits(twin, (camera, matches))
        assert (twin[0].size, twin[1].size, twin[1].n_points) == (camera.size, (2, 2), 2)


def test_sizes_may_be_numpy_integers_or_a_tensor_shape():
    for size in (np.array([48, 64]), torch.empty(48, 64).shape, [48, 64]):
        camera = Camera(K, POSE, size)
        assert camera.size == (48, 64)
        assert type(camera.size[0]) is int


def changed(matrix: torch.Tensor, row: int, column: int, value: float) -> torch.Tensor:
    matrix = matrix.clone()
    matrix[..., row, column] = value
    return matrix


BAD_CAMERAS = {
    "intrinsics as a list": ((K.tolist(), POSE, (4, 4)), TypeError, "intrinsics must be .* got list"),
    "half precision": ((K.half(), POSE, (4, 4)), TypeError, "intrinsics must be .* got torch.float16"),
    "integers": ((K, POSE.long(), (4, 4)), TypeError, "world_from_camera must be .* got torch.int64"),
    "a 4x4 of intrinsics": ((POSE, POSE, (4, 4)), ValueError, r"intrinsics must have shape .* got \(4, 4\)"),
    "a 3x4 pose": ((K, POSE[:3], (4, 4)), ValueError, r"world_from_camera must have shape .* got \(3, 4\)"),
    "two axes of batch": ((K[None, None], POSE, (4, 4)), ValueError, r"intrinsics must .*\(1, 1, 3, 3\)"),
    "views that differ": ((K.repeat(2, 1, 1), POSE.repeat(3, 1, 1), (4, 4)), ValueError, "as many views, got 2 and 3"),
    "two devices": ((K, POSE.to("meta"), (4, 4)), ValueError, "world_from_camera must be on cpu .* got meta"),
    "a size of one number": ((K, POSE, 4), TypeError, r"size must be two integers \(H, W\), got 4"),
    "a size of floats": ((K, POSE, (4.0, 4.0)), TypeError, r"size must be two integers \(H, W\), got \(4.0, 4.0\)"),
    "a size of three": ((K, POSE, (3, 4, 4)), TypeError, r"size must be two integers \(H, W\), got \(3, 4, 4\)"),
    "no height": ((K, POSE, (0, 4)), ValueError, r"size must be positive .* got \(0, 4\)"),
    "a negative width": ((K, POSE, (4, -1)), ValueError, r"size must be positive .* got \(4, -1\)"),
    "pixels beyond int32": ((K, POSE, (2**16, 2**15)), ValueError, r"fewer than 2\*\*31 pixels, got \(65536, 32768\)"),
    "a focal length of nan": ((changed(K, 0, 0, torch.nan), POSE, (4, 4)), ValueError, "intrinsics .*finite, .*nan"),
    "an infinite pose": ((K, changed(POSE, 1, 3, torch.inf), (4, 4)), ValueError, "world_from_camera .*finite, .*inf"),
    "skew": ((changed(K, 0, 1, 0.1), POSE, (4, 4)), ValueError, "intrinsics must have no skew"),
    "skew below": ((changed(K, 1, 0, 0.1), POSE, (4, 4)), ValueError, "intrinsics must have no skew"),
    "no focal length": ((changed(K, 1, 1, 0.0), POSE, (4, 4)), ValueError, "must have focal lengths other than 0"),
    "a last row of K": ((changed(K, 2, 2, 2.0), POSE, (4, 4)), ValueError, "intrinsics must end in the row"),
    "a last row of a pose": ((K, changed(POSE, 3, 0, 1.0), (4, 4)), ValueError, "world_from_camera must end in"),
    "a flat pose": ((K, changed(POSE, 2, 2, 0.0), (4, 4)), ValueError, "must be invertible"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_CAMERAS.values(), ids=BAD_CAMERAS.keys())
def test_camera_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        Camera(*arguments)


def test_the_error_names_the_view_that_is_not_finite():
    poses = POSE.repeat(5, 1, 1)
    poses[3, 0, 3] = torch.nan
    with pytest.raises(ValueError, match="view 3"):
        Camera(K, poses, (4, 4))


@pytest.mark.parametrize("change", [lambda c: c.resized((0, 4)), lambda c: c.cropped(0, 0, 4, 0)])
def test_no_camera_has_an_empty_image(change):
    with pytest.raises(ValueError, match="must be positive"):
        change(simple_camera())


def test_an_invertible_pose_need_not_be_a_rotation():
    pose = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))
    assert reference.project(torch.tensor([[0.5, 0.25, 4.0]]), Camera(K, pose, (48, 64)))[0, 0, 2] == 2


MATCHES = make_matches([[(0, 3), (2, 1)], [], [(1, 0)]], n_points=3, size=(2, 2))


def test_the_view_of_each_match():
    assert MATCHES.view.tolist() == [0, 0, 2]
    assert MATCHES.view.dtype == torch.int32
    assert make_matches([[], []]).view.tolist() == []
    assert make_matches([]).view.tolist() == []


def test_matches_of_one_view():
    assert len(MATCHES) == 3
    first, empty, last = MATCHES
    assert (first.ptr.tolist(), first.point.tolist(), first.pixel.tolist()) == ([0, 2], [0, 2], [3, 1])
    assert (empty.ptr.tolist(), empty.point.tolist(), empty.pixel.tolist()) == ([0, 0], [], [])
    assert (last.ptr.tolist(), last.point.tolist(), last.pixel.tolist()) == ([0, 1], [1], [0])
    assert last.ptr.dtype == torch.int64
    assert (last.n_points, last.size) == (3, (2, 2))
    assert_same_bits(MATCHES[-1], last)
    for beyond in (3, -4):
        with pytest.raises(IndexError, match=f"view must be within 3 views, got {beyond}"):
            MATCHES[beyond]
    for wrong in (0.0, slice(0, 1)):
        with pytest.raises(TypeError, match="view must be an integer, got"):
            MATCHES[wrong]


def test_matches_print_their_counts_not_their_tensors():
    assert repr(MATCHES) == "Matches(V=3, M=3, n_points=3, size=(2, 2), cpu)"


def test_matches_move(device):
    moved = MATCHES.to(device)
    assert moved.view.device.type == moved.ptr.device.type == device.type
    assert isinstance(moved, Matches)
    assert_same_bits(moved.to("cpu"), MATCHES)
    assert (moved.n_points, moved.size) == (3, (2, 2))
