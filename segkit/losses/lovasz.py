"""Lovász-softmax: a differentiable extension of the IoU."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.losses.image import ImageLoss
from segkit.registry import register


@register("loss", "lovasz")
class LovaszSoftmax(ImageLoss):
    """Lovász-softmax: one minus the IoU, extended from hard predictions to probabilities.

    As with `per_image=True, classes='present'` in the authors' code.

    Reference: Berman, Triki and Blaschko 2018, arXiv:1705.08790
    """

    def class_losses(self, probabilities: Tensor, members: Tensor, valid: Tensor) -> Tensor:
        """Return the sum of the errors times their slopes."""
        errors = torch.where(members, 1 - probabilities, probabilities)
        return (errors * _lovasz_slopes(errors.masked_fill(~valid, -1), members)).sum(2)


@torch.no_grad()
def _lovasz_slopes(errors: Tensor, members: Tensor) -> Tensor:
    """Return the factors with which the errors of the pixels add up to the Lovász extension.

    With the pixels of a class sorted by falling error, a pixel's factor is what the class's
    `1 - intersection / union` gains once this pixel is mispredicted next to all before it: a pixel
    of the class takes one from the intersection, any other adds one to the union. As a difference
    of two losses near 1 (Algorithm 1 of the paper) it would lose its digits on large images.

    Shape: all `(N, num_classes, P)`. Void has error -1 and so comes last, with factor 0.
    """
    slopes = torch.zeros_like(errors)
    # Waiting for the device once costs little next to sorting for classes that no image holds.
    for index in members.any(2).any(0).nonzero().flatten().tolist():
        order = errors[:, index].argsort(dim=1, descending=True, stable=True)  # N P
        hits = members[:, index].gather(1, order)
        count = hits.sum(1, keepdim=True)  # N 1
        intersection = count - hits.cumsum(1)
        union = count + (~hits).cumsum(1)
        pairs = (union * (union - 1)).clamp(min=1).to(errors.dtype)  # 0 only where count is 0
        gains = torch.where(hits, 1 / union.to(errors.dtype), intersection / pairs)
        slopes[:, index].scatter_(1, order, gains)
    return slopes
