"""Counting pixels by their class in the target and in the prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.labels import IGNORE_INDEX

CHUNK = 2**20  # pixels counted at once: the memory for it does not grow with the image


def count_pairs(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Count pixels by target and prediction.

    Whole numbers add up to the same in any order, so this may run where torch is told to be
    deterministic. torchmetrics compares each pixel with each cell of the matrix there, which takes
    gigabytes.

    Args:
        prediction: class indices.
        target: class indices, and `IGNORE_INDEX` for void.
        num_classes: number of classes, void not counted.

    Shape: two tensors of one shape, to int64 `(num_classes + 1, num_classes)`: rows are target and
        then void, columns prediction.
    """
    if target.device.type == "mps":  # it cannot count whole numbers
        prediction, target = prediction.cpu(), target.cpu()
    side = num_classes + 1
    counts = torch.zeros(side * side, dtype=torch.int64, device=target.device)
    chunks = zip(target.flatten().split(CHUNK), prediction.flatten().split(CHUNK), strict=True)
    for true, predicted in chunks:
        rows = torch.where(true == IGNORE_INDEX, num_classes, true.long())
        counts += torch.bincount(rows * side + predicted, minlength=side * side)
    return counts.view(side, side)[:, :-1]
