"""How does a study get done? Many small trainings, some of which need others: in parallel, and each done once."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .data.synth.generate import cores

Scores = dict[str, float]


@dataclass(frozen=True)
class Job:
    """One training and its scores.

    Args:
        name: of its files, one for each job of a study.
        does: a function of a module, called in another process with the study's folder and ``arguments``; returns
            numbers by name.
        arguments: what makes the job what it is.
        needs: names of jobs whose files it reads.
    """

    name: str
    does: Callable[..., Scores]
    arguments: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def run_jobs(jobs: Sequence[Job], out: Path, processes: int) -> dict[str, Scores]:
    """The scores of all jobs, by name, and in each the seconds it took.

    A job that has ended leaves ``jobs/<name>.json``, so that a study that was stopped goes on where it was; with other
    arguments, on another device, or where a job that it needs was done anew, it is done again.
    """
    folder = out / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    marks = _marks(jobs)
    results = {job.name: kept for job in jobs if (kept := _kept(folder, job, marks[job.name])) is not None}
    left = [job for job in jobs if job.name not in results]
    bar = tqdm(total=len(jobs), initial=len(results), desc="jobs", disable=None)
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")  # a fork of a process in which torch has had threads may hang
    with bar, ProcessPoolExecutor(processes, mp_context=spawn, initializer=_quiet, initargs=(processes,)) as pool:
        running: dict[Future[Scores], Job] = {}
        try:
            while left or running:
                ready = [job for job in left if all(name in results for name in job.needs)]
                for job in ready[: processes - len(running)]:
                    left.remove(job)
                    running[pool.submit(_timed, job, out)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        results[job.name] = future.result()
                    except Exception as error:
                        raise ValueError(f"job {job.name}: {type(error).__name__}: {error}") from error
                    _keep(folder, job, marks[job.name], results[job.name])
                    bar.set_postfix_str(job.name)
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
    return results


def _marks(jobs: Sequence[Job]) -> dict[str, str]:
    """What each job is, all that it builds on, and who does it where."""
    marks: dict[str, str] = {}
    who = f"{version('pyproj2d3d')} {device_name()}"
    for job in jobs:
        for name in job.needs:
            if name not in marks:
                raise ValueError(f"job {job.name} needs {name}, which is not among the jobs before it")
        does, needed = f"{job.does.__module__}.{job.does.__qualname__}", [marks[name] for name in job.needs]
        said = f"{who} {does} {job.arguments!r} {needed}"
        marks[job.name] = hashlib.sha256(said.encode()).hexdigest()[:16]
    return marks


def _kept(folder: Path, job: Job, mark: str) -> Scores | None:
    path = folder / f"{job.name}.json"
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_bytes())
        return dict(kept["scores"]) if kept["job"] == mark else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: must hold the scores of a job, delete it to have them anew ({error!r})") from error


def _keep(folder: Path, job: Job, mark: str, scores: Scores) -> None:
    partial = folder / f"{job.name}.partial"
    partial.write_text(json.dumps({"job": mark, "scores": scores}, indent=1))
    partial.replace(folder / f"{job.name}.json")


def _timed(job: Job, out: Path) -> Scores:
    begun = time.perf_counter()
    scores = job.does(out, **job.arguments)
    for name, score in scores.items():
        if not math.isfinite(score):
            raise ValueError(f"{name} must be finite, got {score}")
    return {**scores, "seconds": time.perf_counter() - begun}


def device_name() -> str:
    """What a study ran on, for its report."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{cores()} cores of a CPU"


def _quiet(processes: int) -> None:
    """In each process: its share of the cores, and only what goes wrong is said. It ends when the study is killed."""
    import logging
    import warnings

    import torch

    threading.Thread(target=_end_with_the_study, daemon=True).start()
    torch.set_num_threads(max(cores() // processes, 1))
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning|torch")


def _end_with_the_study() -> None:
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
    os._exit(1)
