"""Cross-entropy and Dice, each with its share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from segkit.losses.base import Loss, precise
from segkit.losses.cross_entropy import CrossEntropy
from segkit.losses.dice import Dice
from segkit.registry import Bounds, register


@register("loss", "cross_entropy_dice")
class CrossEntropyDice(Loss):
    """`(1 - dice_share) * cross-entropy + dice_share * Dice`; two terms.

    Args:
        label_smoothing, class_weights: of the cross-entropy.
        dice_share: 0 is cross-entropy alone, 1 is Dice alone.
    """

    def __init__(
        self,
        label_smoothing: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
        class_weights: Sequence[float] | None = None,
        dice_share: Annotated[float, Bounds(ge=0, le=1)] = 0.5,
    ) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(label_smoothing, class_weights)
        self.dice = Dice()
        self.dice_share = dice_share

    def normalizer(self, target: Tensor) -> Tensor:
        """Return the pixels' weights and the number of images."""
        return torch.cat([self.cross_entropy.normalizer(target), self.dice.normalizer(target)])

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the two sums, each times its share."""
        logits = precise(logits)  # here, so that their gradients are added in fp32 as well
        pixels, images = self.cross_entropy.terms(logits, target), self.dice.terms(logits, target)
        return torch.cat([(1 - self.dice_share) * pixels, self.dice_share * images])
