"""What losses over whole images share: a mean over images of a mean over their classes."""

from __future__ import annotations

import torch
from torch import Tensor

from segkit.labels import IGNORE_INDEX
from segkit.losses.base import Loss, precise, valid_counts


class ImageLoss(Loss):
    """A mean over the images with a valid pixel; of an image, over the classes in its target."""

    def normalizer(self, target: Tensor) -> Tensor:
        """Return the number of images with a valid pixel."""
        return (valid_counts(target) > 0).sum().float().reshape(1)

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum over the images."""
        probabilities = precise(logits).softmax(1).flatten(2)  # N C P
        target = target.flatten(1)[:, None]  # N 1 P
        classes = torch.arange(logits.shape[1], device=target.device)[:, None]  # C 1
        members = target == classes  # N C P
        present = members.any(2)  # N C
        losses = self.class_losses(probabilities, members, target != IGNORE_INDEX)
        means = torch.where(present, losses, 0).sum(1) / present.sum(1).clamp(min=1)
        return means.sum().reshape(1)

    def class_losses(self, probabilities: Tensor, members: Tensor, valid: Tensor) -> Tensor:
        """Return the loss of each class of each image; finite for absent classes, but not used.

        Shape: `(N, num_classes, P)`, the same and `(N, 1, P)` to `(N, num_classes)`.
        """
        raise NotImplementedError
