"""Run a model over a split and count its confusion matrix."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from segkit.data.labels import IGNORE_INDEX
from segkit.data.loader import Loader, batches, worker_errors
from segkit.data.transforms import Normalize
from segkit.evaluation.metrics import Scores, scores_of
from segkit.hardware import Hardware
from segkit.processes import ALONE, Processes


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        matrix: pixel counts, rows truth, columns prediction, `(num_classes, num_classes)`.
        scores: read off the matrix.
        images: number of images.
        seconds: of wall time, loading included.
    """

    matrix: Tensor
    scores: Scores
    images: int
    seconds: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Loader,
    normalize: Normalize,
    num_classes: int,
    hardware: Hardware,
    on_batch: Callable[[int], None] = lambda images: None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Predict every image of a loader at its own size and compare with the truth.

    Args:
        model: on the hardware's device; its train or eval mode is put back afterwards.
        loader: of the split.
        normalize: on the hardware's device.
        num_classes: of the model.
        hardware: where and how precisely to compute.
        on_batch: called with the number of images after each batch.
        processes: whose loaders each have a part of the split; all get the whole result.
    """
    confusion = MulticlassConfusionMatrix(
        num_classes, ignore_index=IGNORE_INDEX, validate_args=False
    ).to(hardware.device)
    was_training = model.training
    model.eval()
    start, images = time.perf_counter(), 0
    try:
        with worker_errors():
            for groups in batches(loader):
                for batch in groups:
                    prediction = predict(model, batch.images, normalize, hardware)
                    confusion.update(prediction, batch.masks.to(hardware.device))
                    images += len(batch.names)
                on_batch(sum(len(batch.names) for batch in groups))
    finally:
        model.train(was_training)
    matrix = processes.sum(confusion.confmat).cpu()
    images = sum(processes.gather(images))
    return Evaluation(matrix, scores_of(matrix), images, time.perf_counter() - start)


def predict(model: nn.Module, images: Tensor, normalize: Normalize, hardware: Hardware) -> Tensor:
    """Give the most likely class of every pixel.

    Shape: uint8 `(N, C, H, W)` to int64 `(N, H, W)`.
    """
    with hardware.autocast():
        logits = model(normalize(hardware.load(images)))
    return logits.argmax(1)
