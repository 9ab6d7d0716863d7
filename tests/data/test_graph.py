"""Which points are neighbours, which way does a surface face there, and does a segmentation come of it?"""

import doctest
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyproj2d3d import superpoints
from pyproj2d3d.data import graph
from pyproj2d3d.data.graph import knn_edges, mesh_edges, vertex_normals
from pyproj2d3d.metrics import purity


def sheet(n: int, height: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices (n n, 3) on a grid of 20 mm, heights (n, n) in mm, and faces; row by row."""
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    corner = (y * n + x)[:-1, :-1].flatten()
    lower, upper = [corner, corner + 1, corner + n + 1], [corner, corner + n + 1, corner + n]
    faces = torch.cat([torch.stack(f, dim=1) for f in (lower, upper)])
    return torch.stack((20 * x, 20 * y, height), dim=-1).reshape(-1, 3).float() / 1000, faces


def shuffled(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same mesh with its vertices in another order, and which old vertex each is."""
    order = torch.randperm(len(vertices), generator=torch.Generator().manual_seed(0))
    return vertices[order], order.argsort()[faces], order


def test_the_examples_of_the_docstrings_show_what_is_returned():
    result = doctest.testmod(graph, extraglobs={"torch": torch})
    assert result.attempted == 3
    assert result.failed == 0


# Edges of a mesh.


def test_two_triangles_have_five_sides():
    assert mesh_edges(torch.tensor([[2, 1, 3], [1, 0, 2]])).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]


def test_a_face_given_twice_and_turned_has_its_sides_once():
    assert mesh_edges(torch.tensor([[5, 0, 9], [0, 9, 5], [9, 0, 5]])).tolist() == [[0, 5], [0, 9], [5, 9]]


def test_a_side_from_a_vertex_to_itself_is_left_out():
    assert mesh_edges(torch.tensor([[0, 1, 1], [2, 2, 2]])).tolist() == [[0, 1]]
    assert mesh_edges(torch.tensor([[2, 2, 2]])).shape == (0, 2)


def test_no_faces_have_no_sides():
    edges = mesh_edges(torch.zeros(0, 3, dtype=torch.int64))
    assert edges.shape == (0, 2)
    assert edges.dtype == torch.int64


def test_vertices_may_have_any_number_below_two_to_the_31():
    last = 2**31 - 1
    assert mesh_edges(torch.tensor([[0, last, last - 1]])).tolist() == [[0, last - 1], [0, last], [last - 1, last]]


def test_edges_of_a_mesh_are_those_of_a_set_of_pairs():
    faces = torch.randint(60, (300, 3), generator=torch.Generator().manual_seed(0))
    wanted = {tuple(sorted((f[i], f[i - 1]))) for f in faces.tolist() for i in range(3) if f[i] != f[i - 1]}
    assert mesh_edges(faces).tolist() == [list(pair) for pair in sorted(wanted)]
    assert torch.equal(mesh_edges(faces.T.contiguous().T), mesh_edges(faces))


# Neighbours in a cloud.


def test_neighbours_on_a_line():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [6, 0, 0]])
    assert knn_edges(points, 1).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert knn_edges(points, 2).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]


def test_where_there_are_fewer_neighbours_all_are_taken():
    points = torch.rand(4, 3)
    pairs = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    for k in (3, 4, 100):
        assert knn_edges(points, k).tolist() == pairs
    for n in (0, 1):
        assert knn_edges(points[:n], 3).shape == (0, 2)


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_are_those_of_all_distances(k, dtype):
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    distance = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(math.inf).argsort(dim=1)[:, :k]
    wanted = {tuple(sorted((i, j))) for i, row in enumerate(nearest.tolist()) for j in row}
    assert knn_edges(points, k).tolist() == [list(pair) for pair in sorted(wanted)]


def test_points_in_one_place_are_neighbours_of_each_other_and_not_of_themselves():
    edges = knn_edges(torch.zeros(9, 3), 2)
    assert (edges[:, 0] < edges[:, 1]).all()
    degree = torch.bincount(edges.flatten(), minlength=9)
    assert (degree >= 2).all()


def test_neighbours_do_not_depend_on_threads(set_threads):
    points = torch.randint(12, (3000, 3), generator=torch.Generator().manual_seed(0)) / 4  # many are equally far
    set_threads(1)
    alone = knn_edges(points, 5)
    set_threads(3)
    assert torch.equal(knn_edges(points, 5), alone)


# Normals.


def test_the_normal_of_a_triangle_points_to_where_it_goes_counter_clockwise(dtype):
    vertices = torch.tensor([[0, 0, 0], [2, 0, 0], [0, 0.5, 0]], dtype=dtype)
    for mean in (False, True):
        assert vertex_normals(vertices, torch.tensor([[0, 1, 2]]), mean=mean).tolist() == [[0, 0, 1]] * 3
        assert vertex_normals(vertices, torch.tensor([[0, 2, 1]]), mean=mean).tolist() == [[0, 0, -1]] * 3


def test_a_larger_face_pulls_more_and_in_the_mean_as_much(dtype):
    """One of area 1 that faces z and one of 4 / 3 that faces x."""
    vertices = torch.tensor([[0, 0, 0], [0, 2, 0], [1, 0, 0], [0, 0, 4 / 3]], dtype=dtype)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3]])
    weighted, plain = vertex_normals(vertices, faces), vertex_normals(vertices, faces, mean=True)
    torch.testing.assert_close(weighted[0], torch.tensor([0.8, 0, 0.6], dtype=dtype))
    assert plain.tolist() == [[0.5, 0, 0.5], [0.5, 0, 0.5], [0, 0, 1], [1, 0, 0]]  # not made length 1
    assert weighted.dtype == dtype


@pytest.mark.parametrize("mean", [False, True])
def test_a_face_without_area_has_no_say(mean, dtype):
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [9, 9, 9]], dtype=dtype)
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [1, 1, 2]])
    assert vertex_normals(vertices, faces, mean=mean).tolist() == [[0, 0, 1]] * 3 + [[0, 0, 0]] * 2


@pytest.mark.parametrize("mean", [False, True])
def test_faces_that_cancel_leave_0_and_what_is_not_finite_stays_with_its_faces(mean):
    vertices = torch.rand(7, 3, generator=torch.Generator().manual_seed(0))
    vertices[6, 0] = math.nan
    faces = torch.tensor([[0, 1, 2], [0, 2, 1], [3, 4, 5], [5, 4, 6]])
    normals = vertex_normals(vertices, faces, mean=mean)
    assert (normals[:3] == 0).all()
    assert normals[3].norm().item() == pytest.approx(1)
    assert normals[4:].isnan().any(dim=1).all()


def test_tiny_faces_have_normals_too():
    vertices = 1e-12 * torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert vertex_normals(vertices, torch.tensor([[0, 1, 2]])).tolist() == [[0, 0, 1]] * 3


def test_no_faces_have_no_normals(dtype):
    normals = vertex_normals(torch.rand(3, 3).to(dtype), torch.zeros(0, 3, dtype=torch.int64))
    assert normals.tolist() == [[0, 0, 0]] * 3
    assert vertex_normals(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3)


def test_normals_do_not_depend_on_threads_or_on_layout(set_threads, dtype):
    vertices, faces = sheet(60, torch.randint(99, (60, 60), generator=torch.Generator().manual_seed(0)))
    vertices = vertices.to(dtype)
    set_threads(1)
    alone = vertex_normals(vertices, faces)
    set_threads(3)
    assert torch.equal(vertex_normals(vertices, faces), alone)
    assert torch.equal(vertex_normals(vertices.T.contiguous().T, faces.T.contiguous().T), alone)
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(3600, dtype=dtype))


def test_open3d_finds_the_same_normals():
    open3d = pytest.importorskip("open3d")
    vertices, faces = sheet(30, torch.randint(99, (30, 30), generator=torch.Generator().manual_seed(0)))
    mesh = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(vertices.double().numpy()), open3d.utility.Vector3iVector(faces.numpy())
    )
    mesh.compute_vertex_normals()
    theirs = torch.from_numpy(np.asarray(mesh.vertex_normals).copy())
    torch.testing.assert_close(vertex_normals(vertices.double(), faces), theirs)


# What superpoints makes of them.

SEGMENTATOR_SIZES = [
    *(32, 42, 48, 61, 44, 102, 73, 114, 57, 65, 72, 103),
    *(47, 42, 101, 89, 102, 60, 40, 37, 72, 45, 66, 86),
]


def test_the_segments_are_those_of_scannets_segmentator(dtype):
    """Sizes and a sum over the numbers, in order of the lowest vertex, of what its C++ program (ScanNet/ScanNet
    0d88ccb, Segmentator) made of this dented sheet with its defaults."""
    n = 40
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    dents = (x * 7919 + y * 104729 + x * y * 1299709) % 1009 * 3 // 20  # anything but smooth
    vertices, faces = sheet(n, 260 * (x // 13 % 2) * (y // 20 % 2) + dents)
    vertices = vertices.to(dtype)
    both_ways = faces[:, [0, 1, 0, 2, 2, 1]].view(-1, 2)
    found = superpoints(vertices, vertex_normals(vertices, faces, mean=True), both_ways, k=0.01, min_size=20)
    assert torch.bincount(found).tolist() == SEGMENTATOR_SIZES
    assert (found * torch.arange(1, n * n + 1)).sum() == 19_535_630


def test_a_step_in_a_floor_parts_it_in_three():
    """Two flats and the rise between them, whatever the order of the vertices."""
    height = torch.zeros(30, 30, dtype=torch.int64)
    height[:, 15:] = 200
    vertices, faces, order = shuffled(*sheet(30, height))
    normals = vertex_normals(vertices, faces)
    found = superpoints(vertices, normals, mesh_edges(faces), k=0.01, min_size=20)
    column = order % 30  # 14 and 15 stand at the foot and the top of the rise
    assert found.max() == 2
    for part in (column < 14, (column == 14) | (column == 15), column > 15):
        assert len(found[part].unique()) == 1


def test_superpoints_of_a_real_scan_follow_its_objects(real_data):
    """Without its faces, so with neighbours for edges and the plane through 16 of them for a normal."""
    folder = real_data("scannet_scene0000_00")
    from scipy.spatial import cKDTree

    points = torch.from_numpy(np.load(folder / "scene0000_00_vert_all.npy")[:, :3].copy())
    labels = torch.from_numpy(np.load(folder / "scene0000_00_sem_label_all.npy").astype(np.int64)) - 1
    near = points.double()[torch.from_numpy(cKDTree(points.numpy()).query(points.numpy(), 16)[1])]
    near = near - near.mean(dim=1, keepdim=True)
    normals = torch.linalg.eigh(near.mT @ near)[1][:, :, 0].float()
    normals *= ((points.mean(dim=0) - points) * normals).sum(dim=1, keepdim=True).sign()  # into the room
    edges = knn_edges(points, 8)
    found = {k: superpoints(points, normals, edges, k=k, min_size=20) for k in (0.01, 0.1, 1.0)}
    count, pure = {k: int(s.max()) + 1 for k, s in found.items()}, {k: purity(s, labels) for k, s in found.items()}
    assert 500 < count[0.01] < 1000
    assert count[0.01] > count[0.1] > count[1.0]
    assert pure[0.01] > 0.85
    assert pure[0.01] > pure[0.1] > pure[1.0] > purity(torch.zeros_like(labels), labels)


# Errors.

FACES = torch.tensor([[0, 1, 2]])
POINTS = torch.zeros(3, 3)
BAD = {
    "faces of four": (lambda: mesh_edges(torch.zeros(2, 4).long()), ValueError, r"faces must have shape \(\*, 3\)"),
    "faces of int32": (lambda: mesh_edges(FACES.int()), TypeError, "faces must be int64, got int32"),
    "a negative vertex": (lambda: mesh_edges(FACES - 1), ValueError, r"faces must .*, face 0 is \[-1, 0, 1\]"),
    "a vertex beyond int32": (lambda: mesh_edges(FACES * 2**30), ValueError, r"from 0 to 2147483647, face 0 is \[0, 1"),
    "points of two": (lambda: knn_edges(POINTS[:, :2], 1), ValueError, r"points must have shape \(\*, 3\)"),
    "points of integers": (lambda: knn_edges(POINTS.int(), 1), TypeError, "points must be float32 or float64, got int"),
    "points elsewhere": (lambda: knn_edges(POINTS.to("meta"), 1), ValueError, "points must be on the host: knn_edges"),
    "points not finite": (lambda: knn_edges(POINTS / 0, 1), ValueError, "points must be finite"),
    "k of 0": (lambda: knn_edges(POINTS, 0), ValueError, "k must be at least 1, got 0"),
    "k as a float": (lambda: knn_edges(POINTS, 2.0), TypeError, "k must be an integer, got 2.0"),
    "vertices in half": (lambda: vertex_normals(POINTS.half(), FACES), TypeError, "vertices must be float32 or"),
    "faces of floats": (lambda: vertex_normals(POINTS, FACES.float()), TypeError, "faces must be int64, got float32"),
    "faces elsewhere": (lambda: vertex_normals(POINTS, FACES.to("meta")), ValueError, "faces must be on cpu like vert"),
    "a missing vertex": (lambda: vertex_normals(POINTS, FACES + 1), ValueError, r"from 0 to 2, face 0 is \[1, 2, 3\]"),
    "no vertices": (lambda: vertex_normals(POINTS[:0], FACES), ValueError, r"faces must .*, face 0 is \[0, 1, 2\]"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD.keys())
def test_graph_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()
