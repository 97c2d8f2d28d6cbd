"""The losses a run can be trained with, over logits and class indices; see `loss_base`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.config.schema import LossConfig
from segkit.data.labels import IGNORE_INDEX
from segkit.training.loss_base import Loss, mean_loss, precise, valid_counts
from segkit.training.overlap import Dice, LovaszSoftmax

__all__ = [
    "LOSSES",
    "OHEM",
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "Loss",
    "LovaszSoftmax",
    "build_loss",
    "mean_loss",
]


class PixelLoss(Loss):
    """A mean over the valid pixels, weighted by their classes.

    Args:
        class_weights: one a class; the sum is divided by the weights of the targets.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        table = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", table, persistent=False)

    def weights(self, target: Tensor) -> Tensor:
        """Give the sum of the pixels' weights."""
        return self.pixel_weights(target).sum().reshape(1)

    def pixel_weights(self, target: Tensor) -> Tensor:
        """Give each pixel the weight of its class; 1 without class weights, 0 for void."""
        if self.class_weights is None:
            return (target != IGNORE_INDEX).float()
        return F.pad(self.class_weights, (0, IGNORE_INDEX + 1 - len(self.class_weights)))[target]


class CrossEntropy(PixelLoss):
    """Cross-entropy, as `torch.nn.functional.cross_entropy` has it, but 0 where all is void.

    Args:
        label_smoothing: share of the target spread evenly over the classes.
        class_weights: one a class; the sum is divided by the weights of the targets.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(class_weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the sum over the pixels."""
        losses = _cross_entropies(logits, target, self.class_weights, self.label_smoothing)
        return losses.sum().reshape(1)


class Focal(PixelLoss):
    """Cross-entropy times `(1 - p) ** gamma`, p being the probability of the true class.

    Args:
        gamma: how much less a pixel counts that is well predicted; 0 is cross-entropy.
        class_weights: one a class, the paper's alpha; the sum is divided by those of the targets.

    Reference: Lin et al. 2017, arXiv:1708.02002
    """

    def __init__(self, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(class_weights)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the sum over the pixels."""
        losses = _cross_entropies(logits, target)  # -log p, 0 for void
        missing = -torch.expm1(-losses)  # 1 - p
        # The slope of a root is infinite at 0, and infinite times nothing is nan.
        missing = missing.clamp(min=torch.finfo(missing.dtype).tiny)
        return (self.pixel_weights(target) * missing**self.gamma * losses).sum().reshape(1)


class OHEM(PixelLoss):
    """Cross-entropy over the hardest pixels of each image: online hard example mining.

    Of an image with V valid pixels the `ceil(share * V)` with the largest loss count, whatever the
    losses are, so that their number is known beforehand. With class weights, pixels are ranked by
    weighted loss, and a kept pixel counts in the divisor with the mean weight of its image's valid
    pixels. A share of 1 is therefore cross-entropy, with class weights or without.

    Args:
        share: of the valid pixels, above 0 and at most 1; taken to six digits.
        class_weights: one a class.

    Reference: Shrivastava et al. 2016, arXiv:1604.03540, there for regions of interest
    """

    def __init__(self, share: float = 0.25, class_weights: Sequence[float] | None = None) -> None:
        super().__init__(class_weights)
        self.share = Fraction(share).limit_denominator(1_000_000)  # 0.1 of 30 is 3, not 3 and a bit

    def weights(self, target: Tensor) -> Tensor:
        """Give the number of kept pixels times the mean weight of each image's pixels."""
        mean = self.pixel_weights(target).flatten(1).sum(1) / valid_counts(target).clamp(min=1)
        return (self._kept(target) * mean).sum().reshape(1)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the sum over the kept pixels."""
        losses = _cross_entropies(logits, target, self.class_weights).flatten(1)  # N P
        order = losses.detach().argsort(dim=1, descending=True, stable=True)
        first = torch.arange(order.shape[1], device=order.device) < self._kept(target)[:, None]
        kept = torch.zeros_like(first).scatter_(1, order, first)
        return torch.where(kept, losses, 0).sum().reshape(1)

    def _kept(self, target: Tensor) -> Tensor:
        above = valid_counts(target) * self.share.numerator
        return (above + self.share.denominator - 1) // self.share.denominator


class CrossEntropyDice(Loss):
    """`(1 - dice_share) * cross-entropy + dice_share * Dice`; two terms.

    Args:
        label_smoothing: of the cross-entropy.
        class_weights: of the cross-entropy.
        dice_share: 0 is cross-entropy alone, 1 is Dice alone.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        dice_share: float = 0.5,
    ) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(label_smoothing, class_weights)
        self.dice = Dice()
        self.dice_share = dice_share

    def weights(self, target: Tensor) -> Tensor:
        """Give the pixels' weights and the number of images."""
        return torch.cat([self.cross_entropy.weights(target), self.dice.weights(target)])

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the two sums, each times its share."""
        logits = precise(logits)  # here, so that their gradients are added in fp32 as well
        pixels, images = self.cross_entropy(logits, target), self.dice(logits, target)
        return torch.cat([(1 - self.dice_share) * pixels, self.dice_share * images])


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "dice": Dice,
    "cross_entropy_dice": CrossEntropyDice,
    "lovasz": LovaszSoftmax,
    "ohem": OHEM,
}


def build_loss(config: LossConfig) -> Loss:
    """Build the loss of the section `train.loss`, on the CPU.

    Raises:
        ValueError: class weights by name, not in numbers.
    """
    options: dict[str, Any] = config.model_dump(exclude={"name"})
    weights = options.get("class_weights")
    if weights == "none":
        options["class_weights"] = None
    elif isinstance(weights, str):
        raise ValueError(
            f"train.loss.class_weights is {weights}; have it computed by resolve_statistics first"
        )
    return LOSSES[config.name](**options)


def _cross_entropies(
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Give the cross-entropy of each pixel, 0 for void.

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
