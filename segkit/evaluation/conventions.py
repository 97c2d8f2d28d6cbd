"""What other toolkits would print: their rules for "mIoU", from the same counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from segkit.evaluation.metrics import class_counts, figures, nanmean


class Convention(NamedTuple):
    """The number under one rule.

    Args:
        rule: in words.
        used_by: toolkits.
        value: share of one.
    """

    rule: str
    used_by: str
    value: float


def conventions(matrices: Tensor) -> list[Convention]:
    """Compute what is called mIoU elsewhere.

    Args:
        matrices: of each image, rows truth and then void, columns prediction.

    Shape: `(N, num_classes + 1, num_classes)`.
    """
    judged, void = matrices[:, :-1].long(), matrices[:, -1].long()
    each = class_counts(judged)  # (N, C, 3)
    counts = each.sum(0)
    hits, truth, predicted = counts.T
    union = truth + predicted - hits
    iou = figures(counts).iou
    false_alarms_free = np.where(truth > 0, iou, np.nan)
    with np.errstate(invalid="ignore"):
        micro = hits.sum() / union.sum()
        # void has no prediction of its own, so all of it is missed, and taken for something else
        with_void = hits.sum() / (union.sum() + 2 * void.sum().item())
    return [
        Convention(
            "whole set, mean over the classes in truth or prediction",
            "segkit, FCN's score.py, pytorch-fcn, mmsegmentation",
            float(figures(counts).miou),
        ),
        Convention(
            "whole set, absent classes count as 0",
            "SegNet's script",
            float(np.nan_to_num(iou).mean()),
        ),
        Convention(
            "whole set, mean over the classes in the truth",
            "ultralytics",
            float(nanmean(false_alarms_free)),
        ),
        Convention(
            "per image, then mean over images; void dropped",
            "torchmetrics' MeanIoU",
            float(nanmean(figures(each).miou)),
        ),
        Convention(
            "micro: hits and unions summed over the classes",
            "segmentation_models.pytorch's notebooks",
            float(micro),
        ),
        Convention(
            "micro, void as a class of its own that is never predicted",
            "segmentation_models.pytorch's CamVid notebook",
            float(with_void),
        ),
    ]
