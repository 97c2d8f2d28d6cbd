"""Scores from one int64 confusion matrix over the whole split; void is on neither axis.

A class that is in neither truth nor prediction has no IoU (nan here, n/a on paper) and is left
out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shares = NDArray[np.float64]


class Figures(NamedTuple):
    """What counts of pixels say, as shares of one; nan where there is nothing to judge.

    Args:
        pixel_accuracy: share of the judged pixels that are right.
        mean_accuracy: mean over classes in the truth of the share of their pixels found.
        miou: mean IoU over the classes in truth or prediction.
        frequency_weighted_iou: mean IoU weighted by the classes' pixels in the truth.
        mean_dice: mean Dice over the classes in truth or prediction.
        iou: per class; hits / (hits + misses + false alarms).
        dice: per class; the harmonic mean of precision and recall, also called F1.
        precision: per class, the share of the pixels predicted as it that are; nan if none are.
        recall: per class, the share of its pixels found, also called its accuracy; nan for a class
            that is not in the truth.
    """

    pixel_accuracy: Shares
    mean_accuracy: Shares
    miou: Shares
    frequency_weighted_iou: Shares
    mean_dice: Shares
    iou: Shares
    dice: Shares
    precision: Shares
    recall: Shares


def figures(counts: Shares) -> Figures:
    """Compute all figures.

    Args:
        counts: pixels hit, in the truth, and predicted, of each class.

    Shape: `(..., num_classes, 3)` to `(...)`, and `(..., num_classes)` for those per class.
    """
    right, truth, predicted = np.moveaxis(counts.astype(np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is nan, and meant to be
        iou = right / (truth + predicted - right)
        dice = 2 * right / (truth + predicted)
        recall = right / truth
        return Figures(
            pixel_accuracy=right.sum(-1) / truth.sum(-1),
            mean_accuracy=nanmean(recall),
            miou=nanmean(iou),
            frequency_weighted_iou=np.nansum(truth * iou, -1) / truth.sum(-1),
            mean_dice=nanmean(dice),
            iou=iou,
            dice=dice,
            precision=right / predicted,
            recall=recall,
        )


def nanmean(values: Shares, axis: int = -1) -> Shares:
    """Take the mean of what is there; nan, without a warning, where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Shares = np.where(there, values, 0).sum(axis) / there.sum(axis)
    return mean


def class_counts(matrix: Tensor) -> Shares:
    """Read pixels hit, in the truth, and predicted off confusion matrices.

    Shape: `(..., num_classes, num_classes)`, rows truth, to `(..., num_classes, 3)`.
    """
    counts = matrix.cpu().numpy().astype(np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.stack([hits, counts.sum(-1), counts.sum(-2)], -1)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says: `Figures` as plain numbers.

    Args:
        pixel_accuracy: see `Figures`.
        mean_accuracy: see `Figures`.
        miou: see `Figures`.
        frequency_weighted_iou: see `Figures`.
        mean_dice: see `Figures`.
        iou: per class.
        dice: per class.
        precision: per class.
        accuracy: per class, the same as recall.
        support: per class, pixels in the truth.
        classes_present: number of classes in truth or prediction.
    """

    pixel_accuracy: float
    mean_accuracy: float
    miou: float
    frequency_weighted_iou: float
    mean_dice: float
    iou: tuple[float, ...]
    dice: tuple[float, ...]
    precision: tuple[float, ...]
    accuracy: tuple[float, ...]
    support: tuple[int, ...]
    classes_present: int

    def miou_line(self, interval: tuple[float, float] | None = None) -> str:
        """Write the mIoU with what it is a mean of.

        Args:
            interval: of 95 %, if there is one.

        >>> scores_of(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).miou_line()
        'mIoU 77.5 % (2 of 3 classes present)'
        """
        return (
            f"mIoU {with_interval(self.miou, interval)} "
            f"({self.classes_present} of {len(self.iou)} classes present)"
        )


def scores_of(matrix: Tensor) -> Scores:
    """Read the scores off a confusion matrix.

    Args:
        matrix: pixel counts, rows truth, columns prediction.

    Shape: `(num_classes, num_classes)`.
    """
    found = figures(class_counts(matrix))
    return Scores(
        pixel_accuracy=float(found.pixel_accuracy),
        mean_accuracy=float(found.mean_accuracy),
        miou=float(found.miou),
        frequency_weighted_iou=float(found.frequency_weighted_iou),
        mean_dice=float(found.mean_dice),
        iou=tuple(found.iou.tolist()),
        dice=tuple(found.dice.tolist()),
        precision=tuple(found.precision.tolist()),
        accuracy=tuple(found.recall.tolist()),
        support=tuple(matrix.sum(1).tolist()),
        classes_present=int((~np.isnan(found.iou)).sum()),
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


def with_interval(share: float, interval: tuple[float, float] | None) -> str:
    """Write a share in percent with its interval, if there is one.

    >>> with_interval(0.6123, (0.5891, 0.633))
    '61.2 % [58.9, 63.3]'
    """
    shown = f"{percent(share)} %"
    if interval is None or math.isnan(interval[0]):
        return shown
    return f"{shown} [{percent(interval[0])}, {percent(interval[1])}]"
