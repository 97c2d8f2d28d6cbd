"""Soft Dice loss."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from segkit.losses.image import ImageLoss
from segkit.registry import Bounds, register


@register("loss", "dice")
class Dice(ImageLoss):
    """One minus the soft Dice coefficient `2 * sum(p * t) / (sum(p) + sum(t))`.

    Args:
        smooth: pixels added above and below the line of the fraction.

    Reference: Milletari et al. 2016, arXiv:1606.04797, here without the squares below the line
    """

    def __init__(self, smooth: Annotated[float, Bounds(ge=0)] = 0.0) -> None:
        super().__init__()
        self.smooth = smooth

    def class_losses(self, probabilities: Tensor, members: Tensor, valid: Tensor) -> Tensor:
        """Return one minus the coefficient."""
        both = (probabilities * members).sum(2)
        either = (probabilities * valid).sum(2) + members.sum(2)
        # An absent class, though not used, must not divide by 0: its gradient would be nan.
        below = torch.where(members.any(2), either + self.smooth, 1)
        return 1 - (2 * both + self.smooth) / below
