"""What does the projection released with the 3D-to-2D distillation code do, and why is ours another?

The scripts that prepare the data of the 3D-to-2D distillation paper (Liu et al., CVPR 2021) project by the rule below.
It is here, and only here, so that these tests can show on cases one can check by eye where it goes wrong.
"""

import by_hand
import numpy as np
import pytest
import torch
from scenes import unit_camera

from pyproj2d3d import project, splat, visibility, zbuffer


def released_projection(points: torch.Tensor, camera, depth: torch.Tensor) -> np.ndarray:
    """The (H, W) map of vertex indices for one view; 0 is empty."""
    height, width = camera.size
    index = np.zeros((height, width), int)
    whole = by_hand.project(points.double().numpy(), camera)[0].astype(int)  # u, v and z, each cut towards 0
    for n, (u, v, z) in enumerate(whole):
        if not (0 <= u < width and 0 <= v < height and z > 0):
            continue
        d = depth[0, v, u].item()
        if d != 0 and abs(z - d) <= 2 and abs(z - d) / d <= 0.5:
            index[v, u] = n  # whoever comes last stays
    return index


def released_dilation(index: np.ndarray) -> np.ndarray:
    """The greatest index of each 3x3 neighbourhood."""
    height, width = index.shape
    wide = np.zeros_like(index)
    for v in range(height):
        for u in range(width):
            wide[v, u] = index[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2].max()
    return wide


def released_cache(index: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The points of the non-empty grid pixels, and a map of row numbers into them; there, too, 0 is empty."""
    grid = index[::stride, ::stride]
    kept = grid[grid != 0]
    row_of = {point: row for row, point in enumerate(kept.tolist())}
    return kept, np.array([[row_of.get(point, 0) for point in row] for row in grid.tolist()])


def ours(points: torch.Tensor, camera, depth: torch.Tensor, radius: int = 0) -> list:
    """The (H, W) map of point indices for one view; -1 is empty."""
    matches = visibility(points, camera, depth)
    return zbuffer(project(points, camera), camera.size, radius=radius, matches=matches)[0][0].tolist()


FIRST = [99.0, 99.0, 1.0]  # a vertex 0 that lands nowhere, since the released map cannot hold vertex 0


def row(*points: list[float]) -> torch.Tensor:
    return torch.tensor([FIRST, *points])


@pytest.mark.parametrize(
    ("z", "accepted"),  # sensor depths that pass, as the whole metres of z give them
    [
        (0.8, None),
        (1.2, (2 / 3, 2.0)),
        (1.9, (2 / 3, 2.0)),
        (2.5, (4 / 3, 4.0)),
        (2.99, (4 / 3, 4.0)),
        (4.5, (8 / 3, 6.0)),
    ],
)
def test_depth_is_cut_to_whole_metres(z, accepted):
    points, camera = row([0.0, 0.0, z]), unit_camera(1)
    for d in np.arange(0.05, 8, 0.1):
        depth = torch.full((1, 1, 1), float(d))
        passes = accepted is not None and accepted[0] < d < accepted[1]
        assert (released_projection(points, camera, depth)[0, 0] == 1) == passes
        if abs(d - z) > 0.3:
            assert ours(points, camera, depth) == [[-1]]
    assert ours(points, camera, torch.full((1, 1, 1), z)) == [[1]]


def test_a_point_two_metres_behind_the_wall_passes():
    points, camera, wall = row([0.0, 0.0, 5.9]), unit_camera(1), torch.full((1, 1, 1), 4.0)
    assert released_projection(points, camera, wall).tolist() == [[1]]
    assert ours(points, camera, wall) == [[-1]]


def test_points_nearer_than_a_metre_are_dropped():
    points, camera, depth = row([0.0, 0.0, 0.99]), unit_camera(1), torch.full((1, 1, 1), 0.99)
    assert released_projection(points, camera, depth).tolist() == [[0]]
    assert ours(points, camera, depth) == [[1]]


def test_a_point_up_to_a_pixel_left_of_the_image_lands_in_it():
    points, camera, depth = row([-0.9, 0.0, 1.0]), unit_camera(2), torch.ones(1, 1, 2)
    assert released_projection(points, camera, depth).tolist() == [[1, 0]]
    assert ours(points, camera, depth) == [[-1, -1]]


def test_pixels_are_cut_not_rounded():
    points, camera, depth = row([0.9, 0.0, 1.0]), unit_camera(2), torch.ones(1, 1, 2)
    assert released_projection(points, camera, depth).tolist() == [[1, 0]]
    assert ours(points, camera, depth) == [[-1, 1]]


def test_the_highest_index_wins_instead_of_the_nearest_point():
    points, camera = row([0.0, 0.0, 2.0], [0.0, 0.0, 2.9]), unit_camera(1)
    depth = torch.full((1, 1, 1), 2.0)
    assert released_projection(points, camera, depth).tolist() == [[2]]
    assert ours(points, camera, depth) == [[1]]
    assert zbuffer(project(points, camera), (1, 1))[0].tolist() == [[[1]]]  # even without a depth filter


def test_vertex_0_is_lost():
    points, camera, depth = torch.tensor([[0.0, 0.0, 2.0]]), unit_camera(2), torch.full((1, 1, 2), 2.0)
    assert released_projection(points, camera, depth).tolist() == [[0, 0]]
    assert ours(points, camera, depth) == [[0, -1]]


def test_dilation_puts_the_higher_index_over_the_nearer_point():
    points, camera = row([0.0, 0.0, 1.0], [4.0, 0.0, 2.0]), unit_camera(3)
    depth = torch.tensor([[[1.0, 0.0, 2.0]]])
    index = released_projection(points, camera, depth)
    assert index.tolist() == [[1, 0, 2]]
    assert released_dilation(index).tolist() == [[1, 2, 2]]
    assert ours(points, camera, depth, radius=1) == [[1, 1, 2]]


def test_dilation_wipes_out_a_neighbour_that_was_seen():
    points, camera, depth = row([0.0, 0.0, 1.0], [1.0, 0.0, 1.0]), unit_camera(2), torch.ones(1, 1, 2)
    assert released_dilation(released_projection(points, camera, depth)).tolist() == [[2, 2]]
    assert zbuffer(project(points, camera), (1, 2))[0].tolist() == [[[1, 2]]]


def test_the_first_row_of_the_cache_is_lost_and_twins_share_the_last():
    points = row([0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [6.0, 0.0, 1.0])
    camera, depth = unit_camera(8), torch.ones(1, 1, 8)
    kept, number = released_cache(released_projection(points, camera, depth), stride=2)
    assert kept.tolist() == [1, 2, 3]
    assert number.tolist() == [[0, 0, 1, 2]]  # pixel 0 has row 0, pixel 2 has none: no telling
    kept, number = released_cache(np.array([[5, 7, 5]]), stride=1)
    assert (kept.tolist(), number.tolist()) == ([5, 7, 5], [[2, 1, 2]])  # the first row is kept and never read

    index, _ = zbuffer(project(points, camera), (1, 8), stride=2)
    assert index.tolist() == [[[1, -1, 2, 3]]]
    features = torch.tensor([[10.0], [11.0], [12.0], [13.0]])
    assert splat(features, index).flatten().tolist() == [11, 0, 12, 13]
