"""Scores from one int64 confusion matrix over the whole split; void is on neither axis.

A class that is in neither truth nor prediction has no IoU (nan here, n/a on paper) and is left
out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says, as shares of one.

    Args:
        pixel_accuracy: share of the judged pixels that are right; nan if there are none.
        mean_accuracy: mean over classes in the truth of the share of their pixels found.
        miou: mean IoU over the classes in truth or prediction.
        frequency_weighted_iou: mean IoU weighted by the classes' pixels in the truth.
        iou: per class, nan for one in neither truth nor prediction.
        accuracy: per class, nan for one not in the truth.
        classes_present: number of classes in truth or prediction.
    """

    pixel_accuracy: float
    mean_accuracy: float
    miou: float
    frequency_weighted_iou: float
    iou: tuple[float, ...]
    accuracy: tuple[float, ...]
    classes_present: int

    def miou_line(self) -> str:
        """Write the mIoU with what it is a mean of.

        >>> scores_of(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).miou_line()
        'mIoU 77.5 % (2 of 3 classes present)'
        """
        return (
            f"mIoU {percent(self.miou)} % "
            f"({self.classes_present} of {len(self.iou)} classes present)"
        )


def scores_of(matrix: Tensor) -> Scores:
    """Read the scores off a confusion matrix.

    Args:
        matrix: pixel counts, rows truth, columns prediction.

    Shape: `(num_classes, num_classes)`.
    """
    counts = matrix.double().cpu()
    right, truth, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    iou = right / (truth + predicted - right)  # 0 / 0 is nan: the class is in neither
    accuracy = right / truth
    present = truth > 0
    return Scores(
        pixel_accuracy=(right.sum() / truth.sum()).item(),
        mean_accuracy=accuracy.nanmean().item(),
        miou=iou.nanmean().item(),
        frequency_weighted_iou=((truth * iou)[present].sum() / truth.sum()).item(),
        iou=tuple(iou.tolist()),
        accuracy=tuple(accuracy.tolist()),
        classes_present=int((~iou.isnan()).sum()),
    )


def majority_baseline(matrix: Tensor) -> tuple[int, Scores]:
    """Score the answer "the most frequent class, everywhere"; gives that class and the scores.

    Shape: `(num_classes, num_classes)`.
    """
    truth = matrix.sum(1)
    majority = int(truth.argmax())
    constant = torch.zeros_like(matrix)
    constant[:, majority] = truth
    return majority, scores_of(constant)


def percent(share: float) -> str:
    """Write a share in percent, n/a for nan.

    >>> percent(0.6123), percent(float("nan"))
    ('61.2', 'n/a')
    """
    return "n/a" if math.isnan(share) else f"{100 * share:.1f}"
