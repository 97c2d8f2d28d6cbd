"""The confusion matrix as the page shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

MOST = 10  # confusions listed
NUMBERED = 40  # classes; with more, cells are too small for numbers


def confusion_of(matrix: Tensor) -> dict[str, Any]:
    """Return a matrix with its rows as shares, and its largest entries off the diagonal.

    Shape: `(num_classes, num_classes)`, rows target.
    """
    pixels = matrix.numpy()
    with np.errstate(invalid="ignore"):
        shares = pixels / pixels.sum(1, keepdims=True)
    off_diagonal = pixels * (1 - np.eye(len(pixels), dtype=np.int64))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:MOST]
    places = zip(*np.unravel_index(order, pixels.shape), strict=True)
    mistakes = [
        {"target": t, "predicted": p, "share": shares[t, p], "pixels": pixels[t, p]}
        for t, p in places
        if off_diagonal[t, p]
    ]
    numbered = len(pixels) <= NUMBERED
    return {"pixels": pixels, "shares": shares, "mistakes": mistakes, "numbered": numbered}
