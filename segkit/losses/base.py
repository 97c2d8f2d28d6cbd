"""The base classes of the losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segkit.labels import IGNORE_INDEX


class Loss(nn.Module):
    """A scalar loss of K terms, each summed over a batch and divided by its normalizer.

    The normalizers depend on the target alone, so they are known before a step: a batch may be cut
    into micro-batches and shared out over processes, and its loss and gradient stay the same.
    Void pixels (`IGNORE_INDEX`) never count. All is computed in fp32, or in fp64 for such logits.

    Shape: logits `(N, num_classes, H, W)` and target, int64 `(N, H, W)`, to a scalar.
    """

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the K sums over this batch, `(K,)`."""
        raise NotImplementedError

    def normalizer(self, target: Tensor) -> Tensor:
        """Return what each sum is divided by, `(K,)`."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return mean_loss(self.terms(logits, target), self.normalizer(target))


class MeanLoss(Loss):
    """Any function `(logits, target) -> scalar mean` as a `Loss`.

    Micro-batches and processes are averaged by their number of valid pixels. That is exact for a
    mean over pixels, and close for other losses.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean times the number of valid pixels; 0 where all pixels are void."""
        count = self.normalizer(target)
        if count == 0:  # a mean over nothing is nan by design, and so are its gradients
            return 0 * precise(logits).sum().reshape(1)
        return self.function(precise(logits), target).reshape(1) * count

    def normalizer(self, target: Tensor) -> Tensor:
        """Return the number of valid pixels."""
        return valid_counts(target).sum().float().reshape(1)


def as_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return a `Loss` as it is, and any other function as a `MeanLoss`."""
    return loss if isinstance(loss, Loss) else MeanLoss(loss)


def mean_loss(terms: Tensor, normalizer: Tensor) -> Tensor:
    """Divide terms by their normalizers and add them up; a term with nothing to count is 0."""
    counts = normalizer > 0
    return torch.where(counts, terms / torch.where(counts, normalizer, 1), 0).sum()


def precise(logits: Tensor) -> Tensor:
    """Return fp64 as it is and everything else as fp32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def valid_counts(target: Tensor) -> Tensor:
    """Count the pixels of each image that are not void; `(N, H, W)` to `(N,)`."""
    return (target != IGNORE_INDEX).flatten(1).sum(1)
