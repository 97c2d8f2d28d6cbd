"""Run a predictor over a split and count, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.batch import as_batch
from segkit.data.dataset import as_sample
from segkit.data.parallel import in_threads
from segkit.distributed import SINGLE, Processes
from segkit.errors import UserError
from segkit.evaluation.boundary import BoundaryCounts, boundary_counts
from segkit.evaluation.calibration import calibration_counts
from segkit.evaluation.confusion import count_pairs
from segkit.evaluation.scores import Scores, scores_of
from segkit.evaluation.segmenter import Segmenter
from segkit.inference import Prediction, Predictor
from segkit.inference.finite import check_finite
from segkit.labels import IGNORE_INDEX
from segkit.losses import Loss, mean_loss

COUNTING_THREADS = 2  # each holds a prediction on the device


class ImageCounts(NamedTuple):
    """Counts of one image; see `Evaluation`."""

    name: str
    matrix: Tensor
    boundary: BoundaryCounts | None
    calibration: NDArray[np.float64] | None
    loss: Tensor | None  # its terms and their normalizers, float64 (2, K)


@dataclass(frozen=True)
class Evaluation:
    """Counts of all images, in the order of their names.

    Args:
        matrices: of each, rows target and then void, columns prediction, int32
            `(N, num_classes + 1, num_classes)`.
        seconds: of wall time, loading included.
        boundary: of each image, arrays `(N, ...)`; None unless asked for.
        calibration: bins of confidence, `(BINS, 3)`; None unless asked for.
        loss: of the split as if it were one batch; None unless asked for.
        tiled: the first image that was too large for the memory of the device, so that it and
            those after it were predicted in exact tiles.
    """

    names: tuple[str, ...]
    matrices: Tensor
    seconds: float
    boundary: BoundaryCounts | None = None
    calibration: NDArray[np.float64] | None = None
    loss: float | None = None
    tiled: str | None = None

    @cached_property
    def matrix(self) -> Tensor:
        """Confusion matrix of the split, int64, rows target, columns prediction."""
        return self.matrices[:, :-1].sum(0, dtype=torch.int64)

    @cached_property
    def scores(self) -> Scores:
        """Scores of the split."""
        return scores_of(self.matrix)


def evaluate_images(
    predictor: Predictor,
    loader: Iterable[Any],
    num_classes: int,
    on_image: Callable[[], None] = lambda: None,
    processes: Processes = SINGLE,
    *,
    boundaries: bool = False,
    calibration: bool = False,
    loss: Loss | None = None,
) -> Evaluation:
    """Predict every image of a loader at its own size and compare it with its target.

    Images go through the network one at a time, as they do in prediction: convolutions may round
    differently in a batch of another size, and no score shall depend on that.

    Args:
        predictor: of the model; one without `mean` and `std` for images that the data set has
            already normalised.
        loader: yields batches of images `(N, C, H, W)`, targets `(N, H, W)` and, if they have any,
            names; without names, images are numbered.
        num_classes: of the model.
        on_image: called after each image.
        processes: each has a loader of its own part of the split; all get the whole result.
        boundaries: also count at the boundaries between classes.
        calibration: also compare confidence with accuracy.
        loss: also compute this loss; for a predictor without blended tiles and views alone.

    Raises:
        UserError: no image, or one that there is too little memory for in any way.
        NotFinite: the network's logits are not finite, unless there is a loss, which tells.
    """
    start = time.perf_counter()
    segment = Segmenter(predictor, confidence=calibration, logits=loss is not None)

    def compared(image: Tensor, prediction: Prediction, target: Tensor, name: str) -> ImageCounts:
        if loss is None:  # otherwise the loss tells
            check_finite(prediction, image, predictor.backend, predictor.origin)
        return count(name, prediction, target, num_classes, boundaries, loss)

    def counts() -> Iterator[Callable[[], ImageCounts]]:
        total = 0
        for item in loader:
            batch = as_batch(item, total)
            total += len(batch.images)
            for image, target, name in zip(*batch, strict=True):
                prediction = segment(image, name)
                yield partial(compared, image, prediction, target, name)

    # counting takes the CPU as long as predicting takes a GPU
    threads = 0 if predictor.backend.device.type == "cpu" else COUNTING_THREADS
    found: list[ImageCounts] = []
    for each in in_threads(counts(), threads):
        found.append(each)
        on_image()
    gathered = processes.all_gather((found, segment.tiled))
    parts = [part for parts, _ in gathered for part in parts]
    tiled = min((name for _, name in gathered if name is not None), default=None)
    if not parts:
        raise UserError("there is no image to evaluate: the loader yields no batch")
    parts.sort(key=lambda part: part.name)
    edges = [part.boundary for part in parts if part.boundary is not None]
    bins = [part.calibration for part in parts if part.calibration is not None]
    losses = [part.loss for part in parts if part.loss is not None]
    return Evaluation(
        tuple(part.name for part in parts),
        torch.stack([part.matrix for part in parts]),
        time.perf_counter() - start,
        BoundaryCounts(*map(np.stack, zip(*edges, strict=True))) if edges else None,
        np.sum(bins, axis=0) if bins else None,
        mean_loss(*torch.stack(losses).sum(0)).item() if losses else None,
        tiled,
    )


def spread(length: int, count: int) -> list[int]:
    """Return the indices of up to `count` samples, evenly spread over a data set.

    >>> spread(10, 3)
    [0, 3, 6]
    """
    count = min(length, count)
    return [index * length // count for index in range(count)]


def predict_samples(
    predictor: Predictor, dataset: Any, indices: Iterable[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Predict samples of a data set; yield image `(C, H, W)`, target and prediction `(H, W)`."""
    segment = Segmenter(predictor)
    for index in indices:
        image, target, name = as_sample(dataset[index], index)
        yield image, target, segment(image, name).mask.cpu()


def count(
    name: str,
    prediction: Prediction,
    target: Tensor,
    num_classes: int,
    boundaries: bool = False,
    loss: Loss | None = None,
) -> ImageCounts:
    """Compare a prediction with its target; if it has a confidence, also count calibration."""
    mask = prediction.mask
    there = target.to(mask.device)
    matrix = count_pairs(mask, there, num_classes)
    terms = None
    if loss is not None and prediction.logits is not None:
        logits, classes = prediction.logits.unsqueeze(0), there.long().unsqueeze(0)
        terms = torch.stack([loss.terms(logits, classes), loss.normalizer(classes)]).cpu().double()
    if boundaries or prediction.confidence is not None:
        mask, target = mask.cpu(), target.cpu()
    bins = None
    if prediction.confidence is not None:
        labelled = target != IGNORE_INDEX
        hits = mask[labelled] == target[labelled]
        # on the CPU, whose sums of fractions are the same each time
        bins = calibration_counts(prediction.confidence.cpu()[labelled], hits)
    at_boundaries = None
    if boundaries:
        labels = target.to(torch.uint8).numpy()
        at_boundaries = boundary_counts(mask.numpy(), labels, num_classes)
    return ImageCounts(name, matrix.int().cpu(), at_boundaries, bins, terms)
