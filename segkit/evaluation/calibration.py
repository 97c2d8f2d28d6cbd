"""Calibration: confidence against accuracy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.evaluation.scores import Shares

BINS = 15


def calibration_counts(confidence: Tensor, right: Tensor) -> NDArray[np.float64]:
    """Sort pixels into bins of confidence: number of pixels, hits and sum of confidence of each.

    Shape: both `(pixels,)`, to `(BINS, 3)`.
    """
    bins = (confidence * BINS).long().clamp_(max=BINS - 1)
    weights = torch.ones_like(confidence), right, confidence
    return torch.stack([torch.bincount(bins, w.double(), BINS) for w in weights], -1).numpy()


class Calibration(NamedTuple):
    """Calibration as shares of one; nan for empty bins."""

    error: float  # expected calibration error: |accuracy - confidence|, mean over the pixels
    accuracy: Shares  # per bin
    confidence: Shares  # per bin, mean
    share: Shares  # per bin, of all pixels


def calibration(counts: NDArray[np.float64]) -> Calibration:
    """Compute the calibration from the bins (Naeini et al. 2015; Guo et al. 2017)."""
    pixels, hits, sums = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy, confidence, share = hits / pixels, sums / pixels, pixels / pixels.sum()
    gap = np.abs(accuracy - confidence)
    error = np.nansum(share * gap) if pixels.sum() else np.nan
    return Calibration(float(error), accuracy, confidence, share)
