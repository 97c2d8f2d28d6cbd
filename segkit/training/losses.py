"""Losses over logits and class indices; void pixels count nowhere."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segkit.data.labels import IGNORE_INDEX


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the pixels that are not void; zero where all are.

    PyTorch's own mean is nan for a batch without a valid pixel (pytorch/pytorch#70348).

    Args:
        logits: of any floating type; computed in fp32.
        target: class indices, 255 for void.
        label_smoothing: share of the target spread evenly over the classes.

    Shape: `(N, num_classes, H, W)` and int64 `(N, H, W)` to a scalar.
    """
    total = F.cross_entropy(
        logits.float(),
        target,
        ignore_index=IGNORE_INDEX,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total / (target != IGNORE_INDEX).sum().clamp(min=1)
