"""Boundary scores from the stacked counts of the images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segkit.evaluation.boundary import Counts
from segkit.evaluation.scores import Shares, nanmean


def boundary_f1(counts: Counts) -> Shares:
    """Return the boundary F1 of each class in each image.

    0 where only one of target and prediction has a contour of the class, nan where neither has.

    Shape: `(N, num_classes, 4)` to `(N, num_classes)`.
    """
    near_target, predicted, near_prediction, true = np.moveaxis(np.asarray(counts), -1, 0)
    precision, recall = _ratio(near_target, predicted), _ratio(near_prediction, true)
    f1 = _ratio(2 * precision * recall, precision + recall)
    return np.where((predicted > 0) | (true > 0), np.nan_to_num(f1), np.nan)


def mean_boundary_f1(f1: Shares) -> float:
    """Average over the classes of each image, then over images; nan if no image has a contour.

    Shape: `(N, num_classes)`.
    """
    return float(nanmean(nanmean(f1)))


def class_boundary_f1(f1: Shares) -> Shares:
    """Average each class over the images where it has a contour; nan if there are none.

    Shape: `(N, num_classes)` to `(num_classes,)`.
    """
    return nanmean(f1, axis=0)


def boundary_iou(counts: Counts) -> Shares:
    """Return the boundary IoU of each class over the whole set; nan for a class in no image.

    Shape: `(N, num_classes, 2)` to `(num_classes,)`.
    """
    return band_iou(np.asarray(counts).sum(axis=0))


def band_iou(sums: NDArray[np.number]) -> Shares:
    """Divide intersections by unions, `(..., num_classes, 2)`, that are summed over images."""
    return _ratio(sums[..., 0], sums[..., 1])


def trimap_miou(counts: Counts) -> Shares:
    """Return the mIoU over the whole set within each of `TRIMAP_RADII` of the true contours.

    The mean is over classes in target or prediction there; nan if there are none.

    Shape: `(N, 20, num_classes, 3)` to `(20,)`.
    """
    hits, true, predicted = np.moveaxis(np.asarray(counts).sum(axis=0), -1, 0)
    return nanmean(_ratio(hits, true + predicted - hits))


def _ratio(part: ArrayLike, whole: ArrayLike) -> Shares:
    """Divide; nan where that is 0 / 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)
