"""Furnished rooms without a download: seeded, analytic, and equal on every machine."""

from .options import RoomOptions
from .room import SynthRoom

__all__ = ["RoomOptions", "SynthRoom"]
