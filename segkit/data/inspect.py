"""Facts about image and mask files, which checks and statistics read off."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.images import Pixels
from segkit.data.label_map import LabelMap, UnknownLabels
from segkit.errors import UserError
from segkit.labels import IGNORE_INDEX


class MaskFacts(NamedTuple):
    """Facts about a mask file."""

    size: tuple[int, int] | None = None  # (H, W); None if the file cannot be used
    pixels: NDArray[np.int64] | None = None  # of each class, void last; None without valid labels
    error: str | None = None  # why the file cannot be used
    unknown: UnknownLabels | None = None  # what the card does not name


class ClassCounts(NamedTuple):
    """Counts over many masks, one entry a class."""

    pixels: list[int]
    pixels_of_images: list[int]  # of all images in which the class occurs, without void
    images: list[int]  # in which the class occurs
    void: int  # number of ignored pixels


def inspect_mask(path: Path, labels: LabelMap) -> tuple[MaskFacts, NDArray[np.uint8] | None]:
    """Read a mask file; return its facts, and its class indices unless there is an error."""
    try:
        mask = labels.read(path)
    except UnknownLabels as error:
        return MaskFacts(error.size, unknown=error), None
    except UserError as error:
        return MaskFacts(error=str(error)), None
    counts = np.bincount(mask.ravel(), minlength=256)
    pixels = np.append(counts[: labels.card.num_classes], counts[IGNORE_INDEX])
    return MaskFacts((mask.shape[0], mask.shape[1]), pixels), mask


def sum_classes(masks: Iterable[NDArray[np.int64]], classes: int) -> ClassCounts:
    """Sum `MaskFacts.pixels` over masks."""
    pixels, pixels_of_images, images = (np.zeros(classes, np.int64) for _ in range(3))
    void = 0
    for mask in masks:
        counts = mask[:-1]
        present = counts > 0
        pixels += counts
        pixels_of_images[present] += counts.sum()
        images += present
        void += int(mask[-1])
    return ClassCounts(pixels.tolist(), pixels_of_images.tolist(), images.tolist(), void)


def channel_sums(image: Pixels) -> NDArray[np.float64]:
    """Return the number, sum and sum of squares of each channel's pixels, white being 1.

    Shape: `(H, W, C)` to `(3, C)`; the sums of several images add up.
    """
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
    pixels /= 255 if image.dtype == np.uint8 else 1
    ones = np.full(image.shape[-1], len(pixels), np.float64)
    return np.stack([ones, pixels.sum(0), np.square(pixels).sum(0)])


def mean_and_std(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel from its `channel_sums`."""
    mean = sums[1] / sums[0]
    return mean, np.sqrt(np.maximum(sums[2] / sums[0] - mean**2, 0))
