"""Run a predictor over a split and count, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from segkit.data.labels import IGNORE_INDEX
from segkit.data.loader import Loader, batches, worker_errors
from segkit.evaluation.boundary import BoundaryCounts, boundary_counts
from segkit.evaluation.calibration import calibration_counts
from segkit.evaluation.metrics import Scores, scores_of
from segkit.inference import Prediction, Predictor
from segkit.processes import ALONE, Processes


class ImageCounts(NamedTuple):
    """What is counted of an image.

    Args:
        name: of its files.
        matrix: rows truth and then void, columns prediction, `(num_classes + 1, num_classes)`.
        boundary: unless it was not asked for.
        calibration: unless it was not asked for.
    """

    name: str
    matrix: Tensor
    boundary: BoundaryCounts | None
    calibration: NDArray[np.float64] | None


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; images are in the order of their names.

    Args:
        names: of the images.
        matrices: of each, rows truth and then void, columns prediction, int32
            `(N, num_classes + 1, num_classes)`.
        seconds: of wall time, loading included.
        boundary: of each image, arrays `(N, ...)`; None unless asked for.
        calibration: bins of confidence, `(BINS, 3)`; None unless asked for.
    """

    names: tuple[str, ...]
    matrices: Tensor
    seconds: float
    boundary: BoundaryCounts | None = None
    calibration: NDArray[np.float64] | None = None

    @cached_property
    def matrix(self) -> Tensor:
        """Pixel counts of the split, int64, rows truth, columns prediction."""
        return self.matrices[:, :-1].sum(0, dtype=torch.int64)

    @cached_property
    def scores(self) -> Scores:
        """Read off the matrix."""
        return scores_of(self.matrix)


def evaluate(
    predictor: Predictor,
    loader: Loader,
    num_classes: int,
    on_image: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
    *,
    boundaries: bool = False,
    calibration: bool = False,
) -> Evaluation:
    """Predict every image of a loader at its own size and compare with the truth.

    Images go through the network one at a time, as they do in prediction: convolutions may round
    otherwise in a batch of another size, and no figure shall depend on that.

    Args:
        predictor: see its class.
        loader: of the split.
        num_classes: of the model.
        on_image: called after each image.
        processes: whose loaders each have a part of the split; all get the whole result.
        boundaries: also count at the boundaries between classes.
        calibration: also compare confidence with accuracy.
    """
    start = time.perf_counter()
    found: list[ImageCounts] = []
    with worker_errors():
        for groups in batches(loader):
            for batch in groups:
                for image, truth, name in zip(*batch, strict=True):
                    pixels = image.permute(1, 2, 0).numpy()
                    prediction = predictor.segment(pixels, confidence=calibration)
                    found.append(count(name, prediction, truth, num_classes, boundaries))
                    on_image()
    parts = [part for parts in processes.gather(found) for part in parts]
    parts.sort(key=lambda part: part.name)
    return Evaluation(
        tuple(part.name for part in parts),
        torch.stack([part.matrix for part in parts]),
        time.perf_counter() - start,
        _stack([part.boundary for part in parts if part.boundary is not None]),
        _sum([part.calibration for part in parts if part.calibration is not None]),
    )


def count(
    name: str, prediction: Prediction, truth: Tensor, num_classes: int, boundaries: bool = False
) -> ImageCounts:
    """Compare a prediction with the truth.

    Args:
        name: of the image.
        prediction: with confidence, if calibration is to be counted.
        truth: class indices, void as `IGNORE_INDEX`.
        num_classes: of the model.
        boundaries: also count at the boundaries between classes.

    Shape: truth `(H, W)`.
    """
    mask = prediction.mask
    target = truth.to(mask.device)
    labelled = torch.where(target == IGNORE_INDEX, num_classes, target.long())
    matrix = multiclass_confusion_matrix(
        mask.long(), labelled, num_classes + 1, validate_args=False
    )[:, :-1]
    bins = None
    if prediction.confidence is not None:
        judged = target != IGNORE_INDEX
        right = mask[judged] == target[judged]
        # on the CPU, whose sums of fractions are the same each time
        bins = calibration_counts(prediction.confidence[judged].cpu(), right.cpu())
    at_boundaries = None
    if boundaries:
        at_boundaries = boundary_counts(mask.cpu().numpy(), truth.numpy(), num_classes)
    return ImageCounts(name, matrix.int().cpu(), at_boundaries, bins)


def _stack(counts: list[BoundaryCounts]) -> BoundaryCounts | None:
    return BoundaryCounts(*map(np.stack, zip(*counts, strict=True))) if counts else None


def _sum(counts: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    return np.sum(counts, axis=0) if counts else None
