"""Cross-entropy, with label smoothing and class weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from segkit.losses.pixel import PixelLoss, cross_entropies
from segkit.registry import Bounds, register


@register("loss", "cross_entropy")
class CrossEntropy(PixelLoss):
    """Cross-entropy, as `torch.nn.functional.cross_entropy` has it, but 0 where all is void.

    Args:
        label_smoothing: share of the target spread evenly over the classes.
        class_weights: one a class; the sum is divided by the weights of the targets.
    """

    def __init__(
        self,
        label_smoothing: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(class_weights)
        self.label_smoothing = label_smoothing

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the pixels."""
        losses = cross_entropies(logits, target, self.class_weights, self.label_smoothing)
        return losses.sum().reshape(1)
