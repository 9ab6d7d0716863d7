"""Does a study say of its claims what the numbers say, and no more?"""

import pytest
from scipy.stats import ttest_1samp

from pyproj2d3d.report_study import Claim, claim_table, draw_by_labels, score_table

ABOVE, BELOW, EITHER = (0.02, 0.022, 0.024), (-0.02, -0.022, -0.024), (0.05, -0.04, 0.01)


def test_the_interval_is_that_of_students_t():
    for differences in (ABOVE, EITHER, (0.1, 0.2, 0.25, 0.0)):
        interval = ttest_1samp(differences, 0).confidence_interval(0.95)
        claim = Claim("", "", differences)
        assert claim.half_width == pytest.approx((interval.high - interval.low) / 2)


@pytest.mark.parametrize(
    ("differences", "equal", "verdict"),
    [
        (ABOVE, False, "holds"),
        (BELOW, False, "does not hold"),
        (EITHER, False, "not significant"),
        (ABOVE, True, "does not hold"),
        (BELOW, True, "does not hold"),
        (EITHER, True, "no difference seen"),
        ((0.0, 0.0, 0.0), False, "not significant"),
        ((0.0, 0.0, 0.0), True, "no difference seen"),
        ((0.01, 0.01, 0.01), False, "holds"),
    ],
)
def test_a_claim_holds_only_where_chance_does_not_explain_it(differences, equal, verdict):
    assert Claim("", "", differences, equal).verdict == verdict


def test_the_tables_have_percent_and_leave_out_what_was_not_measured():
    table = score_table({"a": "one", "b": "two"}, {"mIoU": {"a": [0.5, 0.6, 0.7]}, "mAP": {"a": [], "b": [0.1] * 3}})
    assert table.splitlines() == [
        "|  | mIoU | mAP |",
        "| --- | ---: | ---: |",
        "| one | 60.0 ± 10.0 |  |",
        "| two |  | 10.0 ± 0.0 |",
    ]
    row = claim_table([Claim("a above b", "table 1: +2", ABOVE)]).splitlines()[-1]
    assert row == "| a above b | table 1: +2 | +2.2 | +1.7 to +2.7 | holds |"


def test_the_curve_has_a_line_for_each_name_and_a_dot_for_each_seed(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    curves = {"scratch": {0.15: [0.2, 0.3, 0.4], 1.0: [0.5, 0.5, 0.5]}, "PPKT": {0.15: [0.4] * 3, 1.0: [0.6] * 3}}
    draw_by_labels(tmp_path / "labels.png", curves, "mIoU, %")
    axes = drawn[0].axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["scratch"].get_ydata()) == pytest.approx([30, 50])
    assert list(lines["PPKT"].get_xdata()) == [0.15, 1.0]
    assert len(axes.get_lines()) == 2 + 4
    assert [text.get_text() for text in axes.get_xticklabels()] == ["15 %", "100 %"]
