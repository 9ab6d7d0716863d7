"""What came out? Rows of measurements and goals, as text, Markdown and JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import torch

PACKAGES = (
    *("pyproj2d3d", "torch", "numpy", "open3d", "open3d-cpu", "kornia", "spconv", "torch-scatter"),
    *("safetensors", "lmdb", "zarr", "h5py"),
)
HEAD = ("implementation", "min ms", "median ms", "ours is (median)", "ours is (min)", "peak MB", "GB/s", "of a copy")
OUTCOME = {True: "reached", False: "missed", None: "not judged"}


@dataclass
class Row:
    group: str
    name: str
    times: list[float] = field(default_factory=list)  # milliseconds
    peak: int | None = None  # bytes
    moved: int | None = None  # bytes that no implementation can do without
    bandwidth: float | None = None  # bytes per second of a copy
    skipped: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def minimum(self) -> float:
        return min(self.times)


@dataclass(frozen=True)
class Goal:
    text: str
    figure: str
    reached: bool | None


@dataclass
class Table:
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def row(self, group: str, name: str) -> Row:
        (row,) = (row for row in self.rows if (row.group, row.name) == (group, name))
        return row


def conditions(device: str, threads: int, quick: bool) -> dict[str, str]:
    """Under which the figures hold."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else _processor(),
        "threads": str(threads),
        "python": platform.python_version(),
        **versions,
        **({"inputs": "tiny: the figures mean nothing"} if quick else {}),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def as_text(table: Table, said: dict[str, str]) -> str:
    """Markdown with columns that line up."""
    parts = [", ".join(f"{key} {value}" for key, value in said.items())]
    for group in dict.fromkeys(row.group for row in table.rows):
        rows = [row for row in table.rows if row.group == group]
        ours = rows[0]
        parts.append(f"\n### {group}\n\n" + _grid(HEAD, [_cells(row, ours) for row in rows]))
    if table.goals:
        goals = [(goal.text, goal.figure, OUTCOME[goal.reached]) for goal in table.goals]
        parts.append("\n### Goals\n\n" + _grid(("goal", "figure", ""), goals))
    return "\n".join(parts)


def _cells(row: Row, ours: Row) -> tuple[str, ...]:
    if row.skipped:
        return (row.name, row.skipped, *[""] * (len(HEAD) - 2))
    rate = row.moved / (row.minimum / 1000) if row.moved is not None else None
    return (
        row.name,
        _milliseconds(row.minimum),
        _milliseconds(row.median),
        "" if row is ours else _times_faster(row.median / ours.median),
        "" if row is ours else _times_faster(row.minimum / ours.minimum),
        "" if row.peak is None else f"{row.peak / 1e6:.1f}",
        "" if rate is None else f"{rate / 1e9:.1f}",
        "" if rate is None or row.bandwidth is None else f"{100 * rate / row.bandwidth:.0f} %",
    )


def _milliseconds(time: float) -> str:
    return f"{time:.3g}" if time < 100 else f"{time:.0f}"


def _times_faster(ratio: float) -> str:
    return f"{ratio:.2f}x faster" if ratio >= 1 else f"{1 / ratio:.2f}x slower"


def _grid(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(cells[i]) for cells in [head, *rows]) for i in range(len(head))]
    lines = [head, tuple("-" * max(width, 3) for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(c.ljust(max(w, 3)) for c, w in zip(cells, widths, strict=True)) + " |" for cells in lines
    )


def save(table: Table, said: dict[str, str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# Benchmarks\n\n{as_text(table, said)}\n")
    rows = [vars(row) for row in table.rows]
    goals = [vars(goal) for goal in table.goals]
    path.with_suffix(".json").write_text(
        json.dumps({"conditions": said, "rows": rows, "goals": goals}, indent=1) + "\n"
    )
