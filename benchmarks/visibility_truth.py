"""How often is a visibility rule wrong? False-visible and missed points of tolerance rules, as a Markdown table.

In the analytic room the truth is known: false-visible = wrong matches / all matches, missed = truly visible points that
are not matched / all truly visible. On real frames it is not, so there the table says what can be said: of the lifted
points that fall on a reading of another frame the share that match, how far apart the depths of those lie, and how many
matches hold in both directions (the matched pixel, lifted in its turn, matches in the frame that the point came from).

The default is (0.015, 0.0075, 0.0005). Of a coarse grid of rules it is one of the best with noise among those that beat
the absolute 5 cm rule in both shares on exact depth: by 3 % and 7 % of these shares over seeds 0 to 4, by 7 % and 18 %
over seeds 0 to 39. Rooms differ: of random fives among these forty 70 % have both shares below those of the absolute
rule, and no rule that was tried has more than 74 %.

    python benchmarks/visibility_truth.py                       # the table
    python benchmarks/visibility_truth.py --rule 0.02 0.005 0   # with one more rule
    python benchmarks/visibility_truth.py --search              # and a search over (a, b, c)
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import Camera, Matches, reference
from pyproj2d3d.data import Frame, Room, read_posed_folder
from pyproj2d3d.ops.visibility import DEFAULT_TOLERANCE

Rule = tuple[float, float, float]  # seen within a + b z + c z^2

ABSOLUTE: Rule = (0.05, 0.0, 0.0)
ANYWHERE: Rule = (1e6, 0.0, 0.0)  # every point on a pixel that has a reading
RULES: dict[str, Rule] = {
    "library default": DEFAULT_TOLERANCE,
    "absolute 5 cm": ABSOLUTE,
    "1 cm + 1 % of z": (0.01, 0.01, 0.0),
    "25 % of z": (0.0, 0.25, 0.0),
}
NOISE = 0.003  # standard deviation of a noisy depth d, as a factor of d^2, in 1/m


@dataclass(frozen=True)
class SeenRoom:
    points: Tensor  # (N, 3) float32
    camera: Camera  # float32
    depth: Tensor  # (V, H, W) float32, exact
    noisy_depth: Tensor
    visible: Tensor  # (V, N) bool, the truth


def seen_room(seed: int, n: int = 200_000, views: int = 8) -> SeenRoom:
    room = Room(seed)
    points, _, _ = room.points(n, seed)
    camera = room.cameras(views, seed)
    depth = room.depth(camera).float()
    noise = torch.randn(depth.shape, generator=torch.Generator().manual_seed(seed))
    noisy = depth + NOISE * depth**2 * noise
    return SeenRoom(points.float(), camera.to(torch.float32), depth, noisy, room.visible(points, camera))


def wrong_shares(matches: Matches, visible: Tensor) -> tuple[float, float]:
    """False-visible and missed."""
    right = int(visible[matches.view.long(), matches.point.long()].sum())
    return 1 - right / max(len(matches.point), 1), 1 - right / max(int(visible.sum()), 1)


def mean_wrong_shares(rooms: Iterable[SeenRoom], rule: Rule, noisy: bool) -> tuple[float, float]:
    """The mean over rooms of false-visible and of missed."""
    shares = []
    for room in rooms:
        depth = room.noisy_depth if noisy else room.depth
        shares.append(
            wrong_shares(pyproj2d3d.visibility(room.points, room.camera, depth, tolerance=rule), room.visible)
        )
    false_visible, missed = torch.tensor(shares, dtype=torch.float64).mean(0).tolist()
    return false_visible, missed


def lifted(depth: Tensor, camera: Camera, scale: float, pixel: Tensor) -> Tensor:
    """(P,) flat pixels of one depth image to (P, 3) float64 world points."""
    z = reference.metres(depth, scale, torch.float64).flatten()[pixel]
    intrinsics, pose = camera.intrinsics[0].double(), camera.world_from_camera[0].double()
    u, v = pixel % camera.size[1], pixel // camera.size[1]
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0] * z, (v - intrinsics[1, 2]) / intrinsics[1, 1] * z
    return torch.stack((x, y, z), dim=-1) @ pose[:3, :3].T + pose[:3, 3]


def agreement(frames: list[tuple[Frame, Frame]], rule: Rule) -> tuple[float, float, float]:
    """Over pairs of frames: share of compared points that match, median |d - z| of those, share that match back."""
    compared, matched, back, error = 0, 0, 0, []
    for first, second in frames:
        depths = first.depth(), second.depth()
        valid = (reference.metres(depths[0], first.depth_scale, torch.float64).flatten() > 0).nonzero()[:, 0][::3]
        cloud = lifted(depths[0], first.camera, first.depth_scale, valid)
        seen = _matches(cloud, second, depths[1], rule)
        z = reference.project(cloud, second.camera)[0, seen.point.long(), 2]
        d = reference.metres(depths[1], second.depth_scale, torch.float64).flatten()[seen.pixel.long()]
        error.append((d - z).abs())
        found = lifted(depths[1], second.camera, second.depth_scale, seen.pixel.long())
        compared += len(_matches(cloud, second, depths[1], ANYWHERE).point)
        matched += len(seen.point)
        back += len(_matches(found, first, depths[0], rule).point)
    return matched / compared, float(torch.cat(error).median()), back / matched


def _matches(points: Tensor, frame: Frame, depth: Tensor, rule: Rule) -> Matches:
    return pyproj2d3d.visibility(points, frame.camera, depth[None], depth_scale=frame.depth_scale, tolerance=rule)


def table(rules: dict[str, Rule], rooms: list[SeenRoom], kitchen: list[tuple[Frame, Frame]]) -> str:
    head = ["rule", "a", "b", "c", "false-visible %", "missed %", "false-visible %, noisy", "missed %, noisy"]
    if kitchen:
        head += ["kitchen: match %", "median abs(d - z) mm", "match back %"]
    lines = [head, ["---"] * len(head)]
    for name, rule in rules.items():
        shares = (*mean_wrong_shares(rooms, rule, noisy=False), *mean_wrong_shares(rooms, rule, noisy=True))
        cells = [name, *(f"{t:g}" for t in rule), *(f"{100 * s:.3f}" for s in shares)]
        if kitchen:
            match, error, back = agreement(kitchen, rule)
            cells += [f"{100 * match:.1f}", f"{1000 * error:.1f}", f"{100 * back:.1f}"]
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def search(rooms: list[SeenRoom], margin: float, best: int = 20) -> str:
    """Rules that beat the absolute one by ``margin`` in both shares on exact depth, by false-visible + missed on noisy.

    What a rule decides depends on z and on the two depths at the pixel alone, so these are looked up once.
    """
    looked_up = []
    for room in rooms:
        uvz = reference.project(room.points, room.camera)
        inside, pixel = reference.nearest_pixel(uvz, room.camera.size)
        inside &= uvz[..., 2] > 0.01
        at = [depth.flatten(1).gather(1, pixel)[inside] for depth in (room.depth, room.noisy_depth)]
        looked_up.append((uvz[..., 2][inside], *at, room.visible[inside], int(room.visible.sum())))

    def shares(rule: Rule) -> Tensor:  # (4,): false-visible and missed on exact depth, the same on noisy depth
        rows = []
        for z, exact, noisy, visible, truly in looked_up:
            reach = rule[0] + rule[1] * z + rule[2] * z * z
            row = []
            for depth in (exact, noisy):
                seen = (depth - z).abs() <= reach
                right = int((seen & visible).sum())
                row += [1 - right / max(int(seen.sum()), 1), 1 - right / truly]
            rows.append(row)
        return torch.tensor(rows, dtype=torch.float64).mean(0)

    bar = shares(ABSOLUTE)[:2] * (1 - margin)
    a, b, c = ([i * step for i in range(n)] for n, step in ((7, 0.005), (7, 0.0025), (9, 0.00025)))
    found = [
        (rule, shares(rule))
        for rule in itertools.product(a, b, c)
        if 0.03 < rule[0] + 3 * rule[1] + 9 * rule[2] < 0.065
    ]
    found = sorted(
        (pair for pair in found if bool((pair[1][:2] <= bar).all())), key=lambda pair: float(pair[1][2:].sum())
    )
    lines = ["| a | b | c | false-visible % | missed % | noisy | noisy |", "|---|---|---|---|---|---|---|"]
    for rule, figures in found[:best]:
        cells = (*(f"{t:g}" for t in rule), *(f"{100 * s:.3f}" for s in figures.tolist()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="rooms to average over")
    parser.add_argument("--rule", type=float, nargs=3, action="append", default=[], metavar=("A", "B", "C"))
    parser.add_argument("--search", action="store_true", help="look for better rules on the same rooms")
    parser.add_argument("--margin", type=float, default=0.02, help="by which a found rule must beat the absolute one")
    parser.add_argument("--real", default=os.environ.get("PYPROJ2D3D_REAL_DATA"), help="folder with redkitchen_7scenes")
    options = parser.parse_args()

    rooms = [seen_room(seed) for seed in options.seeds]
    kitchen: list[tuple[Frame, Frame]] = []
    if options.real:
        frames = read_posed_folder(Path(options.real) / "redkitchen_7scenes").frames
        kitchen = [(frames[i], frames[i + gap]) for gap in (1, 2, 5) for i in range(0, len(frames) - gap, 7)]
    rules = RULES | {f"given {i + 1}": (a, b, c) for i, (a, b, c) in enumerate(options.rule)}
    print(table(rules, rooms, kitchen))
    if options.search:
        print("\n" + search(rooms, options.margin))


if __name__ == "__main__":
    main()
