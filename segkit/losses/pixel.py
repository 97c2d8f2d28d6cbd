"""What losses over single pixels share: a mean over the valid pixels, weighted by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.labels import IGNORE_INDEX
from segkit.losses.base import Loss, precise


class PixelLoss(Loss):
    """A mean over the valid pixels, weighted by their classes."""

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        table = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", table, persistent=False)

    def normalizer(self, target: Tensor) -> Tensor:
        """Return the sum of the pixels' weights."""
        return self.pixel_weights(target).sum().reshape(1)

    def pixel_weights(self, target: Tensor) -> Tensor:
        """Return each pixel the weight of its class; 1 without class weights, 0 for void."""
        if self.class_weights is None:
            return (target != IGNORE_INDEX).float()
        return F.pad(self.class_weights, (0, IGNORE_INDEX + 1 - len(self.class_weights)))[target]


def cross_entropies(
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy of each pixel, 0 for void.

    Summed up by the caller: CUDA's own sum depends on the order in which threads arrive.
    """
    logits = precise(logits)
    return F.cross_entropy(
        logits,
        target,
        weight=None if class_weights is None else class_weights.to(logits.dtype),
        ignore_index=IGNORE_INDEX,
        label_smoothing=label_smoothing,
        reduction="none",
    )
