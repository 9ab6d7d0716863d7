"""What is a synthetic room made of? Convex parts with a place, a turn and a material, which together are objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BOX, CYLINDER, ELLIPSOID = 0, 1, 2
FLOOR, WALLS, CEILING = 0, 1, 2  # the objects of the shell; furniture follows


@dataclass(frozen=True, eq=False)
class Parts:
    """P parts as arrays. In its own coordinates, divided by ``half``, a part is a unit solid about the origin:

    a BOX has max(|x|, |y|, |z|) <= 1, a CYLINDER x^2 + y^2 <= 1 and |z| <= 1, an ELLIPSOID x^2 + y^2 + z^2 <= 1.
    """

    shape: np.ndarray  # (P,) int64
    center: np.ndarray  # (P, 3) float64, metres, in the world: z up, the floor at z = 0
    half: np.ndarray  # (P, 3) float64, half of the extent along the part's own axes
    world_from_part: np.ndarray  # (P, 3, 3) float64 rotations
    object: np.ndarray  # (P,) int64, which object the part belongs to
    material: np.ndarray  # (P,) int64, as ``materials.material`` makes them

    def __len__(self) -> int:
        return len(self.shape)

    def corners(self) -> np.ndarray:
        """(P, 8, 3) of the boxes around the parts along their own axes."""
        arm = self.world_from_part * self.half[:, None]  # (P, 3, 3), from the centre to the faces
        x, y, z = (arm[:, None, :, k] for k in range(3))
        sign = np.array([[i, j, k] for i in (-1.0, 1.0) for j in (-1.0, 1.0) for k in (-1.0, 1.0)])[None, :, :, None]
        return self.center[:, None] + ((sign[:, :, 0] * x + sign[:, :, 1] * y) + sign[:, :, 2] * z)
