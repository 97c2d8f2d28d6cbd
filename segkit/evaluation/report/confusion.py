"""The confusion matrix as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MOST = 10  # confusions told in words
NUMBERED = 40  # classes; with more, cells are too small for numbers


@dataclass(frozen=True)
class Mistake:
    """Pixels of one class taken for another.

    Args:
        truth: class index.
        predicted: class index.
        share: of the true class's pixels.
        pixels: number.
    """

    truth: int
    predicted: int
    share: float
    pixels: int


@dataclass(frozen=True)
class Confusion:
    """A matrix and what is most worth reading off it.

    Args:
        pixels: rows truth, columns prediction.
        shares: of each row; nan for a class that is not in the truth.
        mistakes: the most frequent ones, by pixels.
        numbered: whether there is room for numbers in the cells.
    """

    pixels: NDArray[np.int64]
    shares: NDArray[np.float64]
    mistakes: list[Mistake]
    numbered: bool


def confusion_of(matrix: Tensor) -> Confusion:
    """Normalise the rows of a confusion matrix.

    Shape: `(num_classes, num_classes)`, rows truth.
    """
    pixels = matrix.numpy()
    with np.errstate(invalid="ignore"):
        shares = pixels / pixels.sum(1, keepdims=True)
    off_diagonal = pixels * (1 - np.eye(len(pixels), dtype=np.int64))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:MOST]
    places = zip(*np.unravel_index(order, pixels.shape), strict=True)
    mistakes = [
        Mistake(int(t), int(p), float(shares[t, p]), int(pixels[t, p]))
        for t, p in places
        if off_diagonal[t, p]
    ]
    return Confusion(pixels, shares, mistakes, len(pixels) <= NUMBERED)
