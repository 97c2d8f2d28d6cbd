"""Metrics of semantic segmentation on plain arrays and tensors.

    matrix = segkit.metrics.confusion_matrix(prediction, target, num_classes=5)
    miou = segkit.metrics.mean_iou(prediction, target, num_classes=5)
    low, high = segkit.metrics.bootstrap(miou_of_each_image)

Predictions and targets are class indices `(H, W)` or `(N, H, W)`, of any integer type; predictions
may also be logits `(N, num_classes, H, W)`. Pixels whose target is `ignore_index` do not count.
A class in neither target nor prediction has no score, and is left out of every mean.
`SegmentationScores` is the same as a `torchmetrics.Metric`.
"""

from segkit.metrics.functional import (
    bootstrap,
    boundary_f1,
    boundary_iou,
    confusion_matrix,
    mean_iou,
    scores,
)
from segkit.metrics.module import SegmentationScores

__all__ = [
    "SegmentationScores",
    "bootstrap",
    "boundary_f1",
    "boundary_iou",
    "confusion_matrix",
    "mean_iou",
    "scores",
]
