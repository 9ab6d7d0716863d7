"""Do the two frames of a pair see the same, and is it said by chance which?"""

from pathlib import Path

import pytest
import torch

from pyproj2d3d import Camera, project
from pyproj2d3d.data import write_room
from pyproj2d3d.data.frame_pairs import FramePairs, thinned
from pyproj2d3d.data.open_dataset import open_dataset
from pyproj2d3d.data.scene import Frame, Frames, Scene, SceneDataset
from pyproj2d3d.data.transforms2d import Flip
from pyproj2d3d.data.views import View

SIZE = (12, 16)
PINHOLE = torch.tensor([[8.0, 0, 7.5], [0, 8, 5.5], [0, 0, 1]])


class Walls(SceneDataset):
    """Scenes of a wall 2 m before cameras that look along z, each from its place along x; some see another depth."""

    def __init__(self, scenes: dict[str, list[float]], depths: dict[str, float] | None = None):
        object.__setattr__(self, "root", Path("walls"))
        object.__setattr__(self, "names", tuple(scenes))
        object.__setattr__(self, "scenes", scenes)
        object.__setattr__(self, "depths", depths or {})

    @staticmethod
    def is_in(names):
        return False

    def _open(self, name):
        pose = torch.eye(4).repeat(len(self.scenes[name]), 1, 1)
        pose[:, 0, 3] = torch.tensor(self.scenes[name])
        cameras = Camera(PINHOLE, pose, SIZE)

        def depth_of(frame):
            return lambda: torch.full(SIZE, self.depths.get(frame, 2.0)).numpy()

        def color():
            return torch.zeros(*SIZE, 3, dtype=torch.uint8).numpy()

        frames = [Frame(f"{i}", cameras, cameras, None, depth_of(f"{i}"), color, view=i) for i in range(len(cameras))]
        return Scene(name, lambda: Frames(frames))


def share(first, second):
    """Of the first view's points in the image of the second, within 7.5 cm of its depth."""
    uvz = project(thinned(first), second.camera)[0]
    column, row = (uvz[:, :2] + 0.5).floor().long().unbind(1)
    height, width = second.size
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (uvz[:, 2] > 0)
    there = second.depth[row[inside], column[inside]]
    return ((there - uvz[inside, 2]).abs() <= 0.075).sum().item() / len(uvz)


def test_a_frame_is_paired_with_the_one_that_sees_enough_of_it():
    """A wall of 4 m in each image: at 1 m three quarters are seen, at 3 m a quarter, at 9 m nothing."""
    pairs = FramePairs(Walls({"wall": [0.0, 1.0, 4.0, 9.0]}), overlap=0.7)
    assert len(pairs) == 4
    assert [pairs[i, seed].frames for i in (0, 1) for seed in range(3)] == [("0", "1")] * 3 + [("1", "0")] * 3
    assert share(*pairs[0].views) == 0.75


def test_the_partner_is_drawn_among_those_that_will_do():
    pairs = FramePairs(Walls({"wall": [0.0, 1.0, -1.0, 9.0]}))
    partners = [pairs[0, seed].frames[1] for seed in range(40)]
    assert set(partners) == {"1", "2"}
    assert partners == [pairs[0, seed].frames[1] for seed in range(40)]


def test_what_hides_the_wall_is_found_out_by_reading_the_depth():
    pairs = FramePairs(Walls({"wall": [0.0, 1.0, 0.5]}, {"2": 1.0}))
    assert {pairs[0, seed].frames for seed in range(20)} == {("0", "1")}


def test_where_none_sees_enough_it_is_the_best_of_those_tried():
    alone = FramePairs(Walls({"wall": [0.0, 3.0, 9.0]}))
    assert {alone[0, seed].frames for seed in range(5)} == {("0", "1")}
    hidden = FramePairs(Walls({"wall": [0.0, 1.0, 0.5]}, {"1": 1.0, "2": 1.0}))
    assert {hidden[0, seed].frames[1] for seed in range(20)} == {"1", "2"}
    blind = FramePairs(Walls({"wall": [0.0, 1.0]}, {"0": 0.0}))
    assert blind[0].frames == ("0", "1")


def test_a_scene_of_one_frame_has_no_pair():
    pairs = FramePairs(Walls({"one": [0.0], "two": [0.0, 1.0], "none": []}))
    assert [pairs[i].scene for i in range(len(pairs))] == ["two", "two"]
    assert len(FramePairs(Walls({"two": [0.0, 1.0]}), every=2)) == 0
    with pytest.raises(IndexError, match="sample 2 is not among 2"):
        pairs[2]


def test_both_views_are_varied_and_only_after_they_were_chosen():
    plain, mirrored = (FramePairs(Walls({"wall": [0.0, 1.0]}), transform=t) for t in (None, Flip(1.0)))
    for view, flipped in zip(plain[0].views, mirrored[0].views, strict=True):
        assert flipped.camera.intrinsics.equal(view.flipped().camera.intrinsics)
    assert plain[0].frames == mirrored[0].frames


def test_in_a_room_pairs_overlap(tmp_path):
    write_room(tmp_path / "room", frames=6, points=60, seed=0, size=(48, 64))
    for at in ("depth", "color"):
        pairs = FramePairs(open_dataset(tmp_path, None), at=at)
        shares = [share(*pairs[i, seed].views) for i in range(6) for seed in range(2)]
        assert 0.3 <= min(shares) < 0.9


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"overlap": 1.5}, "overlap must be from 0 to 1, got 1.5"),
        ({"tries": 0}, "tries must be at least 1, got 0"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"at": "both"}, "at must be 'depth' or 'color', got 'both'"),
    ],
)
def test_what_pairs_cannot_be_is_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        FramePairs(Walls({"wall": [0.0, 1.0]}), **keywords)


def test_points_are_asked_evenly_over_the_image():
    view = View.of(Walls({"wall": [0.0]})["wall"].frames[0])
    big = view.resized((96, 128))
    assert len(thinned(view)) == 12 * 16
    assert len(thinned(big)) == 24 * 32
