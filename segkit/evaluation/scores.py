"""Scores from confusion matrices of int64; void is on neither axis.

A class that is in neither target nor prediction has no IoU (nan here, n/a on paper) and is left
out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shares = NDArray[np.float64]


def nanmean(values: Shares, axis: int = -1) -> Shares:
    """Return the mean of the values that are not nan; nan, without a warning, if there are none."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis) / there.sum(axis)


def class_counts(matrix: Tensor) -> Shares:
    """Count the pixels of each class that are hit, in the target, and predicted.

    Shape: `(..., num_classes, num_classes)`, rows target, to `(..., num_classes, 3)`.
    """
    counts = matrix.cpu().numpy().astype(np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.stack([hits, counts.sum(-1), counts.sum(-2)], -1)


@dataclass(frozen=True)
class Scores:
    """Scores as shares of one; nan where there is nothing to score.

    Of one confusion matrix they are numbers, and tuples of them for each class; of many they are
    arrays of the leading shape.

    Args:
        pixel_accuracy: share of the labelled pixels that are right.
        mean_accuracy: mean recall over the classes in the target.
        miou: mean IoU over the classes in target or prediction.
        frequency_weighted_iou: mean IoU weighted by the classes' pixels in the target.
        mean_dice: mean Dice over the classes in target or prediction.
        iou: per class; hits / (hits + misses + false alarms).
        dice: per class; the harmonic mean of precision and recall, also called F1.
        precision: per class, the share right of the pixels predicted as it; nan if there are none.
        recall: per class, the share found of its pixels, also called its accuracy; nan for a class
            that is not in the target.
        support: per class, pixels in the target.
        classes_present: number of classes in target or prediction.
    """

    pixel_accuracy: Any
    mean_accuracy: Any
    miou: Any
    frequency_weighted_iou: Any
    mean_dice: Any
    iou: Any
    dice: Any
    precision: Any
    recall: Any
    support: Any
    classes_present: Any

    def as_dict(self) -> dict[str, Any]:
        """Return all scores by name."""
        return asdict(self)

    def miou_line(self, interval: tuple[float, float] | None = None) -> str:
        """Write the mIoU with the number of classes that it is a mean of.

        >>> scores_of(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).miou_line()
        'mIoU 77.5 % (2 of 3 classes present)'
        """
        present = f"{self.classes_present} of {len(self.iou)} classes present"
        return f"mIoU {with_interval(self.miou, interval)} ({present})"


def scores_of(matrix: Tensor) -> Scores:
    """Score a confusion matrix, rows target and columns prediction.

    Shape: `(num_classes, num_classes)`, or `(..., num_classes, num_classes)` for many.
    """
    return scores_of_counts(class_counts(matrix))


def scores_of_counts(counts: Shares) -> Scores:
    """Compute all scores from pixel counts, as `class_counts` returns them.

    Shape: `(num_classes, 3)`, or `(..., num_classes, 3)` for many.
    """
    hits, target, predicted = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is nan, and meant to be
        iou = hits / (target + predicted - hits)
        dice = 2 * hits / (target + predicted)
        recall = hits / target
        arrays = {
            "pixel_accuracy": hits.sum(-1) / target.sum(-1),
            "mean_accuracy": nanmean(recall),
            "miou": nanmean(iou),
            "frequency_weighted_iou": np.nansum(target * iou, -1) / target.sum(-1),
            "mean_dice": nanmean(dice),
            "iou": iou,
            "dice": dice,
            "precision": hits / predicted,
            "recall": recall,
            "support": target.astype(np.int64),
            "classes_present": (~np.isnan(iou)).sum(-1),
        }
    return Scores(**({k: _plain(v) for k, v in arrays.items()} if counts.ndim == 2 else arrays))


def _plain(array: NDArray[Any]) -> Any:
    """Return a number, or a tuple of numbers, as checkpoints and JSON take them."""
    return tuple(array.tolist()) if array.ndim else array.item()


def majority_baseline(matrix: Tensor) -> tuple[int, Scores]:
    """Return the most frequent class, and the scores of predicting it everywhere."""
    target = matrix.sum(1)
    majority = int(target.argmax())
    constant = torch.zeros_like(matrix)
    constant[:, majority] = target
    return majority, scores_of(constant)


def percent(share: float) -> str:
    """Write a share in percent, n/a for nan.

    >>> percent(0.6123), percent(float("nan"))
    ('61.2', 'n/a')
    """
    return "n/a" if math.isnan(share) else f"{100 * share:.1f}"


def with_interval(share: float, interval: tuple[float, float] | None) -> str:
    """Write a share in percent with its interval, if there is one.

    >>> with_interval(0.6123, (0.5891, 0.633))
    '61.2 % [58.9, 63.3]'
    """
    shown = f"{percent(share)} %"
    if interval is None or math.isnan(interval[0]):
        return shown
    return f"{shown} [{percent(interval[0])}, {percent(interval[1])}]"
