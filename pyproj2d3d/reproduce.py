"""Do a paper's claims hold on a small scale? ``pyproj2d3d reproduce <paper>``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch

from .data.synth.generate import cores
from .jobs import run_jobs

STUDIES = ("ppkt",)  # studies/<name>.py has SIZES, prepare, jobs and report
LEAST_SEEDS = 3  # fewer say nothing about chance


def reproduce(study: str, size: str, seeds: int = LEAST_SEEDS, out: Path | None = None, processes: int = 0) -> Path:
    """Train all that a study compares, and write its report. Returns the report's path.

    Args:
        study: one of STUDIES.
        size: one of the study's SIZES.
        seeds: how many times all that has chance in it is done; at least three.
        out: the folder; what is done there already is not done again.
        processes: at the same time; 0: one for each core that may be used, or one where there is a GPU.

    Raises:
        ValueError: a study, a size or a number that is none of these; or from a job, which is named.
    """
    if study not in STUDIES:
        raise ValueError(f"the paper must be one of {', '.join(STUDIES)}, got {study or 'none'}")
    module = import_module(f"{__package__}.studies.{study}")
    if size not in module.SIZES:
        raise ValueError(f"size must be one of {', '.join(module.SIZES)}, got {size!r}")
    if seeds < LEAST_SEEDS:
        raise ValueError(f"seeds must be at least {LEAST_SEEDS}, or nothing can be said of chance, got {seeds}")
    if processes < 0:
        raise ValueError(f"processes must be 0 or more, got {processes}")
    out = (out or Path("runs") / f"reproduce_{study}_{size}").resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{out}: cannot be written to: {error.strerror}") from error
    chosen = module.SIZES[size]
    module.prepare(out, chosen)
    results = run_jobs(module.jobs(chosen, seeds), out, processes or (1 if torch.cuda.is_available() else cores()))
    return module.report(out, size, chosen, seeds, results)
