"""Counts along the boundaries, where decoders differ most.

Everything is counted per image in whole numbers, so that sums over images, processes and bootstrap
samples are exact; the scores follow from a stack of such counts.

- *Boundary F1*: share of the predicted contour of a class that lies within a tolerance of its true
  contour (precision) and the reverse (recall), in Euclidean distance. The contour of a class are
  its pixels with a 4-neighbour of another class; the image border is no contour.
  Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?".
- *Boundary IoU*: IoU of the parts of the true and the predicted mask within a distance of their
  own contour (chessboard distance, the image border is contour), over the whole set.
  Source: Cheng et al. 2021, arXiv 2103.16562, and their reference code.
- *Trimap mIoU*: mIoU over the pixels within r pixels of any true contour, for r = 1, 2, ...
  Source: Kohli et al. 2009, "Robust higher order potentials for enforcing label consistency".

Void often runs as a thin seam between the classes, so that dropping the contours along it would
drop most of them. Hence two kinds of void:

- a *seam* is nowhere deeper than the tolerance of Boundary F1 (depth: distance to the nearest
  labelled pixel). Its pixels take the class of the nearest labelled pixel, so that its middle is
  the contour;
- *wide void*, deeper parts and the void around them, is unknown: neither target nor
  prediction has a class there, and to border on it makes no contour. No prediction there changes
  any count.

No pixel of either kind counts in Boundary IoU or in the trimaps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segkit.labels import IGNORE_INDEX

BOUNDARY_TOLERANCE = 0.0075  # of Boundary F1, as a share of the image diagonal
BOUNDARY_IOU_WIDTH = 0.02  # of the band of Boundary IoU, as a share of the image diagonal
TRIMAP_RADII = tuple(range(1, 21))  # in pixels

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_DISK_LIMIT = 24  # pixels; to dilate by a larger disk is slower than to measure distances
_ROUNDING = 1e-4  # distances are roots of whole numbers in float32: "within 5" must include 5

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Counts = NDArray[np.int64]


class BoundaryCounts(NamedTuple):
    """Pixel counts of one image for the boundary scores.

    Args:
        f1: predicted contour near the true one, predicted contour, true contour near the
            predicted one, true contour; `(num_classes, 4)`.
        iou: intersection and union of the bands along the contours; `(num_classes, 2)`.
        trimap: hits, target and prediction within each of `TRIMAP_RADII` of the true contours, each
            radius including the smaller ones; `(20, num_classes, 3)`.
    """

    f1: Counts
    iou: Counts
    trimap: Counts


def boundary_counts(
    prediction: Labels,
    target: Labels,
    num_classes: int,
    tolerance: float = BOUNDARY_TOLERANCE,
    width: float = BOUNDARY_IOU_WIDTH,
) -> BoundaryCounts:
    """Count the pixels that the boundary scores of one image are computed from.

    Args:
        prediction: class indices, without void.
        target: class indices, void as `IGNORE_INDEX`.
        num_classes: number of classes.
        tolerance: how far apart contours still match, and how deep a void seam may be, as a share
            of the image diagonal.
        width: of the bands of Boundary IoU, as a share of the image diagonal.

    Shape: `(H, W)` each.
    """
    _check(prediction, target, num_classes)
    reach = tolerance * math.hypot(*target.shape) + _ROUNDING
    filled, wide = fill_void(target, reach)
    seen = prediction.copy()
    seen[wide] = IGNORE_INDEX
    labelled = target != IGNORE_INDEX
    true_contour, predicted_contour = _contour(filled), _contour(seen)
    predicted_classes = np.where(predicted_contour, seen, IGNORE_INDEX)
    true_classes = np.where(true_contour, filled, IGNORE_INDEX)
    return BoundaryCounts(
        f1=_f1_counts(predicted_classes, true_classes, num_classes, reach),
        iou=_iou_counts(seen, filled, labelled, num_classes, width),
        trimap=_trimap_counts(prediction, target, labelled, true_contour, num_classes),
    )


def fill_void(target: Labels, reach: float) -> tuple[Labels, Mask]:
    """Fill seams of void, at most `reach` deep, with the nearest classes; also mark wide void."""
    void = target == IGNORE_INDEX
    if void.all() or not void.any():  # nothing to fill from, or to fill
        return target, void
    wide = np.zeros_like(void)
    deep = ~_near(~void, reach)
    if deep.any():  # its void extends to the labelled pixels; sqrt 2 is for right-angled corners
        wide = void & _near(deep, math.sqrt(2) * reach)
    # nearest by the 5x5 chamfer distance, off by 2 % at most; every labelled pixel is a number
    _, nearest = cv2.distanceTransformWithLabels(
        void.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    class_of = np.zeros(nearest.max() + 1, np.uint8)
    class_of[nearest[~void]] = target[~void]
    seam = void & ~wide
    filled = target.copy()
    filled[seam] = class_of[nearest[seam]]
    return filled, wide


def _check(prediction: Labels, target: Labels, num_classes: int) -> None:
    if prediction.ndim != 2 or prediction.shape != target.shape or prediction.size == 0:
        raise ValueError(
            f"prediction is {prediction.shape} and target {target.shape}; both must be (H, W), "
            "of the same size and not empty"
        )
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.dtype != np.uint8:
            raise ValueError(f"{name} is {labels.dtype}; pass class indices as uint8")
    if prediction.max() >= num_classes:
        raise ValueError(f"prediction has class {prediction.max()} of {num_classes} classes")
    stray = target[(target >= num_classes) & (target != IGNORE_INDEX)]
    if stray.size:
        raise ValueError(f"target has class {stray.max()} of {num_classes} classes")


def _near(mask: Mask, reach: float) -> Mask:
    """Mark the pixels within a Euclidean distance of a mask that is not empty."""
    if reach > _DISK_LIMIT:
        return _distance(mask) <= reach
    offsets = np.arange(-int(reach), int(reach) + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= reach**2).astype(np.uint8)
    return cv2.dilate(mask.view(np.uint8), disk).view(np.bool_)


def _distance(mask: Mask) -> NDArray[np.float32]:
    """Return every pixel's Euclidean distance to the nearest pixel of a mask that is not empty."""
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _contour(labels: Labels) -> Mask:
    """Mark the pixels with a 4-neighbour of another class; wide void is of no class."""
    unknown = labels == IGNORE_INDEX
    largest = cv2.dilate(np.where(unknown, np.uint8(0), labels), _CROSS)
    smallest = cv2.erode(labels, _CROSS)  # IGNORE_INDEX is the largest number: never smaller
    return (largest != smallest) & ~unknown


def _band(labels: Labels, depth: int) -> Mask:
    """Mark what `depth` erosions of its class's mask by a 3x3 square take away.

    The image border erodes like another class, wide void does not.
    """
    square = np.ones((2 * depth + 1, 2 * depth + 1), np.uint8)  # the same as that many 3x3
    known = np.where(labels == IGNORE_INDEX, np.uint8(0), labels)
    outside = IGNORE_INDEX  # of the image: larger than any class
    largest = cv2.dilate(known, square, borderType=cv2.BORDER_CONSTANT, borderValue=outside)
    return largest != cv2.erode(labels, square)


def _f1_counts(
    predicted_contours: Labels, true_contours: Labels, num_classes: int, reach: float
) -> Counts:
    """Count contour pixels; off the contours the maps are `IGNORE_INDEX`."""
    counts = np.zeros((num_classes, 4), np.int64)
    counts[:, 1] = _histogram(predicted_contours[predicted_contours != IGNORE_INDEX], num_classes)
    counts[:, 3] = _histogram(true_contours[true_contours != IGNORE_INDEX], num_classes)
    for c in np.flatnonzero((counts[:, 1] > 0) & (counts[:, 3] > 0)).tolist():
        either = (predicted_contours == c) | (true_contours == c)
        x, y, columns, rows = cv2.boundingRect(either.view(np.uint8))
        box = np.s_[y : y + rows, x : x + columns]  # holds both contours, so it changes no distance
        predicted, true = predicted_contours[box] == c, true_contours[box] == c
        counts[c, 0] = np.count_nonzero(predicted & _near(true, reach))
        counts[c, 2] = np.count_nonzero(true & _near(predicted, reach))
    return counts


def _iou_counts(
    seen: Labels, filled: Labels, labelled: Mask, num_classes: int, width: float
) -> Counts:
    depth = max(1, round(width * math.hypot(*filled.shape)))
    in_target = labelled & _band(filled, depth)
    in_prediction = labelled & _band(seen, depth)
    intersection = _histogram(filled[in_target & in_prediction & (filled == seen)], num_classes)
    true = _histogram(filled[in_target], num_classes)
    predicted = _histogram(seen[in_prediction], num_classes)
    return np.stack([intersection, true + predicted - intersection], axis=-1)


def _trimap_counts(
    prediction: Labels, target: Labels, labelled: Mask, contour: Mask, num_classes: int
) -> Counts:
    """Count per radius; pixels of the contour itself, on both its sides, are at distance 0."""
    radii = len(TRIMAP_RADII)
    if not contour.any():
        return np.zeros((radii, num_classes, 3), np.int64)
    distance = _distance(contour) - np.float32(_ROUNDING)
    near = labelled & (distance <= TRIMAP_RADII[-1])
    ring = np.searchsorted(TRIMAP_RADII, distance[near])  # the smallest radius that includes it
    true, predicted = target[near], prediction[near]
    hit = true == predicted
    rings = [
        _histogram(ring[chosen] * num_classes + classes[chosen], radii * num_classes)
        for classes, chosen in ((true, hit), (true, np.s_[:]), (predicted, np.s_[:]))
    ]
    return np.stack(rings, axis=-1).reshape(radii, num_classes, 3).cumsum(axis=0)


def _histogram(values: NDArray[np.integer], length: int) -> Counts:
    return np.bincount(values, minlength=length).astype(np.int64, copy=False)
