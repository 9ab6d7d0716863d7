"""What can be done from the command line? See what is there, make rooms, train a paper, test its claims."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PAPERS = (  # of train.PAPERS, which takes seconds to import
    "segment3d, votenet, ppkt, ppkt_global, ppkd, pointcontrast, teacher_classifier, teacher_moco, teacher_segmentation"
)
STAGES = {
    "fit": "train a paper, on synthetic rooms or on --data.root DIR; pyproj2d3d fit PAPER --help",
    "validate": "score a checkpoint on the validation split; as fit, with --ckpt_path FILE",
    "test": "the same on the test split",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="pyproj2d3d", description="Moving knowledge between images and 3D.")
    parser.add_argument("--version", action="version", version=f"pyproj2d3d {_version()}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="{info,demo,synth,fit,validate,test,reproduce}"
    )

    info = commands.add_parser("info", help="what was built and what this machine offers, or what a dataset holds")
    info.add_argument(
        "--data", type=Path, metavar="DIR", help="say what is in this dataset: scenes, frames, classes, missing pieces"
    )
    info.add_argument("--split", metavar="NAME", help="of the dataset: train, val or test, as its files have it")
    info.set_defaults(run=_info)

    demo = commands.add_parser(
        "demo",
        help="lift, match, fuse and voxelize posed RGB-D frames; write an HTML report and a feature cache",
        description="Finds the pixels that see each point, with and without the depth filter, carries features both "
        "ways, and leaves one self-contained report.html.",
    )
    demo.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a folder of posed RGB-D frames, or a dataset, whose first scene is taken; absent: a synthetic room",
    )
    demo.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("demo_report"),
        help="where report.html and features.safetensors go (default: ./demo_report)",
    )
    demo.set_defaults(run=_demo)

    _add_synth(commands.add_parser("synth", help="write synthetic rooms in the layout of a dataset"))

    for stage, does in STAGES.items():
        training = commands.add_parser(stage, help=does, description=does)
        training.add_argument("paper", nargs="?", default="", help=PAPERS)
        training.add_argument("arguments", nargs=argparse.REMAINDER, help=f"{stage} PAPER --help says which")
        training.set_defaults(run=_train, stage=stage)

    study = commands.add_parser(
        "reproduce",
        help="train what a paper compares on synthetic rooms, and say which of its orderings hold",
        description="Trains what a paper compares on synthetic rooms, several times, and writes report.md: scores with "
        "their deviation, and which of the paper's orderings hold. Stopped and started again it goes on.",
    )
    study.add_argument("paper", help="ppkt")
    study.add_argument(
        "--size", default="tiny", help="tiny: minutes on two cores; small: about an hour (default: tiny)"
    )
    study.add_argument("--seeds", type=int, default=3, metavar="N", help="at least 3 (default: 3)")
    study.add_argument("--out", type=Path, metavar="DIR", help="default: ./runs/reproduce_PAPER_SIZE")
    study.add_argument("--processes", type=int, default=0, metavar="P", help="default: one per core; one with a GPU")
    study.set_defaults(run=_reproduce)

    chosen = parser.parse_args(arguments)
    if chosen.run is _info and chosen.split is not None and chosen.data is None:
        parser.error("--split goes with --data")
    try:
        return chosen.run(chosen)
    except KeyboardInterrupt:
        print("pyproj2d3d: interrupted", file=sys.stderr)
        return 130


def _demo(chosen: argparse.Namespace) -> int:
    from .demo import DemoError, demo

    try:
        demo(chosen.data, chosen.out)
    except DemoError as error:
        print(f"pyproj2d3d demo: {error}", file=sys.stderr)
        return 2
    return 0


def _train(chosen: argparse.Namespace) -> int:
    try:
        from .train import PAPERS, run
    except ImportError as error:
        print(f'pyproj2d3d {chosen.stage}: needs pip install "pyproj2d3d[train]" ({error})', file=sys.stderr)
        return 2
    if chosen.paper not in PAPERS:
        wanted = f"must be one of {', '.join(PAPERS)}, got {chosen.paper or 'none'}"
        print(f"pyproj2d3d {chosen.stage}: the paper {wanted}", file=sys.stderr)
        return 2
    run(chosen.stage, chosen.paper, chosen.arguments)
    return 0


def _reproduce(chosen: argparse.Namespace) -> int:
    try:
        from .reproduce import reproduce
    except ImportError as error:
        print(f'pyproj2d3d reproduce: needs pip install "pyproj2d3d[train]" ({error})', file=sys.stderr)
        return 2
    try:
        reproduce(chosen.paper, chosen.size, chosen.seeds, chosen.out, chosen.processes)
    except (OSError, ValueError) as error:
        print(f"pyproj2d3d reproduce: {error}", file=sys.stderr)
        return 2
    return 0


def _add_synth(synth: argparse.ArgumentParser) -> None:
    synth.description = "Furnished rooms as RGB-D frames, labelled clouds and boxes, which the dataset's reader reads."
    synth.add_argument("out", type=Path, metavar="OUT", help="the folder; must be empty or not there yet")
    synth.add_argument("--scenes", type=int, default=10, metavar="N", help="how many rooms (default: 10)")
    synth.add_argument("--seed", type=int, default=0, metavar="S", help="one seed, one dataset (default: 0)")
    synth.add_argument(
        "--layout", default="scannet", help="scannet, s3dis, nyuv2, sunrgbd or votenet (default: scannet)"
    )
    synth.add_argument("--frames", type=int, default=24, metavar="F", help="of each room (default: 24)")
    synth.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(240, 320),
        metavar=("H", "W"),
        help="of depth (default: 240 320); by the sensors' sizes in sunrgbd",
    )
    synth.add_argument("--style", default="home", help="home, or studio: another palette, light and field of view")
    synth.add_argument("--cues", default="both", help="what tells classes apart: both, geometry or appearance")
    synth.add_argument("--tail", type=float, default=1.0, help="class frequencies go as 1 / rank^TAIL (default: 1)")
    synth.add_argument("--touching", type=float, default=0.3, help="probability that objects touch (default: 0.3)")
    synth.add_argument("--noise", action="store_true", help="depth has a sensor's noise")
    synth.add_argument("--holes", action="store_true", help="depth has holes")
    synth.add_argument("--spacing", type=float, default=0.04, help="metres between points of the mesh (default: 0.04)")
    synth.add_argument("--processes", type=int, metavar="P", help="default: one per core")
    synth.set_defaults(run=_synth)


def _synth(chosen: argparse.Namespace) -> int:
    from .data.synth import RoomOptions
    from .data.synth.generate import generate

    # Ended by a scheduler, it cleans up as it does when interrupted.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("pyproj2d3d synth: terminated"))
    names = ("frames", "size", "style", "cues", "tail", "touching", "noise", "holes", "spacing")
    try:
        options = RoomOptions(**{name: getattr(chosen, name) for name in names})
        generate(
            chosen.out,
            scenes=chosen.scenes,
            seed=chosen.seed,
            layout=chosen.layout,
            options=options,
            processes=chosen.processes,
        )
    except (OSError, ValueError) as error:
        print(f"pyproj2d3d synth: {error}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{chosen.scenes} rooms in the layout of {chosen.layout}: pyproj2d3d info --data {chosen.out}")
    if chosen.scenes < 5:
        print("Every fifth room is held out: with fewer than five the validation split is empty.")
    return 0


def _info(chosen: argparse.Namespace) -> int:
    if chosen.data is not None:
        return _info_of_data(chosen)
    import torch

    from .ops._register import native

    build = native.build_info()
    cuda = f"built with CUDA {build['cuda_version']} for {build['architectures']}" if build["cuda"] else "not built"
    rows = {
        "version": _version(),
        "CUDA": cuda,
        "compiler": build["compiler"],
        "CPU": f"{native.isa()}, {torch.get_num_threads()} threads",
        "torch": f"{torch.__version__}, its CUDA: {torch.version.cuda or 'none'}",
        "driver": _driver(),
        "devices": _devices() if build["cuda"] else "cpu",
    }
    for name, value in rows.items():
        print(f"{name:10}{value}")
    return 0


def _info_of_data(chosen: argparse.Namespace) -> int:
    from .data.open_dataset import open_dataset
    from .data.summary import summary_of

    try:
        lines = summary_of(open_dataset(chosen.data, chosen.split))
    except (OSError, ValueError) as error:
        print(f"pyproj2d3d info: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 1 if any(line.startswith("broken") for line in lines) else 0


def _devices() -> str:
    import torch

    from .ops._register import native

    try:
        count = native.device_count()
    except RuntimeError as error:
        return f"cpu; no CUDA device: {error}"
    if not torch.cuda.is_available():  # this build of torch may be for the CPU alone
        return f"cpu; {count} CUDA device{'s' * (count != 1)}, which this torch cannot use"
    return "; ".join(["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))])


def _driver() -> str:
    """As the kernel module states it; the number alone is what a toolkit is compared with."""
    import re

    stated = Path("/proc/driver/nvidia/version")
    if not stated.exists():
        return "none"
    number = re.search(r"\d+\.\d+(\.\d+)?", stated.read_text())
    return f"NVIDIA {number[0]}" if number else "NVIDIA, of no stated version"


def _version() -> str:
    from importlib.metadata import version

    return version("pyproj2d3d")


if __name__ == "__main__":
    sys.exit(main())
