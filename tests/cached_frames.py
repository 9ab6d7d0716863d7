"""What do workers of a loader read from a feature cache? Here, for those that are spawned can import it."""

from torch import Tensor
from torch.utils.data import Dataset

from pyproj2d3d.cache import FeatureCache


class Frames(Dataset):
    """Everything of a frame, straight from the map."""

    def __init__(self, cache: FeatureCache):
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        frame = self.cache[i]
        return frame.features, frame.pixel, frame.point, *frame.dense(), frame.camera.intrinsics
