"""Draws docs/rooms.jpg: rooms of both styles and of each kind of cues, and all that is known of one view."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from pyproj2d3d import Camera, project, splat, zbuffer
from pyproj2d3d.data import RoomOptions, SynthRoom
from pyproj2d3d.report_colors import depth_colors, label_colors

SIZE = (240, 320)
COLUMNS = 6
HOME, STUDIO = (0, 1, 2, 4, 5, 8, 9, 11, 12, 15, 17, 19), (0, 1, 2, 4, 5, 8)


def busiest(room: SynthRoom, camera: Camera) -> int:
    """The view that shows most objects."""
    return max(range(len(camera)), key=lambda v: len(np.unique(room.render(camera.resized((24, 32)), v).object)))


def picture(seed: int, **options: str) -> np.ndarray:
    room = SynthRoom(seed, RoomOptions(frames=12, size=SIZE, **options))  # type: ignore[arg-type]
    camera = room.camera()
    return room.render(camera, busiest(room, camera)).color


def known(seed: int) -> dict[str, np.ndarray]:
    """One view, as everything that the files hold of it."""
    options = RoomOptions(frames=12, size=SIZE, noise=True, holes=True, spacing=0.0355)
    room = SynthRoom(seed, options)
    camera, mesh = room.camera(), room.mesh()
    view = busiest(room, camera)
    images = room.render(camera, view)
    measured = room.measured(images, camera, view) / 1000
    points, colors = torch.from_numpy(mesh.vertices).float(), torch.from_numpy(mesh.colors).float()
    index, _ = zbuffer(project(points, camera[view].to(torch.float32)), SIZE, radius=1)
    far = float(images.depth.max())
    return {
        "colour": images.color,
        "classes": label_colors(torch.from_numpy(room.nyu40[images.object])).numpy(),
        "objects": label_colors(torch.from_numpy(images.object * 7 + 3)).numpy(),
        "depth": depth_colors(torch.from_numpy(images.depth).float(), 0.5, far).numpy(),
        "depth with noise and holes": depth_colors(torch.from_numpy(measured).float(), 0.5, far).numpy(),
        "points of the mesh": splat(colors, index)[0].permute(1, 2, 0).numpy(),
    }


def main(path: Path) -> None:
    rows = [
        *((f"home, seed {seed}", picture(seed)) for seed in HOME),
        *((f"studio, seed {seed}", picture(seed, style="studio")) for seed in STUDIO),
        *((f"cues: geometry, seed {seed}", picture(seed, cues="geometry")) for seed in HOME[:3]),
        *((f"cues: appearance, seed {seed}", picture(seed, cues="appearance")) for seed in HOME[:3]),
        *known(9).items(),
    ]
    height, width = SIZE[0] + 16, SIZE[1] + 4
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(rows) // COLUMNS) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, pixels) in enumerate(rows):
        left, top = i % COLUMNS * width, i // COLUMNS * height
        sheet.paste(Image.fromarray(np.asarray(pixels).astype(np.uint8)), (left, top + 14))
        draw.text((left + 2, top + 1), name, fill="black")
    sheet.save(path, quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/rooms.jpg"))
