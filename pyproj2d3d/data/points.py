"""What does a training sample of a cloud hold? Points that may move, be dropped or be doubled, and what they were."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..camera import Camera, Matches
from ..ops._check import GEOMETRY, check_camera, check_device, check_each_match, check_matches, check_tensor
from .scene import Cloud

_FIELDS = ("colors", "normals", "semantic", "instance", "superpoint")


@dataclass(frozen=True, eq=False)
class Points:
    """Points of one scene in training, each still knowing which point of the scene's cloud it is.

    What a pixel has to do with a point is told by ``index`` alone: whatever moves or drops points, point i here is
    point ``index[i]`` of the cloud, and :meth:`matches` turns matches of the cloud into matches of these. As long as
    all that moved them was affine, ``points_from_world`` is the whole of it, and :meth:`follow` moves cameras along.

    A new Points for every change, none in place. Faces of a mesh are not kept. N may be 0.

    Raises:
        TypeError, ValueError: a tensor of another dtype, length or device than said here, or a matrix that is not
            affine.
    """

    xyz: Tensor  # (N, 3) float32 or float64
    index: Tensor  # (N,) int64, the point of the cloud that each is; one may be here more than once
    n_cloud: int  # points of that cloud
    points_from_world: Tensor | None  # (4, 4) float64: xyz = this applied to the cloud's; None after a distortion
    colors: Tensor | None = None  # (N, 3) uint8
    normals: Tensor | None = None  # (N, 3) like xyz, of unit length, 0 where there is none
    semantic: Tensor | None = None  # (N,) int64 class, -1 for none
    instance: Tensor | None = None  # (N,) int64 object, -1 for none; as in the cloud, not numbered anew
    superpoint: Tensor | None = None  # (N,) int64, likewise

    def __post_init__(self) -> None:
        check_tensor("xyz", self.xyz, GEOMETRY, None, 3)
        n = len(self.xyz)
        check_tensor("index", self.index, (torch.int64,), n)
        check_device("index", self.index, "xyz", self.xyz)
        _check_within("index", self.index, self.n_cloud)
        if self.points_from_world is not None:
            _check_affine("points_from_world", self.points_from_world)
        for name in _FIELDS:
            of = getattr(self, name)
            if of is not None:
                dtype = {"colors": torch.uint8, "normals": self.xyz.dtype}.get(name, torch.int64)
                check_tensor(name, of, (dtype,), *((n, 3) if name in ("colors", "normals") else (n,)))
                check_device(name, of, "xyz", self.xyz)

    @classmethod
    def of(cls, cloud: Cloud) -> Points:
        """All points of a cloud, where they are. For float64 give it a Cloud whose points (and normals) are float64."""
        check_tensor("points", cloud.points, GEOMETRY, None, 3)
        n, device = len(cloud.points), cloud.points.device
        identity = torch.eye(4, dtype=torch.float64, device=device)
        fields = {name: getattr(cloud, name) for name in _FIELDS}
        return cls(cloud.points, torch.arange(n, device=device), n, identity, **fields)

    def __len__(self) -> int:
        return len(self.xyz)

    def keep(self, which: Tensor) -> Points:
        """Some of the points.

        Args:
            which: (N,) bool, those to keep; or (K,) int64, which ones, in any order, each as often as it is named.
        """
        if isinstance(which, Tensor) and which.dtype == torch.bool:
            check_tensor("which", which, (torch.bool,), len(self))
        else:
            check_tensor("which", which, (torch.bool, torch.int64), None)
            _check_within("which", which, len(self))
        fields = {name: of[which] for name in ("xyz", "index", *_FIELDS) if (of := getattr(self, name)) is not None}
        return replace(self, **fields)

    def moved(self, new_from_old: Tensor) -> Points:
        """All points under an affine map (4, 4): computed in float64, rounded once to the dtype of ``xyz``.

        Normals stay at right angles to the surface and on its side, also when it is mirrored, and of unit length.
        """
        _check_affine("new_from_old", new_from_old)
        matrix = new_from_old.to(self.xyz.device, torch.float64)
        xyz = (self.xyz.double() @ matrix[:3, :3].T + matrix[:3, 3]).to(self.xyz.dtype)
        normals = None if self.normals is None else bent(self.normals, matrix[None, :3, :3])
        world = None if self.points_from_world is None else matrix @ self.points_from_world
        return replace(self, xyz=xyz, normals=normals, points_from_world=world)

    def follow(self, camera: Camera) -> Camera:
        """Cameras of the cloud's world, moved as the points were: they see every point at the pixel it had.

        The whole map goes into the pose, scale and mirroring included, so coordinates in the camera are what they were:
        :func:`project` gives the same u, v and z, depth images and tolerances stay in metres of the world. The pose is
        no rigid motion any more (:class:`Camera` inverts it as it stands); lengths of its axes are the scale.

        Raises:
            ValueError: the points were distorted, so that no camera does this. Link them by index: :meth:`matches`.
        """
        check_camera("camera", camera)
        if self.points_from_world is None:
            raise ValueError(
                "points must be moved by affine maps alone for cameras to follow, these were distorted: use matches()"
            )
        pose = self.points_from_world.to(camera.device) @ camera.world_from_camera.double()
        return Camera(camera.intrinsics, pose.to(camera.dtype), camera.size)

    def matches(self, of_cloud: Matches) -> Matches:
        """The matches of these points, given those of the cloud.

        Points are numbered as here, ascending within a view; points that were dropped have none, every copy of a point
        has its pixel. True to the bit whatever was done to ``xyz``.

        Raises:
            ValueError: matches made for a cloud of another number of points.
        """
        check_matches("of_cloud", of_cloud, n_points=self.n_cloud)
        check_each_match("of_cloud", of_cloud.ptr, of_cloud.point, of_cloud.pixel, points=self.n_cloud)
        check_device("of_cloud", of_cloud.ptr, "xyz", self.xyz)
        new = torch.argsort(self.index, stable=True)  # new numbers by old ones
        copies = torch.bincount(self.index, minlength=self.n_cloud)
        first = copies.cumsum(0) - copies
        point = of_cloud.point.long()
        times = copies[point]
        match = torch.repeat_interleave(torch.arange(len(point), device=point.device), times)
        nth = torch.arange(len(match), device=point.device) - (times.cumsum(0) - times)[match]
        kept = new[first[point[match]] + nth]
        order = torch.argsort(of_cloud.view.long()[match] * len(self) + kept)
        ptr = torch.cat((times.new_zeros(1), times.cumsum(0)))[of_cloud.ptr]
        pixel = of_cloud.pixel[match][order]
        return Matches(ptr, kept[order].to(torch.int32), pixel, len(self), of_cloud.size)


def bent(normals: Tensor, jacobian: Tensor) -> Tensor:
    """(N, 3) unit normals of surfaces under maps whose derivatives are (N, 3, 3) or (1, 3, 3); 0 stays 0.

    The cofactor matrix does what the inverse transpose does, and also where there is no inverse.
    """
    a, b, c = jacobian.double().unbind(1)  # its rows (N, 3)
    across = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), dim=1)
    side = torch.where((a * across[:, 0]).sum(1) < 0, -1.0, 1.0)  # of the determinant
    new = (across @ normals.double()[:, :, None])[..., 0] * side[:, None]
    return torch.nn.functional.normalize(new, dim=1, eps=1e-30).to(normals.dtype)


def _check_within(name: str, index: Tensor, n: int) -> None:
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n:
        raise ValueError(f"{name} must be within {n} points, got {int(index.min())} to {int(index.max())}")


def _check_affine(name: str, matrix: Tensor) -> None:
    check_tensor(name, matrix, GEOMETRY, 4, 4)
    if not bool(torch.isfinite(matrix).all()) or matrix[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(f"{name} must be finite and end in the row [0, 0, 0, 1], got {matrix.tolist()}")
    if float(torch.linalg.det(matrix.double()[:3, :3])) == 0:
        raise ValueError(f"{name} must be invertible, got a 3x3 part with determinant 0")
