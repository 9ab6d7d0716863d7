"""Do the tables and pictures of a training run say what happened?"""

import re

import pytest
import torch

from pyproj2d3d import project
from pyproj2d3d.metrics import confusion_matrix, segmentation_scores
from pyproj2d3d.report_3d import PICTURE_SIZE
from pyproj2d3d.report_colors import label_colors
from pyproj2d3d.report_training import (
    _hides,
    _picture,
    _viewpoint,
    class_table,
    draw_curves,
    draw_prediction,
    epochs_of,
)

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
    assert _picture(torch.zeros(0, 3), torch.zeros(0, 3))[..., 3].max() == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (1, 5, 1), (0.1, 0.1, 5)])
def test_all_points_are_in_the_picture_and_some_touch_its_edges(shape):
    points = room(1000)[0] * torch.tensor(shape) + torch.tensor([30.0, -20.0, 1.0])
    camera, _ = _viewpoint(points, margin=0.0).camera(PICTURE_SIZE)
    x, y, z = project(points, camera)[0].unbind(1)
    assert z.min() > 0
    margins = torch.stack((x.min(), PICTURE_SIZE[1] - 1 - x.max(), y.min(), PICTURE_SIZE[0] - 1 - y.max())).view(2, 2)
    assert margins.min() > -1  # pixels
    assert margins.amax(1).min() < 1  # at the two sides of the width, or of the height


def test_a_picture_ends_where_nothing_is_drawn():
    points, face = room()
    drawn = _picture(points, label_colors(face))[..., 3] > 0
    assert all(edge.any() for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]))
    assert drawn.double().mean() > 0.5
    assert 1 < drawn.shape[1] / drawn.shape[0] < 1.3  # of a square room, seen from 35 degrees above
    assert drawn.shape[0] > 0.9 * PICTURE_SIZE[0]


CLOUDS = {
    "no point": torch.zeros(0, 3),
    "one point": torch.ones(1, 3),
    "one place": torch.ones(50, 3),
    "nowhere": torch.full((50, 3), torch.nan),
    "a line across": torch.linspace(0, 5, 50)[:, None] * torch.tensor([1.0, 0.0, 0.0]),
    "a line away": torch.linspace(0, 5, 50)[:, None] * torch.tensor([0.0, 1.0, 0.0]),
    "a line up": torch.linspace(0, 5, 50)[:, None] * torch.tensor([0.0, 0.0, 1.0]),
    "along the view": torch.linspace(0, 5, 50)[:, None] * torch.tensor([0.0, -0.8192, 0.5736]),
    "so far that squares overflow": room(50)[0] * 1e25,
    "a room with places unknown": torch.cat((torch.full((30, 3), torch.nan), room(3000)[0])),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_predictions_of_any_cloud_are_drawn(name, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    points = CLOUDS[name]
    face = torch.arange(len(points)) % 6
    path = tmp_path / "new" / "scene.png"
    draw_prediction(path, points, None, face - 1, face.flip(0) - 1, ["a", "b", "c", "d", "e"])
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_legend_names_the_classes_there_are_and_what_has_no_label(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    points, face = room(600)
    for without, expected in (0, ["sofa", "lamp"]), (1, ["sofa", "lamp", "no label"]):
        path = tmp_path / "scene.svg"
        label = 2 * (face % 2)
        draw_prediction(path, points, None, label - 3 * without * (face == 2), label, ["sofa", "bed", "lamp"])
        titles = {"colour", "labels", "prediction"}  # and "wrong"
        assert sorted(set(re.findall("<!-- (.+) -->", path.read_text())) - titles) == sorted(
            [*expected, "right", "wrong"]
        )


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
    log.write_text("epoch,val/miou\n0,0.25\n1,nan\n")
    assert epochs_of(log, "val/miou") == ([1], [0.25])


@pytest.mark.parametrize(
    ("train", "val", "top"),
    [(0.004, 0.004, "0.010"), (0.034, 0.033, "0.05"), (0.3, 0.1, "0.40"), (0.41, 0.4, "0.6"), (1.0, 0.999, "1.0")],
)
def test_curves_fill_their_picture_and_their_names_are_apart(train, val, top, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    log = tmp_path / "metrics.csv"
    log.write_text(f"epoch,step,train/miou,val/miou\n0,9,{train},{val}\n")
    draw_curves(log, tmp_path / "curves.svg", ["train/miou", "val/miou"])
    drawn = (tmp_path / "curves.svg").read_text()
    places = {t: float(y) for t, y in re.findall(r"<!-- (.+) -->\s*<g [^>]*transform=\"translate\(\S+ (\S+)\)", drawn)}
    values = [float(text) for text in places if re.fullmatch(r"0\.\d+|1\.0", text)]
    assert max(values) == float(top)
    assert (
        abs(places[f"val/miou {val:.3f}"] - places[f"train/miou {train:.3f}"]) > 9
    )  # points, the height of the letters


def test_without_any_value_no_curve_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,step,train/loss,val/map25\n0,9,1.5,\n")
    draw_curves(log, tmp_path / "curves.png", ["val/map25"])
    assert not (tmp_path / "curves.png").exists()
