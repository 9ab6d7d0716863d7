"""Do the tables and pictures of a training run say what happened?"""

import pytest
import torch

from pyproj2d3d.metrics import confusion_matrix, segmentation_scores
from pyproj2d3d.report_colors import label_colors
from pyproj2d3d.report_training import _hides, _picture, class_table, draw_curves, draw_prediction, epochs_of

LOG = "epoch,step,train/miou,val/miou\n0,9,,0.25\n0,9,0.5,\n1,19,,0.5\n1,19,0.75,\n"


def test_a_class_table_has_a_row_for_each_class_and_the_means():
    target, prediction = torch.tensor([0, 0, 1, 1, -1]), torch.tensor([0, 1, 1, 1, 0])
    table = class_table(["wall", "floor", "sofa"], segmentation_scores(confusion_matrix(prediction, target, 3)))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["class", "IoU", "accuracy"]
    assert rows[2:] == [
        ["wall", "50.0", "50.0"],
        ["floor", "66.7", "100.0"],
        ["sofa", "", ""],  # nowhere: neither labelled nor predicted
        ["mean", "58.3", "75.0"],
        ["all points", "", "75.0"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def room(n=20_000):
    """Points of a room of 4 x 4 x 2.4 m, and the face each is on: floor, ceiling, and walls at -y, +y, -x, +x."""
    p = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    face = torch.arange(n) % 6
    for i, (axis, end) in enumerate([(2, 0), (2, 1), (1, 0), (1, 1), (0, 0), (0, 1)]):
        p[face == i, axis] = float(end)
    return p * torch.tensor([4.0, 4.0, 2.4]), face


def test_what_would_hide_the_room_is_left_out_and_the_rest_is_shown():
    points, face = room()
    hidden = torch.stack([_hides(points)[face == i].double().mean() for i in range(6)])
    assert hidden[1] == 1  # the ceiling
    assert hidden[2] > 0.85  # the wall on our side
    assert hidden[0] == 0  # the floor
    assert hidden[3] < 0.15  # the wall opposite: its upper edge alone, with the ceiling
    assert _hides(torch.zeros(0, 3)).shape == (0,)


def test_a_picture_has_the_colours_it_was_given():
    points, face = room()
    picture = _picture(points, label_colors(face))
    shown = {tuple(c) for c in picture[picture[..., 3] > 0][:, :3].tolist()}
    assert shown <= {tuple(c) for c in label_colors(torch.arange(6)).tolist()}
    assert tuple(label_colors(torch.tensor(1)).tolist()) not in shown
    share = (picture[..., 3] > 0).double().mean()
    assert 0.1 < share < 0.8
    assert _picture(torch.zeros(0, 3), torch.zeros(0, 3))[..., 3].max() == 0


@pytest.mark.parametrize("n", [0, 1, 3000])
def test_predictions_of_any_cloud_are_drawn(n, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    points, face = room(n)
    points[: n // 100] = torch.nan
    path = tmp_path / "new" / "scene.png"
    draw_prediction(path, points, None, face - 1, face.flip(0) - 1, ["a", "b", "c", "d", "e"])
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_places_are_not_rounded_under_autocast(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    points, face = room(60)
    with torch.autocast("cpu", torch.bfloat16):
        draw_prediction(tmp_path / "scene.png", points, None, face - 1, face - 1, ["a", "b", "c", "d", "e"])
    assert (tmp_path / "scene.png").exists()


def test_curves_have_an_epoch_for_each_value(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    log = tmp_path / "metrics.csv"
    log.write_text(LOG)
    assert epochs_of(log, "val/miou") == ([1, 2], [0.25, 0.5])
    draw_curves(log, tmp_path / "curves.svg", ["train/miou", "val/miou"])
    drawn = (tmp_path / "curves.svg").read_text()
    assert "train/miou 0.750" in drawn
    assert "val/miou 0.500" in drawn
    assert epochs_of(log, "test/miou") == ([], [])
    draw_curves(log, tmp_path / "curves.png", ["test/miou", "val/miou"])  # as after a run without a validation
