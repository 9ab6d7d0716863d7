"""How good is a prediction? Pixels, instances and boxes scored by the rules of each benchmark's own script.

Each score is two pure functions of tensors: one that reduces an image or a scene to counts, and one from the counts of
a whole dataset to its scores. They need torch alone. :mod:`pyproj2d3d.metrics.accumulate` offers the same as
torchmetrics classes, for training and for several processes; only there is torchmetrics imported.
"""

from .average_precision import Verdicts
from .detection import DetectionScores, box_iou, detection_scores, match_boxes
from .instances import InstanceScores, instance_scores, match_instances
from .purity import purity
from .released_gad import ReleasedGadCounts, ReleasedGadScores, released_gad_counts, released_gad_scores
from .retrieval import retrieved
from .segmentation import SegmentationScores, confusion_matrix, segmentation_scores

__all__ = [
    "DetectionScores",
    "InstanceScores",
    "ReleasedGadCounts",
    "ReleasedGadScores",
    "SegmentationScores",
    "Verdicts",
    "box_iou",
    "confusion_matrix",
    "detection_scores",
    "instance_scores",
    "match_boxes",
    "match_instances",
    "purity",
    "released_gad_counts",
    "released_gad_scores",
    "retrieved",
    "segmentation_scores",
]
