"""Where does each point land in each view?"""

import math
import re

import by_hand
import pytest
import torch
from scenes import SIZE, assert_same_bits, make_camera, make_scene, simple_camera, unit_camera

from pyproj2d3d import Camera, project, reference


def test_a_point_two_metres_ahead(device, dtype):
    camera = simple_camera((48, 64), 100.0, (31.5, 23.5), dtype, device)
    uvz = project(torch.tensor([[0.5, -0.25, 2.0]], device=device, dtype=dtype), camera)
    assert uvz.tolist() == [[[56.5, 11.0, 2.0]]]
    assert uvz.dtype == dtype


def test_the_pose_takes_the_camera_to_the_world(device, dtype):
    pose = torch.tensor(
        [[0.0, 0, 1, 10], [-1, 0, 0, 20], [0, -1, 0, 30], [0, 0, 0, 1]]
    )  # looks along the world's x, z is up
    camera = Camera(unit_camera(4).intrinsics, pose, (4, 4)).to(device, dtype)
    uvz = project(torch.tensor([[12.0, 19.0, 28.0]], device=device, dtype=dtype), camera)  # 2 ahead, 1 right, 2 down
    assert uvz.tolist() == [[[0.5, 1.0, 2.0]]]


def test_each_view_has_its_own_camera(device):
    intrinsics = torch.stack([torch.eye(3), torch.diag(torch.tensor([-2.0, 3.0, 1.0]))])
    pose = torch.stack(
        [torch.eye(4), torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))]
    )  # not a rotation: a world twice as large
    camera = Camera(intrinsics, pose, (4, 4)).to(device)
    assert project(torch.tensor([[4.0, 2.0, 8.0]], device=device), camera).tolist() == [
        [[0.5, 0.25, 8]],
        [[-1.0, 0.75, 4]],
    ]


def test_points_behind_the_camera_are_mirrored_and_z_tells(device, dtype):
    ahead = torch.tensor([[0.5, 0.25, 1.0]], device=device, dtype=dtype)
    camera = unit_camera(4, 4, dtype, device)
    assert project(ahead, camera).tolist() == [[[0.5, 0.25, 1.0]]]
    assert project(-ahead, camera).tolist() == [[[0.5, 0.25, -1.0]]]


def test_a_point_beside_the_camera_is_at_infinity(device, dtype):
    points = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]], device=device, dtype=dtype)
    beside, inside = project(points, unit_camera(4, 4, dtype, device))[0].tolist()
    assert beside == [math.inf, -math.inf, 0.0]
    assert math.isnan(inside[0])
    assert math.isnan(inside[1])
    assert inside[2] == 0


def test_a_point_that_is_not_finite_spoils_no_other(device, dtype):
    points = torch.tensor(
        [[1.0, 2.0, 1.0], [math.nan, 0, 1], [math.inf, 0, 1], [3.0, 4.0, 1.0]], device=device, dtype=dtype
    )
    uvz = project(points, unit_camera(8, 8, dtype, device))
    assert uvz[0, [0, 3]].tolist() == [[1, 2, 1], [3, 4, 1]]


@pytest.mark.parametrize("n", [0, 1, 3000])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_agrees_with_reference_to_the_bit(n, views, device, dtype):
    scene = make_scene(n, views, dtype, device=device)
    uvz = project(scene.points, scene.camera)
    assert uvz.shape == (views, n, 3)
    assert_same_bits(uvz, reference.project(scene.points, scene.camera))


@pytest.mark.parametrize("projected", [project, reference.project], ids=["native", "reference"])
def test_equals_the_arithmetic_written_by_hand(projected, dtype):
    scene = make_scene(1000, 4, dtype)
    by_numpy = torch.from_numpy(by_hand.project(scene.points.numpy(), scene.camera))
    of_the_inverse = 0 if dtype == torch.float32 else 1e-9  # in float64 LAPACK's inverse differs in its last bits
    torch.testing.assert_close(
        projected(scene.points, scene.camera), by_numpy, rtol=of_the_inverse, atol=of_the_inverse, equal_nan=True
    )


def test_the_inverse_pose_is_rounded_only_once(device):
    """In float32 arithmetic a pose far from the origin would lose millimetres to its own inverse."""
    rng = torch.Generator().manual_seed(0)
    pose = make_camera(8, rng).world_from_camera[1:]
    pose[:, :3, 3] *= 1000
    camera = Camera(simple_camera().intrinsics, pose.float(), SIZE).to(device)
    at_origin = project(torch.zeros(1, 3, device=device), camera)[:, 0, 2]
    exact = torch.linalg.inv(pose.float().double())[:, 2, 3]
    assert torch.equal(at_origin.cpu(), exact.float())


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_the_camera_is_cast_to_the_dtype_of_the_points(dtypes, device):
    of_points, of_camera = dtypes
    scene = make_scene(100, 2, of_points, device=device)
    camera = scene.camera.to(of_camera)
    uvz = project(scene.points, camera)
    assert uvz.dtype == of_points
    assert_same_bits(uvz, reference.project(scene.points, camera))


def cameras_of(fx_fy_cx_cy: torch.Tensor, pose: torch.Tensor) -> Camera:
    """From the entries that are free: (V, 4) and (V, 3, 4)."""
    views = len(pose)
    fx, fy, cx, cy = fx_fy_cx_cy.T
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    intrinsics = torch.stack((fx, zero, cx, zero, fy, cy, zero, zero, one), dim=-1).view(views, 3, 3)
    last = torch.tensor([0.0, 0, 0, 1], dtype=pose.dtype, device=pose.device).expand(views, 1, 4)
    return Camera(intrinsics, torch.cat((pose, last), dim=1), SIZE)


def test_gradients_to_points_pose_and_intrinsics(device):
    scene = make_scene(20, 3, torch.float64, device=device)
    k = scene.camera.intrinsics
    free = torch.stack((k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]), dim=-1).requires_grad_()
    pose = scene.camera.world_from_camera[:, :3].clone().requires_grad_()
    ahead = torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64, device=device)  # no point near a camera's own plane
    points = (scene.points * 0.2 + ahead).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, f, t: project(p, cameras_of(f, t)), (points, free, pose))


def test_the_gradient_is_the_pinhole_derivative(device):
    points = torch.tensor([[1.0, 2.0, 2.0]], device=device, requires_grad=True)
    intrinsics = simple_camera(focal=64.0, dtype=torch.float32, device=device).intrinsics.requires_grad_()
    pose = torch.eye(4, device=device).requires_grad_()
    project(points, Camera(intrinsics, pose, SIZE))[0, 0, 0].backward()  # u = fx x / z + cx
    assert points.grad.tolist() == [[32.0, 0.0, -16.0]]
    assert intrinsics.grad[0].tolist() == [[0.5, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert pose.grad[:3, 3].tolist() == [-32.0, 0.0, 16.0]  # the camera moves as the points move, the other way
    assert pose.grad[3].tolist() == [0, 0, 0, 0]


def test_the_last_row_of_a_pose_is_no_parameter(device):
    """Nor are the entries of the intrinsics that are always 0 or 1: their gradient is 0 wherever the camera stands."""
    scene = make_scene(50, 3, torch.float64, device=device, finite=True)
    intrinsics, pose = (t.clone().requires_grad_() for t in (scene.camera.intrinsics, scene.camera.world_from_camera))
    project(scene.points, Camera(intrinsics, pose, SIZE)).sum().backward()
    assert (pose.grad[:, 3] == 0).all()
    assert (pose.grad[:, :3] != 0).all()
    free = torch.tensor([[True, False, True], [False, True, True], [False, False, False]], device=device)
    assert (intrinsics.grad[:, ~free] == 0).all()
    assert (intrinsics.grad[:, free] != 0).all()


def test_only_what_asks_for_a_gradient_gets_one(device):
    scene = make_scene(10, 2, device=device)
    uvz = project(scene.points[:5].clone().requires_grad_(), scene.camera)
    assert uvz.requires_grad
    assert not project(scene.points, scene.camera).requires_grad
    pose = scene.camera.world_from_camera.clone().requires_grad_()
    project(torch.ones(3, 3, device=device), Camera(scene.camera.intrinsics, pose, SIZE)).sum().backward()
    assert pose.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 4), (1, 4, 3)])
def test_points_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=f"points must .*got {re.escape(str(shape))}"):
        project(torch.zeros(shape), simple_camera())


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_points_of_a_wrong_dtype(dtype):
    with pytest.raises(TypeError, match=f"points must .*got {str(dtype).removeprefix('torch.')}"):
        project(torch.zeros(4, 3, dtype=dtype), simple_camera())


def test_points_that_are_no_tensor():
    with pytest.raises(TypeError, match=r"points must .*got list"):
        project([[0.0, 0.0, 1.0]], simple_camera())


def test_a_camera_that_is_a_matrix():
    with pytest.raises(TypeError, match=r"camera must .*got Tensor"):
        project(torch.zeros(4, 3), torch.eye(4))


def test_points_and_camera_on_two_devices():
    with pytest.raises(ValueError, match=r"(points|camera) must .*(got meta|got cpu)"):
        project(torch.zeros(4, 3), simple_camera().to("meta"))
