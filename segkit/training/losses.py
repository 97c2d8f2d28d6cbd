"""Losses over logits and class indices; void pixels count nowhere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.data.labels import IGNORE_INDEX


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over the pixels that are not void, weighted; zero where all are void.

    PyTorch's own mean is nan for a batch without a valid pixel (pytorch/pytorch#70348).

    Args:
        logits: of any floating type; computed in fp32.
        target: class indices, 255 for void.
        label_smoothing: share of the target spread evenly over the classes.
        class_weights: fp32, one a class; the sum is divided by the weights of the targets.

    Shape: `(N, num_classes, H, W)` and int64 `(N, H, W)` to a scalar.
    """
    total = F.cross_entropy(
        logits.float(),
        target,
        weight=class_weights,
        ignore_index=IGNORE_INDEX,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    if class_weights is None:
        weight = (target != IGNORE_INDEX).sum()
    else:
        weight = F.pad(class_weights, (0, 256 - len(class_weights)))[target].sum()  # void weighs 0
    return total / torch.where(weight > 0, weight, torch.ones_like(weight))
