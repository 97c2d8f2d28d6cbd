"""Metrics as functions of predictions and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from segkit.errors import UserError
from segkit.evaluation.boundary import (
    BOUNDARY_IOU_WIDTH,
    BOUNDARY_TOLERANCE,
    BoundaryCounts,
    boundary_counts,
)
from segkit.evaluation.boundary_scores import boundary_f1 as f1_of
from segkit.evaluation.boundary_scores import boundary_iou as iou_of
from segkit.evaluation.boundary_scores import mean_boundary_f1
from segkit.evaluation.confusion import count_pairs
from segkit.evaluation.intervals import percentiles, resample
from segkit.evaluation.scores import Scores, nanmean, scores_of
from segkit.labels import IGNORE_INDEX, MAX_CLASSES

Labels = ArrayLike | Tensor


def confusion_matrix(
    prediction: Labels, target: Labels, num_classes: int, *, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Count pixels by their class in the target (rows) and in the prediction (columns).

    Returns:
        int64 `(num_classes, num_classes)`; those of several images add up.

    Raises:
        UserError: shapes that differ, or a class that is not among `num_classes`.

    >>> confusion_matrix([[0, 1, 1]], [[0, 1, 255]], num_classes=2).tolist()
    [[1, 0], [0, 1]]
    """
    pair = _as_pair(prediction, target, num_classes, ignore_index)
    return count_pairs(*pair, num_classes)[:-1]


def scores(
    prediction: Labels, target: Labels, num_classes: int, *, ignore_index: int = IGNORE_INDEX
) -> Scores:
    """Compute pixel accuracy, mIoU, Dice and more over all pixels; see `Scores`.

    >>> scores([[0, 1, 1]], [[0, 1, 0]], num_classes=2).iou
    (0.5, 0.5)
    """
    return scores_of(confusion_matrix(prediction, target, num_classes, ignore_index=ignore_index))


def mean_iou(
    prediction: Labels, target: Labels, num_classes: int, *, ignore_index: int = IGNORE_INDEX
) -> float:
    """Compute the mean IoU over the classes in target or prediction, over all pixels at once.

    It is not the mean over images. nan if every pixel is ignored.

    >>> mean_iou([[0, 1, 1, 1]], [[0, 1, 0, 255]], num_classes=5)
    0.5
    """
    return float(scores(prediction, target, num_classes, ignore_index=ignore_index).miou)


def boundary_f1(
    prediction: Labels,
    target: Labels,
    num_classes: int,
    *,
    tolerance: float = BOUNDARY_TOLERANCE,
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """Compute the boundary F1: the mean over the classes of each image, then over images.

    Args:
        prediction: see `segkit.metrics`.
        target: see `segkit.metrics`.
        num_classes: number of classes.
        tolerance: how far apart contours still match, as a share of the image diagonal.
        ignore_index: of void in the target.

    Returns:
        A share of one; nan if no image has a contour.

    Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?".

    >>> halves = np.repeat([[0, 1]], 8, axis=1).repeat(16, axis=0)
    >>> boundary_f1(halves, halves, num_classes=2)
    1.0
    >>> late = np.roll(halves, 2, axis=1)[:, 2:]  # two pixels of a diagonal of 21.3
    >>> [boundary_f1(late, halves[:, 2:], num_classes=2, tolerance=t) for t in (0.08, 0.1)]
    [0.0, 1.0]
    """
    images = _counts_of_images(
        prediction, target, num_classes, ignore_index, tolerance, BOUNDARY_IOU_WIDTH
    )
    return mean_boundary_f1(f1_of(np.stack([image.f1 for image in images])))


def boundary_iou(
    prediction: Labels,
    target: Labels,
    num_classes: int,
    *,
    width: float = BOUNDARY_IOU_WIDTH,
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """Compute the boundary IoU: over all images, then the mean over the classes.

    Args:
        prediction: see `segkit.metrics`.
        target: see `segkit.metrics`.
        num_classes: number of classes.
        width: of the bands along the contours, as a share of the image diagonal.
        ignore_index: of void in the target.

    Returns:
        A share of one; nan if no class is anywhere.

    Source: Cheng et al. 2021, arXiv 2103.16562.

    >>> halves = np.repeat([[0, 1]], 8, axis=1).repeat(16, axis=0)
    >>> boundary_iou(halves, halves, num_classes=2)
    1.0
    """
    images = _counts_of_images(
        prediction, target, num_classes, ignore_index, BOUNDARY_TOLERANCE, width
    )
    return float(nanmean(iou_of(np.stack([image.iou for image in images]))))


def bootstrap(
    counts: ArrayLike | Tensor,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    *,
    block: int = 1,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a 95 % interval for a statistic of the counts of images.

    Args:
        counts: of each image, `(N, ...)`, for example its confusion matrix; or one value an image.
        statistic: of sums of counts over images, `(samples, ...)` to `(samples,)`; None: the mean
            of the values, those that are nan left out.
        block: consecutive images drawn together, as frames of a video must be.
        seed: of the 2,000 samples that are drawn.

    Raises:
        UserError: counts of fewer than two images.

    >>> low, high = bootstrap(np.arange(100))
    >>> low < 49.5 < high
    True
    >>> matrices = np.stack([[[90, 10], [5, 95]]] * 20)
    >>> accuracy = lambda m: m.trace(axis1=1, axis2=2) / m.sum((1, 2))
    >>> bootstrap(matrices, accuracy)
    (0.925, 0.925)
    """
    values = np.asarray(_as_array(counts), np.float64)
    if len(values) < 2:
        raise UserError(f"an interval needs the counts of two images or more, not {len(values)}")
    names = [f"{number:09}" for number in range(len(values))]
    resampling = resample(names, block=block, seed=seed)
    if statistic is not None:
        return percentiles(resampling.of_sums(values, statistic))
    return percentiles(resampling.of_means(values))


def _as_pair(
    prediction: Labels, target: Labels, num_classes: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Return both as class indices of uint8, void in the target as `IGNORE_INDEX`."""
    if not 2 <= num_classes <= MAX_CLASSES:
        raise UserError(f"num_classes is {num_classes}; it must be 2 to {MAX_CLASSES}")
    predicted, true = torch.as_tensor(_as_array(prediction)), torch.as_tensor(_as_array(target))
    if predicted.is_floating_point() and predicted.ndim == 4:
        if predicted.shape[1] != num_classes:
            raise UserError(
                f"the logits are {tuple(predicted.shape)}; for {num_classes} classes they must be "
                f"(N, {num_classes}, H, W)"
            )
        predicted = predicted.argmax(1)
    if predicted.shape != true.shape or true.ndim not in (2, 3):
        raise UserError(
            f"the prediction is {tuple(predicted.shape)} and the target {tuple(true.shape)}; both "
            "must be (H, W) or (N, H, W), or the prediction logits (N, num_classes, H, W)"
        )
    for name, labels in (("prediction", predicted), ("target", true)):
        if labels.is_floating_point():
            raise UserError(f"the {name} is {labels.dtype}; pass class indices as whole numbers")
    predicted, true = predicted.to(true.device).long(), true.long()
    true = torch.where(true == ignore_index, IGNORE_INDEX, true)
    for name, labels in (("prediction", predicted), ("target", true[true != IGNORE_INDEX])):
        outside = labels[(labels < 0) | (labels >= num_classes)]
        if outside.numel():
            raise UserError(f"the {name} holds class {int(outside[0])} of {num_classes} classes")
    return predicted.to(torch.uint8), true.to(torch.uint8)


def _counts_of_images(
    prediction: Labels,
    target: Labels,
    num_classes: int,
    ignore_index: int,
    tolerance: float,
    width: float,
) -> Iterator[BoundaryCounts]:
    pair = _as_pair(prediction, target, num_classes, ignore_index)
    predicted, true = (each.cpu().numpy() for each in pair)
    if true.ndim == 2:
        predicted, true = predicted[None], true[None]
    for one, other in zip(predicted, true, strict=True):
        yield boundary_counts(one, other, num_classes, tolerance, width)


def _as_array(values: Any) -> Any:
    return values if isinstance(values, Tensor) else np.asarray(values)
