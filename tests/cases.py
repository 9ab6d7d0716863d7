"""Which calls stand for every operation, wherever a promise is common to all of them?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from scenes import SIZE, Scene, make_scene, tensors_of
from torch import Tensor
from torch.utils.data import Dataset

import pyproj2d3d
from pyproj2d3d import Camera, Voxels

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One way to call one operation on a scene."""

    op: str
    how: str
    arguments: Callable[[Scene], Arguments]
    compiled: bool = False  # stands for its operation under torch.compile, which is slow

    def __str__(self) -> str:
        return f"{self.op}-{self.how}"

    @property
    def differentiable(self) -> bool:
        without = (
            "visibility",
            "voxelize",
            "superpoints",
            "farthest_point_sample",
            "ball_query",
            "kernel_map",
            "cluster",
        )
        return self.op not in without and self.how != "mode"

    @property
    def host_only(self) -> bool:
        """Its arguments are on the host, whatever the device of the scene."""
        return self.op == "superpoints"

    @property
    def synchronises(self) -> bool:
        """On CUDA, for the size of its result."""
        return self.op in ("visibility", "voxelize", "kernel_map", "cluster") or (
            self.op == "back_project" and self.how != "pixels"
        )

    def __call__(self, scene: Scene, module: ModuleType = pyproj2d3d) -> Any:
        positional, keywords = self.arguments(scene)
        return self.call(module)(*positional, **keywords)

    def call(self, module: ModuleType = pyproj2d3d) -> Callable[..., Any]:
        return getattr(module, self.op)


def nearest_points(scene: Scene) -> Tensor:
    return pyproj2d3d.reference.zbuffer(scene.uvz, SIZE, radius=1)[0]


def some_pixels(scene: Scene) -> Tensor:
    """(P,) int64 into all images: the first and the last, many twice, in no order."""
    pixels = scene.depth.numel()
    if pixels == 0:
        return torch.zeros(0, dtype=torch.int64, device=scene.depth.device)
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randint(pixels, (400,), generator=rng)
    return torch.cat((chosen, chosen[:100], torch.tensor([0, pixels - 1]))).to(scene.depth.device)


def clouds_of(scene: Scene) -> Tensor:
    """(N,) int64: which of three clouds each point belongs to."""
    return torch.arange(len(scene.points), device=scene.points.device) % 3


def voxels_of(scene: Scene) -> Voxels:
    return pyproj2d3d.reference.voxelize(scene.points, 0.7)


def cells_of(scene: Scene) -> Tensor:
    """(M, 4) int32: occupied voxels of three clouds, in no order."""
    cells = pyproj2d3d.reference.voxelize(scene.points, 0.5, batch=clouds_of(scene)).coords
    return cells[torch.randperm(len(cells), generator=torch.Generator().manual_seed(0)).to(cells.device)]


def graph_of(scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
    """Points, normals (N, 3) along the axes for most, and edges (3 N, 2): some twice, some from a point to itself."""
    points = scene.points.cpu()
    n, rng = len(points), torch.Generator().manual_seed(0)
    slope = torch.nn.functional.normalize(points)
    normals = torch.where(torch.rand(n, 1, generator=rng) < 0.8, slope.round(), slope)
    edges = torch.stack((torch.arange(3 * n) % max(n, 1), torch.randint(max(n, 1), (3 * n,), generator=rng)), dim=1)
    return points, normals, edges


def sampled_clouds_of(scene: Scene) -> Arguments:
    """Three clouds, or none where there is no point; as many samples as the shortest has, but 40 at most."""
    n = len(scene.points)
    ptr = [0, n // 2, n // 2 + n // 4, n] if n >= 4 else [0, n] if n else [0]
    least = min((b - a for a, b in pairwise(ptr)), default=1)
    return (scene.points, min(40, least)), {"ptr": torch.tensor(ptr, device=scene.points.device)}


def queries_of(scene: Scene) -> Tensor:
    """(Q, 3): some points, and some beside them."""
    return torch.cat((scene.points[::7], scene.points[::5] + 0.1))


def labels_of(scene: Scene) -> Tensor:
    """(N,) int64 from -1."""
    return torch.arange(len(scene.points), device=scene.points.device) % 5 - 1


RULE = {"tolerance": (0.03, 0.01, 0.002)}
UNIT = {"normalize": True}
CASES = [
    Case("project", "points", lambda s: ((s.points, s.camera), {}), compiled=True),
    Case("visibility", "frame", lambda s: ((s.points, s.camera), RULE)),
    Case("visibility", "border", lambda s: ((s.points, s.camera), RULE | {"border": 2, "z_min": 0.5, "z_max": 3.0})),
    Case("visibility", "metres", lambda s: ((s.points, s.camera, s.depth), RULE), compiled=True),
    Case("visibility", "millimetres", lambda s: ((s.points, s.camera, s.depth_mm), RULE | {"depth_scale": 1000.0})),
    Case("visibility", "zbuffer", lambda s: ((s.points, s.camera, "zbuffer"), RULE | {"radius": 1}), compiled=True),
    Case("zbuffer", "pixels", lambda s: ((s.uvz, SIZE), {})),
    Case("zbuffer", "grid", lambda s: ((s.uvz, SIZE), {"radius": 1, "stride": 3}), compiled=True),
    Case("zbuffer", "matches", lambda s: ((s.uvz, SIZE), {"matches": s.matches})),
    Case("splat", "index", lambda s: ((s.features, nearest_points(s)), {}), compiled=True),
    Case("splat", "mean", lambda s: ((s.features, s.matches, SIZE), {}), compiled=True),
    Case("splat", "sum", lambda s: ((s.features, s.matches, SIZE), {"reduce": "sum"})),
    Case("sample", "matches", lambda s: ((s.maps, s.matches, SIZE), {}), compiled=True),
    Case("sample", "pixels", lambda s: ((s.maps, s.uvz[..., :2], SIZE), UNIT | {"align_corners": True}), compiled=True),
    Case("sample", "nearest", lambda s: ((s.maps, s.matches, SIZE), {"mode": "nearest"})),
    Case("back_project", "points", lambda s: ((s.depth, s.camera), {}), compiled=True),
    Case("back_project", "maps", lambda s: ((s.depth, s.camera, s.maps), UNIT), compiled=True),
    Case("back_project", "millimetres", lambda s: ((s.depth_mm, s.camera, s.maps), {"depth_scale": 1000.0})),
    Case("back_project", "pixels", lambda s: ((s.depth, s.camera, s.maps), {"pixels": some_pixels(s)}), compiled=True),
    Case("voxelize", "cubes", lambda s: ((s.points, 0.3), {}), compiled=True),
    Case("voxelize", "batch", lambda s: ((s.points, (0.1, 0.2, 0.7)), {"batch": clouds_of(s), "origin": (0.1, 0, -1)})),
    Case("voxelize", "far", lambda s: ((s.points, 1e-8), {"batch": clouds_of(s)})),  # 63 bits do not do
    Case("scatter", "mean", lambda s: ((s.features, voxels_of(s)), {}), compiled=True),
    Case("scatter", "sum", lambda s: ((s.features, voxels_of(s), "sum"), {})),
    Case("scatter", "max", lambda s: ((s.features, voxels_of(s), "max"), {"return_arg": True}), compiled=True),
    Case("scatter", "min", lambda s: ((s.features, voxels_of(s), "min"), {})),
    Case("scatter", "mode", lambda s: ((labels_of(s), voxels_of(s), "mode"), {}), compiled=True),
    Case("scatter", "first", lambda s: ((s.features, voxels_of(s), "first"), {})),
    Case("kernel_map", "submanifold", lambda s: ((cells_of(s), 3), {}), compiled=True),
    Case("kernel_map", "halves", lambda s: ((cells_of(s), 2), {"stride": 2}), compiled=True),
    Case("kernel_map", "strided", lambda s: ((cells_of(s), 3), {"stride": (1, 2, 3), "padding": 1, "dilation": 2})),
    Case("superpoints", "edges", lambda s: (graph_of(s), {"k": 0.3, "min_size": 4}), compiled=True),
    Case("superpoints", "small", lambda s: (graph_of(s), {"k": 0.01, "min_size": 1})),
    Case("farthest_point_sample", "clouds", sampled_clouds_of, compiled=True),
    Case("ball_query", "few", lambda s: ((s.points, queries_of(s), 0.9, 4), {}), compiled=True),
    Case("ball_query", "all", lambda s: ((s.points, queries_of(s), 1.5, 200), {})),
    Case("three_nn", "points", lambda s: ((s.points, queries_of(s)), {}), compiled=True),
    Case("cluster", "near", lambda s: ((s.points, labels_of(s), 0.2), {}), compiled=True),
    Case("cluster", "large", lambda s: ((s.points, labels_of(s) // 2, 0.7), {"min_size": 5})),
    Case("cluster", "far", lambda s: ((s.points, labels_of(s) * 2**28, 1e-8), {})),  # 63 bits do not do
    Case("fuse_views", "mean", lambda s: ((s.maps, s.matches, len(s.points), SIZE), {}), compiled=True),
    Case("fuse_views", "max", lambda s: ((s.maps, s.matches, len(s.points), SIZE), {"reduce": "max"}), compiled=True),
    Case("fuse_views", "unit", lambda s: ((s.maps, s.matches, len(s.points), SIZE), UNIT | {"mode": "nearest"})),
]  # fmt: skip


def leaves(value: Any) -> Any:
    """The same arguments as leaves that ask for gradients."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    if isinstance(value, Camera):
        return Camera(leaves(value.intrinsics), leaves(value.world_from_camera), value.size)
    if isinstance(value, tuple):
        return tuple(leaves(part) for part in value)
    return value


def cotangent(value: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=rng, dtype=torch.float64).to(value)


def gradients(
    call: Callable[..., Any], arguments: Arguments, weight: Callable[[Tensor], Tensor] = cotangent
) -> tuple[Tensor, ...]:
    """Of the floating outputs, by the floating arguments."""
    positional, keywords = leaves(arguments[0]), arguments[1]
    out = [t for t in tensors_of(call(*positional, **keywords)) if t.requires_grad]
    asked = [t for t in tensors_of(positional) if t.requires_grad]
    return torch.autograd.grad(out, asked, [weight(t) for t in out], materialize_grads=True)


class EveryOperation(Dataset):
    """What every case returns, made where the item is asked for: in a worker of a DataLoader."""

    def __len__(self) -> int:
        return len(CASES)

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        return tensors_of(CASES[i](make_scene(2000)))
