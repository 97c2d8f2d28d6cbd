"""Focal loss: cross-entropy that counts well-predicted pixels less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from segkit.losses.pixel import PixelLoss, cross_entropies
from segkit.registry import Bounds, register


@register("loss", "focal")
class Focal(PixelLoss):
    """Cross-entropy times `(1 - p) ** gamma`, p being the probability of the true class.

    Args:
        gamma: how much less a pixel counts that is well predicted; 0 is cross-entropy.
        class_weights: one a class, the paper's alpha; the sum is divided by those of the targets.

    Reference: Lin et al. 2017, arXiv:1708.02002
    """

    def __init__(
        self,
        gamma: Annotated[float, Bounds(ge=0)] = 2.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_weights)
        self.gamma = gamma

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the pixels."""
        losses = cross_entropies(logits, target)  # -log p, 0 for void
        missing = -torch.expm1(-losses)  # 1 - p
        # The slope of a root is infinite at 0, and infinite times nothing is nan.
        missing = missing.clamp(min=torch.finfo(missing.dtype).tiny)
        return (self.pixel_weights(target) * missing**self.gamma * losses).sum().reshape(1)
