"""cluster: which points of one label hang together? A room as it was scanned, and as PointGroup moves its points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference
from pyproj2d3d.data import Room

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender
from .workloads import ROOM

FULL, TINY = {"points": 200_000}, {"points": 2_000}
FEW = {"points": 5_000}
RADIUS = 0.05  # about the neighbours that PointGroup's 3 cm have in a cloud with a point for every 2 cm
SCIPY = "SciPy (cKDTree.query_pairs, connected_components)"


def labelled_room(points: int) -> tuple[Tensor, Tensor]:
    """Points (N, 3) float32 on the faces of the analytic room and their labels (N,)."""
    cloud, labels, _ = Room(ROOM).points(points, ROOM)
    return cloud.float(), labels


def contenders(device: torch.device, points: Tensor, labels: Tensor) -> dict[str, Contender | str]:
    in_numpy = points.numpy(), labels.numpy()
    points, labels = points.to(device), labels.to(device)
    return {
        OURS: lambda: pyproj2d3d.cluster(points, labels, RADIUS),
        SCIPY: peers.on_cpu(device, peers.if_installed("scipy", lambda: scipy_components(*in_numpy, RADIUS))),
    }


def scanned(device: torch.device, points: int) -> dict[str, Contender | str]:
    """cluster, 5 cm: points where they are."""
    return contenders(device, *labelled_room(points))


def moved_to_centres(device: torch.device, points: int) -> dict[str, Contender | str]:
    """cluster, 5 cm: points moved 60 % of the way to the centre of their class."""
    cloud, labels = labelled_room(points)
    _, number, counts = labels.unique(return_inverse=True, return_counts=True)
    centre = cloud.new_zeros(len(counts), 3).index_add_(0, number, cloud) / counts[:, None]
    return contenders(device, cloud + 0.6 * (centre[number] - cloud), labels)


def few(device: torch.device, points: int) -> dict[str, Contender | str]:
    """cluster, 5 cm: few points, beside all pairs in torch."""
    cloud, labels = labelled_room(points)
    on_device = cloud.to(device), labels.to(device)
    return contenders(device, cloud, labels) | {"plain torch": lambda: reference.cluster(*on_device, RADIUS)}


def bench_cluster(timed: Timed) -> None:
    results = timed(scanned, full=FULL, tiny=TINY, moved=moved, goals={SCIPY: 5.0}, memory=True)
    assert_same_clusters(results)


def bench_cluster_of_moved_points(timed: Timed) -> None:
    results = timed(moved_to_centres, full=FULL, tiny=TINY, moved=moved, goals={SCIPY: 5.0}, memory=True, rounds=1)
    assert_same_clusters(results)


def bench_cluster_of_few_points(timed: Timed) -> None:
    assert_same_clusters(timed(few, full=FEW, tiny=TINY, rounds=1))


def bench_cluster_same_bits_in_20_runs(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    calls = [make(timed.device, **size)[OURS] for make in (scanned, moved_to_centres)]
    timed.same_bits("cluster", *(lambda call=call: (call(),) for call in calls))


def moved(found: Tensor, size: dict[str, int]) -> int:
    """Points and labels in; clusters out."""
    return 20 * size["points"] + found.nbytes


def assert_same_clusters(results: dict[str, object]) -> None:
    for name, theirs in results.items():
        assert torch.equal(numbered(torch.as_tensor(theirs)), results[OURS].cpu()), name


def numbered(found: Tensor) -> Tensor:
    """The same clusters, numbered by their lowest points. Not part of what is timed."""
    found = found.cpu().long()
    names, number = found.unique(return_inverse=True)
    first = torch.full((len(names),), len(found)).scatter_reduce(0, number, torch.arange(len(found)), "amin")
    return first.argsort().argsort()[number]


def scipy_components(points: np.ndarray, labels: np.ndarray, radius: float) -> np.ndarray:
    """All pairs within the radius, those of one label as a graph, and its components; in float64."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    p, q = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]].T
    graph = coo_array((np.ones(len(p), dtype=bool), (p, q)), shape=(len(points), len(points)))
    return connected_components(graph, directed=False)[1]
