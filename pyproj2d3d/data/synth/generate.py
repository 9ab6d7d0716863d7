"""How do rooms become a dataset on the disk? By several processes, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from . import write_nyuv2, write_s3dis, write_scannet, write_sunrgbd, write_votenet
from .options import RoomOptions
from .room import SynthRoom

GENERATION = 1  # counts changes after which a seed gives another room
WRITERS = {
    **{"scannet": write_scannet, "s3dis": write_s3dis, "nyuv2": write_nyuv2},
    **{"sunrgbd": write_sunrgbd, "votenet": write_votenet},
}


def generate(
    out: str | os.PathLike[str],
    *,
    scenes: int,
    seed: int = 0,
    layout: str = "scannet",
    options: RoomOptions | None = None,
    processes: int | None = None,
) -> None:
    """Synthetic rooms in the layout of a dataset, to be read by that dataset's reader.

    Room i of seed s is ``SynthRoom(1_000_000 * s + i, options)``: the first rooms of a longer dataset are those of a
    shorter one. Every fifth room is in the validation split, or in that for tests where a dataset has no other. The
    files are written beside ``out``, or into a hidden folder of it where it is there already (it may be a link or a
    mount point), and moved at the end: what is there is whole. One seed gives equal files on
    one machine with one set of library versions, for any number of processes, and equal labels, depth and poses
    everywhere.

    Args:
        out: the folder; must be empty or not there yet.
        scenes: how many rooms.
        seed: of the dataset.
        layout: "scannet", "s3dis", "nyuv2", "sunrgbd", or "votenet", the form that VoteNet gives to SUN RGB-D.
        options: of all rooms.
        processes: that write rooms at the same time; None: one per core that may be used. They are spawned: a script
            that calls this needs the usual ``if __name__ == "__main__":``.

    Raises:
        ValueError: a layout that is none of these, fewer scenes or processes than 1, a seed beyond 0 to 10^9, more
            scenes than the layout has names or colours for, or no frames where its scenes are frames.
        FileExistsError: the folder is not empty.
    """
    from tqdm import tqdm

    out, options = Path(out).resolve(), options or RoomOptions()
    if layout not in WRITERS:
        raise ValueError(f"layout must be one of {', '.join(WRITERS)}, got {layout!r}")
    if not 1 <= scenes <= 1_000_000:
        raise ValueError(f"scenes must be from 1 to 1,000,000, got {scenes}")
    if not 0 <= seed <= 10**9:
        raise ValueError(f"seed must be from 0 to 10^9, got {seed}")
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    WRITERS[layout].check(scenes, options)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: must be an empty folder or not there yet, so that two datasets do not mix")
    inside = out.exists()
    own = f"{secrets.token_hex(4)}.partial"
    partial_out = out / f".{own}" if inside else out.with_name(f".{out.name}.{own}")
    try:
        partial_out.mkdir(parents=True)
    except OSError as error:
        raise OSError(f"{out}: cannot be written to: {error.strerror}") from error
    try:
        one = partial(_write, partial_out, layout, 1_000_000 * seed, options)
        for _ in tqdm(_each(one, scenes, processes or cores()), "rooms", total=scenes, disable=None):
            pass
        WRITERS[layout].finish(partial_out, scenes)
        _move(partial_out, out, inside)
    except BaseException:
        shutil.rmtree(partial_out, ignore_errors=True)
        raise


def rooms_at(folder: str | os.PathLike[str], *, scenes: int, options: RoomOptions, seed: int = 0) -> Path:
    """The folder, with rooms in ScanNet's layout: those that are there, or new ones as of :func:`generate`.

    Processes may ask for the same folder at the same time: one writes it, or the rooms of one remain.
    """
    folder = Path(folder)
    if not folder.exists():
        print(f"{folder}: writing {scenes} synthetic rooms", file=sys.stderr)
        with suppress(FileExistsError):  # another process was first
            generate(folder, scenes=scenes, seed=seed, options=options)
    return folder


def _move(partial_out: Path, out: Path, inside: bool) -> None:
    """What was written to where it is wanted; another run may have been there first."""
    if out.exists() and any(path != partial_out for path in out.iterdir()):
        raise FileExistsError(f"{out}: was empty or not there, but something came there meanwhile: nothing is kept")
    if not inside:
        partial_out.rename(out)
        return
    for path in sorted(partial_out.iterdir()):
        path.rename(out / path.name)
    partial_out.rmdir()


def _each(write, scenes: int, processes: int) -> Iterator[None]:  # type: ignore[no-untyped-def]
    if min(processes, scenes) == 1:
        yield from map(write, range(scenes))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, scenes), mp_context=spawn, initializer=_one_thread) as pool:
        try:
            yield from pool.map(write, range(scenes))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _write(out: Path, layout: str, first_seed: int, options: RoomOptions, number: int) -> None:
    WRITERS[layout].write(out, SynthRoom(first_seed + number, options), number)
