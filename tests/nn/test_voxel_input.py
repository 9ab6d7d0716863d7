"""Does every point of a batch get into its voxel of the network's input, and the voxel's results back?"""

import pytest
import torch

from pyproj2d3d.nn.sparse_blocks import BatchNorm
from pyproj2d3d.nn.sr_unet import sr_unet18
from pyproj2d3d.nn.voxel_input import at_points, voxel_tensor


def test_two_points_of_a_voxel_share_their_mean_and_get_the_same_back():
    points = torch.tensor([[5.1, 0.0, 0.0], [5.9, 0.0, 0.0], [7.5, 0.0, 0.0], [-3.5, 2.0, 9.0]])
    features = torch.tensor([[1.0], [3.0], [7.0], [9.0]])
    x, voxels = voxel_tensor(points, features, 1.0, torch.tensor([0, 3, 3, 4]))
    assert x.indices.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0], [2, 0, 0, 0]]  # each cloud from its lowest
    assert x.features.tolist() == [[2.0], [7.0], [9.0]]
    assert (x.batch_size, x.spatial_shape) == (3, [3, 1, 1])
    assert at_points(x.features, voxels, 0).tolist() == [[2.0], [2.0], [7.0], [9.0]]


def test_a_point_that_is_not_finite_is_in_no_voxel():
    points = torch.tensor([[torch.nan, 0.0, 0.0], [1.0, 0.0, 0.0]])
    x, voxels = voxel_tensor(points, torch.ones(2, 1), 1.0, torch.tensor([0, 2]))
    assert len(x.indices) == 1
    assert at_points(torch.tensor([4]), voxels, -1).tolist() == [-1, 4]


def test_clouds_without_points_are_grids_without_voxels():
    x, voxels = voxel_tensor(torch.zeros(0, 3), torch.zeros(0, 2), 0.1, torch.tensor([0, 0, 0]))
    assert (x.features.shape, x.batch_size) == ((0, 2), 2)
    assert at_points(x.features.argmax(1), voxels, -1).shape == (0,)
    nowhere = voxel_tensor(torch.full((2, 3), torch.inf), torch.zeros(2, 2), 0.1, torch.tensor([0, 2]))[1]
    assert at_points(torch.zeros(0, dtype=torch.int64), nowhere, -1).tolist() == [-1, -1]


def test_a_loss_of_points_that_are_nowhere_has_a_graph():
    features = torch.zeros(0, 2, requires_grad=True)
    x, voxels = voxel_tensor(torch.full((2, 3), torch.nan), torch.zeros(2, 2), 0.1, torch.tensor([0, 2]))
    at_points(x.replace_feature(features).features, voxels, 0).sum().backward()
    assert features.grad.shape == (0, 2)


def test_what_is_made_of_a_cloud_does_not_depend_on_the_others_of_its_batch():
    torch.manual_seed(0)
    clouds = [torch.rand(300, 3) * 2 + shift for shift in (0.0, 0.37, -5.0)]
    net = sr_unet18(3, 4).eval()
    for norm in (m for m in net.modules() if isinstance(m, BatchNorm)):
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    ptr = torch.tensor([0, 300, 600, 900])
    with torch.no_grad():
        together, voxels = voxel_tensor(torch.cat(clouds), torch.cat(clouds), 0.1, ptr)
        wanted = at_points(net(together).features, voxels, 0)
        for cloud, some in zip(clouds, wanted.split(300), strict=True):
            alone, voxels = voxel_tensor(cloud, cloud, 0.1, torch.tensor([0, 300]))
            torch.testing.assert_close(at_points(net(alone).features, voxels, 0), some, rtol=1e-4, atol=1e-5)


def test_features_get_the_mean_of_their_gradient():
    features = torch.rand(3, 2, requires_grad=True)
    points = torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [1.5, 0.0, 0.0]])
    x, voxels = voxel_tensor(points, features, 1.0, torch.tensor([0, 3]))
    at_points(x.features, voxels, 0).sum().backward()
    assert features.grad.tolist() == [[1, 1], [1, 1], [1, 1]]  # two readers of a half each


@pytest.mark.parametrize(
    ("points", "features", "ptr", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 1), [0, 2], r"points must have shape \(\*, 3\), got \(2, 2\)"),
        (torch.zeros(2, 3), torch.zeros(3, 1), [0, 2], r"features must have shape \(2, \*\), got \(3, 1\)"),
        *(
            (torch.zeros(2, 3), torch.zeros(2, 1), ptr, r"ptr must have B \+ 1 entries and ascend from 0 to 2")
            for ptr in ([0, 1], [2], [1, 2], [0, 3, 2], [-1, 1, 2])
        ),
        (torch.tensor([[-(2.0**30), 0, 0], [2.0**30, 0, 0]]), torch.zeros(2, 1), [0, 2], "is one far away"),
    ],
)
def test_what_is_not_a_batch_of_clouds_is_named(points, features, ptr, message):
    with pytest.raises(ValueError, match=message):
        voxel_tensor(points, features, 1.0, torch.tensor(ptr))


@pytest.mark.parametrize(
    ("of_voxels", "error", "message"),
    [
        (torch.zeros(3, 4), ValueError, r"of_voxels must have 2 rows, one for each voxel, got shape \(3, 4\)"),
        (torch.zeros(1, 4), ValueError, r"of_voxels must have 2 rows, one for each voxel, got shape \(1, 4\)"),
        (torch.tensor(1.0), ValueError, r"of_voxels must have 2 rows, one for each voxel, got shape \(\)"),
        (torch.zeros(2, 4, device="meta"), ValueError, "of_voxels must be on cpu like voxels, got meta"),
        ([1, 2], TypeError, "of_voxels must be a tensor, got list"),
    ],
)
def test_what_is_not_of_these_voxels_is_not_carried_to_the_points(of_voxels, error, message):
    points = torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [1.5, 0.0, 0.0]])
    _, voxels = voxel_tensor(points, torch.zeros(3, 1), 1.0, torch.tensor([0, 3]))
    with pytest.raises(error, match=message):
        at_points(of_voxels, voxels, 0)


def test_what_is_nowhere_must_be_a_value_of_the_dtype():
    points = torch.tensor([[0.1, 0.0, 0.0], [float("nan"), 0.0, 0.0]])
    _, voxels = voxel_tensor(points, torch.zeros(2, 1), 1.0, torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"nowhere must be a value of torch.uint8, got -1"):
        at_points(torch.zeros(1, dtype=torch.uint8), voxels, -1)
    assert at_points(torch.zeros(1, dtype=torch.uint8), voxels, 255).tolist() == [0, 255]
    assert at_points(torch.zeros(1, dtype=torch.int64), voxels, -1).tolist() == [0, -1]
    assert at_points(torch.zeros(1, dtype=torch.bool), voxels, True).tolist() == [False, True]
    most = torch.iinfo(torch.int64).max
    assert at_points(torch.zeros(1, dtype=torch.int64), voxels, most).tolist() == [0, most]
    with pytest.raises(ValueError, match=r"nowhere must be a value of torch.float16, got 1000000.0"):
        at_points(torch.zeros(1, dtype=torch.float16), voxels, 1e6)
    assert at_points(torch.zeros(1, dtype=torch.float16), voxels, float("inf")).tolist() == [0, float("inf")]
