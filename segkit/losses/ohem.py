"""Online hard example mining: cross-entropy over the hardest pixels of each image."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated

import torch
from torch import Tensor

from segkit.losses.base import valid_counts
from segkit.losses.pixel import PixelLoss, cross_entropies
from segkit.registry import Bounds, register


@register("loss", "ohem")
class OHEM(PixelLoss):
    """Cross-entropy over the hardest pixels of each image: online hard example mining.

    Of an image with V valid pixels, the `ceil(share * V)` with the largest loss count. With class
    weights, pixels are ranked by weighted loss, and a kept pixel counts in the divisor with the
    mean weight of its image's valid pixels, so that a share of 1 is cross-entropy here too.

    Args:
        share: of the valid pixels, above 0 and at most 1; taken to six digits.
        class_weights: one a class.

    Reference: Shrivastava et al. 2016, arXiv:1604.03540, there for regions of interest
    """

    def __init__(
        self,
        share: Annotated[float, Bounds(ge=1e-6, le=1)] = 0.25,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_weights)
        self.share = Fraction(share).limit_denominator(1_000_000)  # 0.1 of 30 is 3, not 3 and a bit

    def normalizer(self, target: Tensor) -> Tensor:
        """Return the number of kept pixels times the mean weight of each image's pixels."""
        mean = self.pixel_weights(target).flatten(1).sum(1) / valid_counts(target).clamp(min=1)
        return (self._kept(target) * mean).sum().reshape(1)

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the kept pixels."""
        losses = cross_entropies(logits, target, self.class_weights).flatten(1)  # N P
        order = losses.detach().argsort(dim=1, descending=True, stable=True)
        first = torch.arange(order.shape[1], device=order.device) < self._kept(target)[:, None]
        kept = torch.zeros_like(first).scatter_(1, order, first)
        return torch.where(kept, losses, 0).sum().reshape(1)

    def _kept(self, target: Tensor) -> Tensor:
        above = valid_counts(target) * self.share.numerator
        return (above + self.share.denominator - 1) // self.share.denominator
