"""Do the boxes in a picture lie where they are, and is every cloud drawn?"""

import math
import re

import pytest
import torch
from torch.testing import assert_close

from pyproj2d3d.report_boxes import draw_boxes, outlines


def test_an_outline_goes_around_a_box_and_ahead_where_it_is_turned():
    along = torch.tensor([[1.0, 2.0, 9.0, 4.0, 2.0, 7.0, 0.0]])
    assert outlines(along)[0].tolist() == [[3, 3], [-1, 3], [-1, 1], [3, 1], [3, 3], [3, 3], [3, 3]]
    turned = torch.tensor([[1.0, 2.0, 9.0, 4.0, 2.0, 7.0, math.pi / 2]])  # counter-clockwise: its x is along y
    wanted = [[0, 4], [0, 0], [2, 0], [2, 4], [0, 4], [1, 4], [1, 2]]
    assert_close(outlines(turned)[0], torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0)
    assert outlines(torch.zeros(0, 7)).shape == (0, 7, 2)


NONE = torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64)
TWO = torch.tensor([[1.0, 1, 0.5, 1, 1, 1, 0], [2, 3, 0.5, 1, 2, 1, 0.5]]), torch.tensor([2, 0])
CLOUDS = {
    "a room": torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0)) * 4,
    "nothing": torch.zeros(0, 3),
    "one point": torch.ones(1, 3),
    "a floor": torch.rand(100, 3) * torch.tensor([4.0, 4.0, 0.0]),
    "places unknown": torch.full((30, 3), torch.nan),
}
UNKNOWN = torch.cat((TWO[0], torch.full((1, 7), torch.nan))), torch.tensor([2, 0, 1])


@pytest.mark.parametrize("boxes", [NONE, TWO, UNKNOWN], ids=["no boxes", "two boxes", "a box that is nowhere"])
@pytest.mark.parametrize("name", CLOUDS)
def test_any_cloud_is_drawn(name, boxes, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    path = tmp_path / "new" / "scene.png"
    draw_boxes(path, CLOUDS[name], None, boxes, boxes, ["a", "b", "c"])
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_the_legend_names_the_classes_that_have_boxes(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra train is not installed")
    path, points = tmp_path / "scene.svg", CLOUDS["a room"][:50]
    draw_boxes(path, points, torch.full((50, 3), 9, dtype=torch.uint8), TWO, NONE, ["sofa", "bed", "lamp"])
    assert sorted(re.findall("<!-- (.+) -->", path.read_text())) == ["0 found", "2 boxes", "lamp", "sofa"]
