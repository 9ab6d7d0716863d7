"""Which claims of a paper hold in a study? A table of means and deviations, differences seed by seed, a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from .report_training import COLORS, GRID, INK

LEVEL = 0.95  # of the intervals
Values = Sequence[float]  # one of each seed


@dataclass(frozen=True)
class Claim:
    """That one score is above another, or that the two do not differ.

    Args:
        text: what is claimed.
        source: where the paper has it, and its numbers.
        differences: of each seed, what is claimed to be positive, or zero.
        equal: it is zero that is claimed.
        learned: whether the scores are such that they can be compared.
    """

    text: str
    source: str
    differences: Values
    equal: bool = False
    learned: bool = True

    @property
    def half_width(self) -> float:
        """Of the interval around the mean, of Student's t: in it lies the true difference in 95 of 100 studies."""
        from scipy.stats import t

        n = len(self.differences)
        return float(t.ppf((1 + LEVEL) / 2, n - 1)) * stdev(self.differences) / math.sqrt(n)

    @property
    def verdict(self) -> str:
        """That no difference is seen does not show that there is none: the interval says how large it may be."""
        middle, half = mean(self.differences), self.half_width
        if not self.learned:
            return "nothing learned"
        if self.equal:
            return "no difference seen" if abs(middle) <= half else "does not hold"
        if abs(middle) <= half:
            return "not significant"
        return "holds" if middle > 0 else "does not hold"


def score_table(names: Mapping[str, str], columns: Mapping[str, Mapping[str, Values]]) -> str:
    """Mean ± standard deviation over the seeds, in percent.

    Args:
        names: of the rows, by key.
        columns: by heading, the values of each row by its key; what was not measured has none.
    """
    rows = [("", *columns), ("---", *("---:" for _ in columns))]
    for key, name in names.items():
        cells = [column.get(key) for column in columns.values()]
        rows.append((name, *(with_deviation(values) if values else "" for values in cells)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_deviation(values: Values) -> str:
    return f"{100 * mean(values):.1f} ± {100 * stdev(values):.1f}"


def claim_table(claims: Sequence[Claim]) -> str:
    """A row for each claim: the mean difference in points of percent, its interval, and the verdict."""
    rows = ["| claim | in the paper | difference | 95 % interval | |\n", "| --- | --- | ---: | :---: | --- |\n"]
    for claim in claims:
        middle, half = 100 * mean(claim.differences), 100 * claim.half_width
        interval = f"{middle - half:+.1f} to {middle + half:+.1f}"
        rows.append(f"| {claim.text} | {claim.source} | {middle:+.1f} | {interval} | {claim.verdict} |\n")
    return "".join(rows)


def draw_by_labels(path: Path, curves: Mapping[str, Mapping[float, Values]], score: str) -> None:
    """A score over the share of labels, for each name a line through the means and a dot for each seed; a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    shares = sorted({share for curve in curves.values() for share in curve})
    for (name, curve), color in zip(curves.items(), COLORS, strict=False):
        xs = sorted(curve)
        axes.plot(xs, [100 * mean(curve[x]) for x in xs], color=color, linewidth=1.8, label=name)
        for x in xs:
            axes.plot([x] * len(curve[x]), [100 * v for v in curve[x]], ".", color=color, markersize=7, alpha=0.6)
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{100 * share:.0f} %" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel("labelled rooms", color=INK)
    axes.set_ylabel(score, color=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
