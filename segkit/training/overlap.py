"""Losses of how well two regions overlap, for each class of each image: Dice and Lovász."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.data.labels import IGNORE_INDEX
from segkit.training.loss_base import Loss, precise, valid_counts


class ImageLoss(Loss):
    """A mean over the images with a valid pixel; of an image, over the classes in its truth.

    A class absent from an image's truth has no term of its own, but what is predicted of it is
    missing from the classes that are there.
    """

    def weights(self, target: Tensor) -> Tensor:
        """Give the number of images with a valid pixel."""
        return (valid_counts(target) > 0).sum().float().reshape(1)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the sum over the images."""
        probabilities = precise(logits).softmax(1).flatten(2)  # N C P
        target = target.flatten(1)[:, None]  # N 1 P
        classes = torch.arange(logits.shape[1], device=target.device)[:, None]  # C 1
        truth = target == classes  # N C P
        present = truth.any(2)  # N C
        losses = self.class_losses(probabilities, truth, target != IGNORE_INDEX)
        means = torch.where(present, losses, 0).sum(1) / present.sum(1).clamp(min=1)
        return means.sum().reshape(1)

    def class_losses(self, probabilities: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """Give the loss of each class of each image; finite for absent classes, but not used.

        Shape: `(N, num_classes, P)`, the same and `(N, 1, P)` to `(N, num_classes)`.
        """
        raise NotImplementedError


class Dice(ImageLoss):
    """One minus the soft Dice coefficient `2 * sum(p * truth) / (sum(p) + sum(truth))`.

    Computed for each image and each class in its truth, and averaged over these classes, then over
    the images with a valid pixel.

    Args:
        smooth: pixels added above and below the line of the fraction.

    Reference: Milletari et al. 2016, arXiv:1606.04797, here without the squares below the line
    """

    def __init__(self, smooth: float = 0.0) -> None:
        super().__init__()
        self.smooth = smooth

    def class_losses(self, probabilities: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """Give one minus the coefficient."""
        both = (probabilities * truth).sum(2)
        either = (probabilities * valid).sum(2) + truth.sum(2)
        # An absent class, though not used, must not divide by 0: its gradient would be nan.
        below = torch.where(truth.any(2), either + self.smooth, 1)
        return 1 - (2 * both + self.smooth) / below


class LovaszSoftmax(ImageLoss):
    """Lovász-softmax: one minus the IoU, extended from hard predictions to probabilities.

    Computed for each image and each class in its truth, and averaged over these classes, then over
    the images with a valid pixel: `per_image=True, classes='present'` in the authors' code.

    Reference: Berman, Triki and Blaschko 2018, arXiv:1705.08790
    """

    def class_losses(self, probabilities: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """Give the sum of the errors times their slopes."""
        errors = torch.where(truth, 1 - probabilities, probabilities)
        return (errors * _lovasz_slopes(errors.masked_fill(~valid, -1), truth)).sum(2)


@torch.no_grad()
def _lovasz_slopes(errors: Tensor, truth: Tensor) -> Tensor:
    """Give the factors with which the errors of the pixels add up to the Lovász extension.

    With the pixels of a class sorted by falling error, a pixel's factor is what the class's
    `1 - intersection / union` gains once this pixel is mispredicted next to all that stand before
    it. A pixel of the class takes one from the intersection, any other adds one to the union.
    Written as a difference of two losses near 1, as in Algorithm 1 of the paper, the factor would
    lose its digits on large images.

    Args:
        errors: at least 0; void has -1, which puts it last, where its factor is 0.
        truth: whether a pixel is of the class; false for void.

    Shape: all `(N, num_classes, P)`; 0 for classes that no image holds.
    """
    slopes = torch.zeros_like(errors)
    # Waiting for the device once costs little next to sorting for classes that no image holds.
    for index in truth.any(2).any(0).nonzero().flatten().tolist():
        order = errors[:, index].argsort(dim=1, descending=True, stable=True)  # N P
        hits = truth[:, index].gather(1, order)
        count = hits.sum(1, keepdim=True)  # N 1
        intersection = count - hits.cumsum(1)
        union = count + (~hits).cumsum(1)
        pairs = (union * (union - 1)).clamp(min=1).to(errors.dtype)  # 0 only where count is 0
        gains = torch.where(hits, 1 / union.to(errors.dtype), intersection / pairs)
        slopes[:, index].scatter_(1, order, gains)
    return slopes
