"""Which points belong together for their shape alone?"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyproj2d3d import reference, superpoints

NATIVE_AND_REFERENCE = pytest.mark.parametrize(
    "segmented", [superpoints, reference.superpoints], ids=["native", "reference"]
)


def path_of(*weights: float, dtype=torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Points in one place, so that no edge is convex, in a row of edges with these weights.

    Points take turns with the axes, so that each shares one with the next alone. Exact for weights in eighths.
    """
    normals = torch.zeros(len(weights) + 1, 3, dtype=dtype)
    for i, w in enumerate(weights):
        normals[i, i % 3], normals[i + 1, i % 3] = 1 - w, 1
    n = torch.arange(len(weights))
    return torch.zeros(len(normals), 3, dtype=dtype), normals, torch.stack((n, n + 1), dim=1)


def graph_of(n: int, e: int, dtype=torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """At random; every third edge is short, normals of a few points are not of unit length or not finite."""
    rng = torch.Generator().manual_seed(seed)
    points, slope = torch.randn(2, n, 3, generator=rng, dtype=torch.float64)
    slope = torch.nn.functional.normalize(slope, dim=1)
    normals = torch.where(torch.rand(n, 1, generator=rng) < 0.7, slope.round(), slope)
    edges = torch.randint(n, (e, 2), generator=rng)
    edges[::3, 1] = (edges[::3, 0] + 1) % n
    odd = torch.tensor([math.nan, math.inf, 1e30, 0.0], dtype=torch.float64)
    normals[7::50, 1], points[9::70, 2] = odd[torch.arange(n)[7::50] % 4], math.nan
    return points.to(dtype), normals.to(dtype), edges


def by_hand(points: Tensor, normals: Tensor, edges: Tensor, k: float, min_size: int) -> Tensor:
    """Every join writes all labels anew: no sets, no roots."""
    p, n, dtype = points.numpy(), normals.numpy(), points.numpy().dtype.type
    weights = []
    for a, b in edges.tolist():
        with np.errstate(invalid="ignore", over="ignore"):
            turn = dtype(1) - ((n[a, 0] * n[b, 0] + n[a, 1] * n[b, 1]) + n[a, 2] * n[b, 2])
            step = p[b] - p[a]
            w = turn * turn if (n[b, 0] * step[0] + n[b, 1] * step[1]) + n[b, 2] * step[2] > 0 else turn
        weights.append(math.inf if math.isnan(w) else max(dtype(0), w))
    order = sorted(range(len(edges)), key=lambda e: weights[e])
    label = torch.arange(len(points))
    threshold = [dtype(k)] * len(points)
    for least in (None, min_size):
        for e in order:
            a, b = label[edges[e]].tolist()
            sizes = [(label == s).sum().item() for s in (a, b)]
            small = min(sizes) < least if least else weights[e] <= min(threshold[a], threshold[b])
            if a != b and small:
                label[label == max(a, b)] = min(a, b)
                threshold[min(a, b)] = dtype(weights[e]) + dtype(k) / dtype(sum(sizes))
    return label.unique(return_inverse=True)[1]


@NATIVE_AND_REFERENCE
def test_a_floor_and_a_wall_are_two_segments(segmented, dtype):
    points = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 0, 1], [1, 0, 2]], dtype=dtype)
    normals = torch.tensor([[0, 0, 1], [0, 0, 1], [-1, 0, 0], [-1, 0, 0]], dtype=dtype)
    found = segmented(points, normals, torch.tensor([[0, 1], [1, 2], [2, 3]]), k=0.01, min_size=1)
    assert found.tolist() == [0, 0, 1, 1]
    assert found.dtype == torch.int64


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize(
    ("middle", "wanted"), [(1.0, [0, 0, 0, 0]), (1.0 + 2**-20, [0, 0, 1, 1])], ids=["at it", "beyond it"]
)
def test_the_threshold_of_a_pair_is_its_weight_and_half_of_k(segmented, middle, wanted, dtype):
    """Two pairs joined at 0.5 with k = 1 join each other at 0.5 + 1 / 2 at most."""
    assert segmented(*path_of(0.5, middle, 0.5, dtype=dtype), k=1, min_size=1).tolist() == wanted


@NATIVE_AND_REFERENCE
def test_both_segments_have_to_agree(segmented, dtype):
    """A point alone would join at 1; the pair before it, joined at 0, at 0.5 only."""
    points, normals, edges = path_of(0.0, 0.75, dtype=dtype)
    assert segmented(points, normals, edges, k=1, min_size=1).tolist() == [0, 0, 1]
    assert segmented(points[1:], normals[1:], edges[:1], k=1, min_size=1).tolist() == [0, 0]


@NATIVE_AND_REFERENCE
def test_k_is_what_a_single_point_bears(segmented, dtype):
    graph = path_of(0.5, 1.0, 0.25, dtype=dtype)
    for k, wanted in ((0.125, [0, 1, 2, 3]), (0.25, [0, 1, 2, 2]), (0.5, [0, 0, 1, 1]), (2.0, [0, 0, 0, 0])):
        assert segmented(*graph, k=k, min_size=1).tolist() == wanted
    assert segmented(*path_of(0.0, 0.125, dtype=dtype), k=0, min_size=1).tolist() == [0, 0, 1]


@NATIVE_AND_REFERENCE
def test_a_ridge_weighs_the_square_of_what_a_valley_does(segmented, dtype):
    """n . m = 0.5: a half, and across the ridge a quarter."""
    points = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=dtype)
    c, s = math.sqrt(3) / 2, 0.5
    ridge = torch.tensor([[-s, 0, c], [s, 0, c]], dtype=dtype)
    edge = torch.tensor([[0, 1]])
    for k, of_ridge, of_valley in ((0.24, [0, 1], [0, 1]), (0.26, [0, 0], [0, 1]), (0.51, [0, 0], [0, 0])):
        assert segmented(points, ridge, edge, k=k, min_size=1).tolist() == of_ridge
        assert segmented(points, ridge.flip(0), edge, k=k, min_size=1).tolist() == of_valley


@NATIVE_AND_REFERENCE
def test_whether_an_edge_is_convex_is_asked_at_its_second_end(segmented, dtype):
    """The plane goes through both points, the slope faces away from the first."""
    points = torch.tensor([[0, 0, 0], [1, 0, 0]], dtype=dtype)
    normals = torch.tensor([[0, 0, 1], [0.5, 0, 0.75]], dtype=dtype)
    assert segmented(points, normals, torch.tensor([[0, 1]]), k=0.0625, min_size=1).tolist() == [0, 0]
    assert segmented(points, normals, torch.tensor([[1, 0]]), k=0.0625, min_size=1).tolist() == [0, 1]


@NATIVE_AND_REFERENCE
def test_a_small_segment_goes_where_its_lightest_edge_leads(segmented, dtype):
    """Of equal ones the first given: point 2 lies between two pairs that would do without it."""
    points, normals, edges = path_of(0.0, 1.0, 1.0, 0.0, dtype=dtype)
    assert segmented(points, normals, edges, k=0.5, min_size=1).tolist() == [0, 0, 1, 2, 2]
    assert segmented(points, normals, edges, k=0.5, min_size=2).tolist() == [0, 0, 0, 1, 1]
    assert segmented(points, normals, edges.flip(0), k=0.5, min_size=2).tolist() == [0, 0, 1, 1, 1]
    lighter = path_of(0.0, 1.0, 0.875, 0.0, dtype=dtype)
    assert segmented(*lighter, k=0.5, min_size=2).tolist() == [0, 0, 1, 1, 1]


@NATIVE_AND_REFERENCE
def test_a_pair_of_enough_points_is_left_alone(segmented, dtype):
    graph = path_of(0.0, 1.0, 0.0, dtype=dtype)
    assert segmented(*graph, k=0.5, min_size=2).tolist() == [0, 0, 1, 1]
    assert segmented(*graph, k=0.5, min_size=3).tolist() == [0, 0, 0, 0]
    assert segmented(*graph, k=0.5, min_size=2**70).tolist() == [0, 0, 0, 0]


@NATIVE_AND_REFERENCE
def test_segments_are_numbered_by_their_lowest_points(segmented, dtype):
    points, normals = torch.zeros(5, 3, dtype=dtype), torch.eye(3, dtype=dtype)[[2, 0, 1, 0, 2]]
    edges = torch.tensor([[4, 0], [3, 1], [2, 3], [1, 4]])
    assert segmented(points, normals, edges, k=0.5, min_size=1).tolist() == [0, 1, 2, 1, 0]


@NATIVE_AND_REFERENCE
def test_points_without_edges_stay_alone_however_small(segmented, dtype):
    points, normals, edges = path_of(0.0, 0.0, dtype=dtype)
    assert segmented(points, normals, edges[:0], k=1, min_size=20).tolist() == [0, 1, 2]
    assert segmented(points, normals, edges[1:], k=1, min_size=20).tolist() == [0, 1, 1]


@NATIVE_AND_REFERENCE
def test_no_points_have_no_segments(segmented, dtype):
    none = torch.zeros(0, 3, dtype=dtype)
    found = segmented(none, none, torch.zeros(0, 2, dtype=torch.int64), k=1, min_size=1)
    assert found.shape == (0,)
    assert found.dtype == torch.int64


@NATIVE_AND_REFERENCE
def test_edges_given_twice_and_from_a_point_to_itself_do_no_harm(segmented):
    points, normals, edges = graph_of(200, 300)
    wanted = segmented(points, normals, edges, k=0.3, min_size=3)
    assert 3 < wanted.max() < 100
    itself = torch.arange(200)[:, None].expand(200, 2)
    again = torch.cat((edges, itself, edges.flip(0)))
    assert torch.equal(segmented(points, normals, again, k=0.3, min_size=3), wanted)


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_normal_that_is_not_finite_joins_nothing_but_for_its_size(segmented, bad, dtype):
    points, normals, edges = path_of(0.0, 0.0, dtype=dtype)
    normals[2] = torch.tensor([bad, 0, bad])
    normals[1] = torch.tensor([1.0, 0, -1.0])
    normals[0] = torch.tensor([1.0, 0, 0])
    assert segmented(points, normals, edges, k=1e6, min_size=1).tolist() == [0, 0, 1]
    assert segmented(points, normals, edges, k=1e6, min_size=2).tolist() == [0, 0, 0]


@NATIVE_AND_REFERENCE
def test_normals_longer_than_1_weigh_no_less_than_nothing(segmented, dtype):
    """1 - n . m = -3 goes before nothing: edges of weight 0 stand in the order given."""
    points, normals, edges = path_of(0.0, 1.0, 1.0, 0.0, dtype=dtype)
    longer = normals.clone()
    longer[:2] *= 2
    longer[2, 1] = normals[2, 1]
    for ends in (edges, edges.flip(0)):
        found, wanted = (segmented(points, n, ends, k=0.5, min_size=2) for n in (longer, normals))
        assert torch.equal(found, wanted)


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("k", "min_size"), [(0.0, 1), (0.01, 5), (0.3, 1), (0.3, 20), (3.0, 2)])
def test_equals_labels_written_anew_at_every_join(segmented, k, min_size, seed, dtype):
    graph = graph_of(60, 40 + 20 * seed, dtype, seed)
    assert torch.equal(segmented(*graph, k=k, min_size=min_size), by_hand(*graph, k, min_size))


@pytest.mark.parametrize("e", [100, 3000, 30_000])
def test_large_graphs_equal_the_reference(e, dtype):
    graph = graph_of(9000, e, dtype)
    for k, min_size in ((0.3, 3), (0.1, 1), (0.0, 1)):
        found = superpoints(*graph, k=k, min_size=min_size)
        assert torch.equal(found, reference.superpoints(*graph, k=k, min_size=min_size))
        assert found.max() > 500


def walls_of_a_room(dtype, n: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points on the six sides of a cube, n x n each, in no order; their inward normals; edges within the sides and
    across all seams; the wall of each point."""
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    a, b = (t.flatten() for t in torch.meshgrid(grid, grid, indexing="ij"))
    points, normals, wall = [], [], []
    for axis in range(3):
        for side in (0.0, 1.0):
            points.append(torch.stack((torch.full_like(a, side), a, b), dim=1).roll(axis, dims=1))
            normals.append(torch.eye(3, dtype=torch.float64)[[axis]].expand(n * n, 3) * (1 - 2 * side))
            wall.append(torch.full((n * n,), 2 * axis + int(side)))
    order = torch.randperm(6 * n * n, generator=torch.Generator().manual_seed(0))
    points, normals, wall = (torch.cat(parts)[order] for parts in (points, normals, wall))
    edges = (torch.cdist(points, points) < 1.05 / n).triu(1).nonzero()
    return points.to(dtype), normals.to(dtype), edges, wall


@NATIVE_AND_REFERENCE
def test_every_wall_of_a_room_is_one_segment(segmented, dtype):
    points, normals, edges, wall = walls_of_a_room(dtype)
    assert (wall[edges[:, 0]] != wall[edges[:, 1]]).sum() == 12 * 12  # all seams are crossed
    for outward in (False, True):  # of a room and of a box
        found = segmented(points, -normals if outward else normals, edges, k=0.01, min_size=20)
        assert found.max() == 5
        assert all(len(found[wall == w].unique()) == 1 for w in range(6))


def test_walls_bear_noise_if_k_does(dtype):
    points, normals, edges, wall = walls_of_a_room(dtype)
    noise = 0.05 * torch.randn(normals.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy = torch.nn.functional.normalize(normals + noise.to(dtype), dim=1)
    found = superpoints(points, noisy, edges, k=0.3, min_size=20)
    assert found.max() == 5
    assert all(len(found[wall == w].unique()) == 1 for w in range(6))
    assert superpoints(points, noisy, edges, k=0.0, min_size=1).max() > 300


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_finds_the_same(threads, set_threads, dtype):
    graph = graph_of(30_000, 90_000, dtype)
    set_threads(1)
    alone = superpoints(*graph, k=0.1, min_size=5)
    set_threads(threads)
    assert torch.equal(superpoints(*graph, k=0.1, min_size=5), alone)


def test_points_that_ask_for_a_gradient_are_segmented_all_the_same():
    points, normals, edges = graph_of(100, 200)
    wanted = superpoints(points, normals, edges, k=0.3, min_size=2)
    found = superpoints(points.requires_grad_(), normals.requires_grad_(), edges, k=0.3, min_size=2)
    assert torch.equal(found, wanted)
    assert not found.requires_grad
    assert torch.equal(reference.superpoints(points, normals, edges, k=0.3, min_size=2), wanted)


# Errors.

POINTS = torch.zeros(4, 3)
EDGES = torch.tensor([[0, 1], [2, 3]])
RULE = {"k": 0.1, "min_size": 2}
BAD = {
    "points of two numbers": ((POINTS[:, :2], POINTS, EDGES), RULE, ValueError, r"points must have shape \(\*, 3\)"),
    "points of integers": ((POINTS.int(), POINTS, EDGES), RULE, TypeError, r"points must be float32 or .*got int32"),
    "points in half": ((POINTS.half(), POINTS, EDGES), RULE, TypeError, r"points must be float32 or .*got float16"),
    "points as a list": (([[0.0] * 3], POINTS, EDGES), RULE, TypeError, r"points must be a tensor, got list"),
    "too few normals": ((POINTS, POINTS[:3], EDGES), RULE, ValueError, r"normals must have shape \(4, 3\), got \(3, 3"),
    "other normals": ((POINTS, POINTS.double(), EDGES), RULE, TypeError, r"normals must be float32, got float64"),
    "edges of three": ((POINTS, POINTS, EDGES.repeat(1, 2)[:, :3]), RULE, ValueError, r"edges must have shape \(\*, 2"),
    "edges of int32": ((POINTS, POINTS, EDGES.int()), RULE, TypeError, r"edges must be int64, got int32"),
    "points elsewhere": ((POINTS.to("meta"), POINTS, EDGES), RULE, ValueError, r"points must be on the host: .*meta"),
    "normals elsewhere": ((POINTS, POINTS.to("meta"), EDGES), RULE, ValueError, r"normals must be on the host: .*meta"),
    "edges elsewhere": ((POINTS, POINTS, EDGES.to("meta")), RULE, ValueError, r"edges must be on the host: .*got meta"),
    "an edge beyond": ((POINTS, POINTS, EDGES + 1), RULE, ValueError, r"edges must be .*0 to 3, edge 1 is \[3, 4\]"),
    "a negative edge": ((POINTS, POINTS, EDGES - 1), RULE, ValueError, r"edges must be .*0 to 3, edge 0 is \[-1, 0\]"),
    "a far edge": ((POINTS, POINTS, EDGES * 2**61), RULE, ValueError, r"edges must be .*, edge 0 is \[0, 2305843009"),
    "edges of no points": ((POINTS[:0], POINTS[:0], EDGES), RULE, ValueError, r"edges must .*edge 0 is \[0, 1\]"),
    "a negative k": ((POINTS, POINTS, EDGES), RULE | {"k": -0.1}, ValueError, r"k must not be negative.*got -0.1"),
    "an infinite k": ((POINTS, POINTS, EDGES), RULE | {"k": math.inf}, ValueError, r"k must .*finite in float32, got"),
    "k beyond float32": ((POINTS, POINTS, EDGES), RULE | {"k": 1e39}, ValueError, r"k must .*finite in float32, got"),
    "k is NaN": ((POINTS, POINTS, EDGES), RULE | {"k": math.nan}, ValueError, r"k must be a number, got NaN"),
    "k as text": ((POINTS, POINTS, EDGES), RULE | {"k": "0.1"}, TypeError, r"k must be a number, got '0.1'"),
    "min_size of 0": ((POINTS, POINTS, EDGES), RULE | {"min_size": 0}, ValueError, r"min_size must be at least 1, got"),
    "min_size as float": ((POINTS, POINTS, EDGES), RULE | {"min_size": 2.0}, TypeError, r"min_size must be an integer"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_superpoints_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        superpoints(*arguments, **keywords)


def test_tensors_on_a_gpu_are_refused(device):
    if device.type != "cuda":
        pytest.skip("takes a CUDA device")
    with pytest.raises(ValueError, match="points must be on the host: superpoints runs on the CPU only, got cuda"):
        superpoints(POINTS.to(device), POINTS.to(device), EDGES.to(device), **RULE)


def test_a_compiled_call_looks_at_the_edges_too():
    torch._dynamo.reset()
    call = torch.compile(lambda e: superpoints(POINTS, POINTS, e, **RULE), fullgraph=True, backend="aot_eager")
    assert call(EDGES).tolist() == superpoints(POINTS, POINTS, EDGES, **RULE).tolist()
    with pytest.raises(ValueError, match=r"edge 1 is \[3, 4\]"):
        call(EDGES + 1)
    torch._dynamo.reset()
