"""What can be chosen about a synthetic room? The knobs, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...camera import image_size

STYLES = ("home", "studio")
CUES = ("both", "appearance", "geometry")


@dataclass(frozen=True)
class RoomOptions:
    """The knobs of :class:`SynthRoom`.

    Args:
        frames: how many the camera path has. The camera turns by about 13 degrees a frame at most, so that neighbours
            overlap: 29 frames go once around, 58 and more twice.
        size: of the depth images, (H, W).
        style: "home", or "studio": a second visual style (palette, textures, light and field of view).
        cues: what tells the classes of furniture apart. "both"; "geometry": they share one pool of materials (same
            texture, other shape); "appearance": they share one pool of shapes (same shape, other texture).
        tail: a class of furniture is drawn with a weight of 1 / rank^tail; 0 draws all alike.
        touching: the probability that a piece is pushed against a neighbour: cabinets side by side, a chair under a
            table.
        noise: depth has the noise of a structured-light sensor.
        holes: depth is missing at its edges, on dark or shiny surfaces, at grazing angles and beyond the range of the
            sensor.
        spacing: metres between neighbouring vertices of the mesh. Of a cache's pixels at stride 8 and radius 1, at
            480 x 640, 0.0355 covers about 16.4 % and 0.046 about 10.5 % ("studio", whose field of view is wider:
            0.043 and 0.056); single rooms between 5 and 27 %.

    Raises:
        TypeError: ``frames`` or ``size`` is no integer, a number no number, or a switch no bool.
        ValueError: a value that is none of those above or out of range.
    """

    frames: int = 24
    size: tuple[int, int] = (480, 640)
    style: str = "home"
    cues: str = "both"
    tail: float = 1.0
    touching: float = 0.3
    noise: bool = False
    holes: bool = False
    spacing: float = 0.04

    def __post_init__(self) -> None:
        if isinstance(self.frames, bool) or not hasattr(self.frames, "__index__"):
            raise TypeError(f"frames must be an integer, got {self.frames!r}")
        if self.frames < 0:
            raise ValueError(f"frames must be 0 or more, got {self.frames}")
        object.__setattr__(self, "size", image_size("size", self.size))
        for name, allowed in (("style", STYLES), ("cues", CUES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, low, high in (("tail", 0, 10), ("touching", 0, 1), ("spacing", 0.005, 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} must be within {low} and {high}, got {value}")
        for name in ("noise", "holes"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, got {getattr(self, name)!r}")
