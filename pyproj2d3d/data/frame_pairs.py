"""Which two frames of a scene see the same? Pairs of views for methods that compare them, such as PointContrast."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from ..camera import Camera
from ..ops._check import check_int
from ..ops.back_project import back_project
from ..ops.visibility import visibility
from .samples import FrameSamples, Sample, ViewTransform, Which, _drawn
from .scene import SceneDataset
from .transforms import check_share
from .views import View

NEAR = 0.075  # metres: 1.5 voxels of 5 cm, as PointContrast's compute_full_overlapping.py has it
ACROSS = 40  # of a view's pixels along its longer side are asked whether another view sees them


class FramePairs(FrameSamples):
    """Each frame of all scenes with another one that sees much of it: samples of two views.

    Args:
        dataset, every, transform, at: as for :class:`FrameSamples`. Each view is transformed with draws of its own.
        overlap: the least share of the first view's pixels, of those with depth, whose place the second is to see.
        tries: how many frames are read, at most, to find one that does.

    Which frames may do is told by their cameras alone: those whose image has enough of the first view's points in it.
    They are read in random order until one sees enough of the points, within 7.5 cm of its depth. Where none does, the
    second view is that which sees most of those that were tried: who trains with pairs has to look. Scenes of one frame
    have no pairs and are left out.

    PointContrast counts voxels of 5 cm, not pixels, and takes the larger share of the two; here each comes first once.
    """

    def __init__(
        self, dataset: SceneDataset, *, every: int = 1, overlap: float = 0.3, tries: int = 4,
        transform: ViewTransform | None = None, at: str = "depth",
    ):  # fmt: skip
        super().__init__(dataset, every=every, transform=transform, at=at)
        check_share("overlap", overlap)
        self.overlap, self.tries = overlap, check_int("tries", tries, 1)
        scenes = [list(frames) for _, frames in groupby(self._frames, key=lambda named: named[0])]
        self._frames, self._scenes = [], []
        for frames in scenes:
            if len(frames) > 1:
                begin = len(self._frames)
                self._frames += frames
                self._scenes += [range(begin, begin + len(frames))] * len(frames)

    def __getitem__(self, which: Which) -> Sample:
        i, rng = _drawn(which, len(self))
        (scene, frame), others = self._frames[i], self._scenes[i]
        first, most = View.of(frame, self.at), -1
        points = thinned(first)
        inside = visibility(points, self._cameras(others)).ptr.diff()
        inside[i - others.start] = -1
        may = (inside >= self.overlap * len(points)).nonzero()[:, 0]
        may = may[torch.randperm(len(may), generator=rng)[: self.tries]] if len(may) else inside.argmax()[None]
        for n in may.tolist():
            other = self._frames[others[n]][1]
            view = View.of(other, self.at)
            seen = int(visibility(points, view.camera, view.depth[None], tolerance=NEAR).ptr[1])
            if seen > most:
                second, name, most = view, other.name, seen
            if seen >= self.overlap * len(points):
                break
        views = (first, second)
        if self.transform is not None:
            views = (self.transform(first, rng), self.transform(second, rng))
        return Sample(scene, (frame.name, name), views)

    def _cameras(self, which: range) -> Camera:
        frames = [self._frames[i][1] for i in which]
        return Camera.cat([frame.camera if self.at == "depth" else frame.color_camera for frame in frames])


def thinned(view: View) -> Tensor:
    """(N, 3) of the world, what every so many-th pixel of every so many-th row sees."""
    height, width = view.size
    step = -(-max(height, width) // ACROSS)
    at = torch.arange(height * width).view(height, width)[::step, ::step].flatten()
    cloud = back_project(view.depth[None], view.camera, pixels=at)
    return cloud.points[cloud.valid]
