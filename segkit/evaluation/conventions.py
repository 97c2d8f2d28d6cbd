"""What other toolkits would print: their rules for "mIoU", from the same counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from segkit.evaluation.scores import class_counts, nanmean, scores_of_counts


class Convention(NamedTuple):
    """A rule in words, the toolkits that use it, and the mIoU under it as a share of one."""

    rule: str
    used_by: str
    value: float


def conventions(matrices: Tensor) -> list[Convention]:
    """Compute what other toolkits call mIoU.

    Shape: `(N, num_classes + 1, num_classes)`, rows target and then void.
    """
    labelled, void = matrices[:, :-1].long(), matrices[:, -1].long()
    each = class_counts(labelled)  # (N, C, 3)
    of_images = scores_of_counts(each)
    counts = each.sum(0)
    hits, target, predicted = counts.T
    union = target + predicted - hits
    scores = scores_of_counts(counts)
    in_target = np.where(target > 0, scores.iou, np.nan)
    with np.errstate(invalid="ignore"):
        micro = hits.sum() / union.sum()
        # void has no prediction of its own, so all of it is missed, and taken for something else
        with_void = hits.sum() / (union.sum() + 2 * void.sum().item())
    return [
        Convention(
            "whole set, mean over the classes in truth or prediction",
            "segkit, FCN's score.py, pytorch-fcn, mmsegmentation",
            scores.miou,
        ),
        Convention(
            "whole set, absent classes count as 0",
            "SegNet's script",
            float(np.nan_to_num(scores.iou).mean()),
        ),
        Convention(
            "whole set, mean over the classes in the truth",
            "ultralytics",
            float(nanmean(in_target)),
        ),
        Convention(
            "per image, mean over its classes, then over the images; void dropped",
            "torchmetrics' function mean_iou, averaged",
            float(nanmean(of_images.miou)),
        ),
        Convention(
            "per image, mean over all pairs of an image and a class in it; void dropped",
            "torchmetrics' class MeanIoU (1.9)",
            float(nanmean(of_images.iou.ravel())),
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
