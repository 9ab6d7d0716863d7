"""How do the benchmarks run? Their options, the ``timed`` fixture, and the table at the end."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from .measuring import Contender, copied_per_second, interleaved, peak_bytes, peak_bytes_on_cuda
from .table import Goal, Row, Table, as_text, conditions, save

OURS = "ours"
TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks")
    with contextlib.suppress(ValueError):  # the tests have the option too, and both may be asked for at once
        group.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the operations run")
    group.addoption("--threads", type=int, default=2, help="of torch, ours, and the peers; default 2")
    group.addoption("--quick", action="store_true", help="tiny inputs: do the benchmarks work?")
    group.addoption(
        "--save", type=Path, metavar="PATH", help="write the table to PATH as Markdown and beside it as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")
    config.stash[TABLE] = Table()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name.startswith("bench_"):
            item.add_marker(pytest.mark.timeout(1800))
            item.add_marker(pytest.mark.filterwarnings("default"))  # those of the peers are not ours to mend


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    return request.config.getoption("--quick")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device that torch can use")
    return torch.device(name)


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    threads = request.config.getoption("--threads")
    torch.set_num_threads(threads)
    return threads


@pytest.fixture(scope="session")
def bandwidth(device: torch.device, threads: int) -> float:
    return copied_per_second(device)


class Timed:
    """What a benchmark calls: times contenders in one group and enters them in the table."""

    def __init__(self, table: Table, device: torch.device, threads: int, quick: bool, bandwidth: float):
        self.table, self.device, self.threads, self.quick, self.bandwidth = table, device, threads, quick, bandwidth

    def __call__(
        self,
        make: Callable[..., Mapping[str, Contender | str]],
        *,
        full: dict[str, int],
        tiny: dict[str, int],
        moved: Callable[[Any, dict[str, int]], int] | None = None,
        goals: Mapping[str, float] | None = None,
        memory: bool = False,
        rounds: int = 5,
    ) -> dict[str, Any]:
        """Results by name, of those that ran.

        Args:
            make: ``make(device, **size)`` gives the contenders, ours among them: a call without arguments, or the
                reason why it is left out. Its docstring names the group.
            full, tiny: the size of the benchmark, and of a quick one.
            moved: bytes that no implementation can do without, given our result and the size.
            goals: how many times faster than each of these we want to be.
            memory: measure the peak memory too.
            rounds: at least so many, of three calls of each contender.
        """
        size = tiny if self.quick else full
        group = f"{(make.__doc__ or '').splitlines()[0].rstrip('.')}: " + ", ".join(
            f"{k} {n:,}" for k, n in size.items()
        )
        made = dict(make(self.device, **size))
        if self.quick:
            made |= {name: "skipped: takes long to compile" for name in made if name.startswith("torch.compile")}
        calls = {name: call for name, call in made.items() if not isinstance(call, str)}
        seconds, rounds = (0.0, 1) if self.quick else (4.0, rounds)
        times, results = interleaved(calls, self.device, seconds=seconds, rounds=rounds)
        for name, call in made.items():
            row = Row(group, name)
            if isinstance(call, str):
                row.skipped = call
            else:
                row.times = times[name]
                if moved is not None:
                    row.moved, row.bandwidth = moved(results[OURS], size), self.bandwidth
                if memory and self.device.type == "cuda":
                    row.peak = peak_bytes_on_cuda(call)
                elif memory and (name == OURS or not self.quick):
                    row.peak = peak_bytes(make, name, size, tiny, self.threads)
            self.table.rows.append(row)
        ours = self.table.row(group, OURS)
        for name, factor in (goals or {}).items():
            theirs = self.table.row(group, name)
            text = f"{group}: at least {factor:g}x {name}"
            if theirs.skipped:
                self.goal(text, theirs.skipped, None)
            else:
                ratio = theirs.median / ours.median
                self.goal(text, f"{ratio:.2f}x", ratio >= factor)
        return results

    def goal(self, text: str, figure: str, reached: bool | None) -> None:
        """A line of the second table. Tiny inputs say nothing about a goal, nor does a peer that was left out."""
        self.table.goals.append(Goal(text, figure, None if self.quick else reached))

    def peak_of_ours(self) -> int:
        """Bytes, of the last group with ``memory``."""
        return [row.peak for row in self.table.rows if row.name == OURS and row.peak is not None][-1]

    def peak_of(self, name: str) -> int | None:
        """Bytes, of the last group that has this contender; None where it was not measured, as in quick runs."""
        return [row.peak for row in self.table.rows if row.name == name][-1]

    def same_bits(self, what: str, *calls: Callable[[], Iterable[Tensor]]) -> None:
        """20 runs with 1 and 2 threads in turn give the bits of the first: a line of the second table, asserted too."""
        first = [tuple(call()) for call in calls]
        threads, same = torch.get_num_threads(), 0
        try:
            for run in range(20):
                torch.set_num_threads(1 + run % 2)
                again = [tuple(call()) for call in calls]
                same += all(map(equal_bits, itertools.chain(*first), itertools.chain(*again)))
        finally:
            torch.set_num_threads(threads)
        self.goal(f"{what}: the same bits over 20 runs with 1 and 2 threads", f"{same} of 20", same == 20)
        assert same == 20


def equal_bits(one: Tensor, other: Tensor) -> bool:
    """Zeros with their sign, NaN with its payload."""
    return one.shape == other.shape and torch.equal(*(t.contiguous().view(torch.uint8) for t in (one, other)))


@pytest.fixture
def timed(request: pytest.FixtureRequest, device: torch.device, threads: int, quick: bool, bandwidth: float) -> Timed:
    return Timed(request.config.stash[TABLE], device, threads, quick, bandwidth)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    if not table.rows:
        return
    said = conditions(config.getoption("--device"), config.getoption("--threads"), config.getoption("--quick"))
    terminalreporter.write_sep("=", "benchmarks")
    terminalreporter.write_line(as_text(table, said))
    if path := config.getoption("--save"):
        save(table, said, path)
        terminalreporter.write_line(f"written to {path}")
