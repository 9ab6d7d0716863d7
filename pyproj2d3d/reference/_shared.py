"""In what are sums made? The one thing that several of these files share."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulated(features: Tensor) -> Tensor:
    """Features in the dtype they are summed in: float64 as it is, everything else in float32."""
    return features if features.dtype == torch.float64 else features.float()


def squared_length(vector: Tensor) -> Tensor:
    """(..., 3) to (...)."""
    x, y, z = vector.unbind(-1)
    return (x * x + y * y) + z * z
