"""Whether the network knows what it does not know: confidence against accuracy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.evaluation.metrics import Shares

BINS = 15


def calibration_counts(confidence: Tensor, right: Tensor) -> NDArray[np.float64]:
    """Sort pixels into bins of confidence; gives their number, the hits, the sum of confidence.

    Args:
        confidence: the probability of the predicted class.
        right: whether it is the true one.

    Shape: both `(pixels,)`, to `(BINS, 3)`.
    """
    bins = (confidence * BINS).long().clamp_(max=BINS - 1)
    return torch.stack(
        [
            torch.bincount(bins, minlength=BINS).double(),
            torch.bincount(bins, right.double(), BINS),
            torch.bincount(bins, confidence.double(), BINS),
        ],
        -1,
    ).numpy()


class Calibration(NamedTuple):
    """What the bins say, as shares of one; nan for empty bins.

    Args:
        error: expected calibration error: |accuracy - confidence|, mean over the pixels.
        accuracy: per bin.
        confidence: per bin, mean.
        share: per bin, of all pixels.
    """

    error: float
    accuracy: Shares
    confidence: Shares
    share: Shares


def calibration(counts: NDArray[np.float64]) -> Calibration:
    """Read the calibration off the bins (Naeini et al. 2015; Guo et al. 2017).

    Shape: `(BINS, 3)`.
    """
    pixels, hits, sums = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy, confidence, share = hits / pixels, sums / pixels, pixels / pixels.sum()
    gap = np.abs(accuracy - confidence)
    error = np.nansum(share * gap) if pixels.sum() else np.nan
    return Calibration(float(error), accuracy, confidence, share)
