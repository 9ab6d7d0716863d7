"""superpoints: which points belong together for their shape alone? A mesh of the size of a scanned room.

No library that we know offers this for meshes or clouds: scikit-image has it for images, and the minimum spanning tree
that SciPy could find first is not enough, for an edge between two segments that a third one keeps apart is not in it.
ScanNet's own program is C++ from a file to a file. What the sort that all of them begin with takes stands beside.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference
from pyproj2d3d.data.graph import mesh_edges, vertex_normals

from .conftest import OURS, Timed
from .measuring import Contender

FULL, TINY = {"side": 450}, {"side": 60}  # 202,500 points, 605,701 edges
K, MIN_SIZE = 0.01, 20  # ScanNet's
PYTHON = "NumPy, and union-find in Python"
SORT, SORT_BITS = "torch.sort of the weights alone", "torch.sort of their bits as int32 alone"


def bumpy_sheet(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points (side side, 3), every 2 cm, on steps, waves and 2 mm of noise; normals; edges (E, 2)."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    noise = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    z = 0.3 * ((x // 40 + y // 50) % 3 == 0) + 0.1 * torch.sin(x / 17) * torch.cos(y / 23) + 0.002 * noise
    points = torch.stack((0.02 * x, 0.02 * y, z), dim=-1).view(-1, 3)
    corner = (y * side + x)[:-1, :-1].flatten()
    halves = (corner, corner + 1, corner + side + 1), (corner, corner + side + 1, corner + side)
    faces = torch.cat([torch.stack(half, dim=1) for half in halves])
    return points, vertex_normals(points, faces), mesh_edges(faces)


def sheet(device: torch.device, side: int) -> dict[str, Contender | str]:
    """superpoints of a mesh, k = 0.01, 20 points."""
    points, normals, edges = bumpy_sheet(side)
    in_numpy = points.numpy(), normals.numpy(), edges.numpy()
    weight = torch.from_numpy(weights(*in_numpy))
    return {
        OURS: lambda: pyproj2d3d.superpoints(points, normals, edges, k=K, min_size=MIN_SIZE),
        "plain torch": lambda: reference.superpoints(points, normals, edges, k=K, min_size=MIN_SIZE),
        PYTHON: lambda: python_union_find(*in_numpy, K, MIN_SIZE),
        SORT: lambda: weight.sort(stable=True),
        SORT_BITS: lambda: weight.view(torch.int32).sort(stable=True),  # by radix
    }


def bench_superpoints(timed: Timed) -> None:
    on_the_host(timed)
    goals = {PYTHON: 20.0, SORT: 1.0}
    results = timed(sheet, full=FULL, tiny=TINY, moved=moved, goals=goals, memory=True, rounds=1)
    found = results[OURS]
    assert torch.equal(found, results["plain torch"])
    assert torch.equal(found, torch.from_numpy(results[PYTHON]))
    for ordered in (results[SORT], results[SORT_BITS]):
        assert (ordered.values.diff() >= 0).all()
    assert found.max() > 0


def bench_superpoints_same_bits_in_20_runs(timed: Timed) -> None:
    on_the_host(timed)
    ours = sheet(timed.device, **(TINY if timed.quick else FULL))[OURS]
    timed.same_bits("superpoints", lambda: (ours(),))


def on_the_host(timed: Timed) -> None:
    if timed.device.type != "cpu":
        pytest.skip("superpoints is for the host only")


def moved(found: Tensor, size: dict[str, int]) -> int:
    """Points, normals and edges in; segments out."""
    side = size["side"]
    return 24 * side**2 + 16 * (3 * side**2 - 4 * side + 1) + found.nbytes


def weights(points: np.ndarray, normals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    p, q = edges.T
    n, m, step = normals[p], normals[q], points[q] - points[p]
    turn = 1 - ((n[:, 0] * m[:, 0] + n[:, 1] * m[:, 1]) + n[:, 2] * m[:, 2])
    rise = (m[:, 0] * step[:, 0] + m[:, 1] * step[:, 1]) + m[:, 2] * step[:, 2]
    return np.maximum(np.where(rise > 0, turn * turn, turn), 0)


def python_union_find(
    points: np.ndarray, normals: np.ndarray, edges: np.ndarray, k: float, min_size: int
) -> np.ndarray:
    """What one writes without a compiler: arrays as long as it goes, then lists. Thresholds in float64, not float32."""
    weight = weights(points, normals, edges)
    order = np.argsort(weight, kind="stable")
    parent, size, threshold = list(range(len(points))), [1] * len(points), [k] * len(points)

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    refused = []
    firsts, seconds = edges[order].T.tolist()
    for w, i, j in zip(weight[order].tolist(), firsts, seconds, strict=True):
        a, b = find(i), find(j)
        if a == b:
            continue
        if w > threshold[a] or w > threshold[b]:
            refused.append((i, j))
            continue
        if a > b:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        threshold[a] = w + k / size[a]
    for i, j in refused:
        a, b = sorted((find(i), find(j)))
        if a != b and (size[a] < min_size or size[b] < min_size):
            parent[b] = a
            size[a] += size[b]
    return np.unique([find(i) for i in range(len(points))], return_inverse=True)[1]
