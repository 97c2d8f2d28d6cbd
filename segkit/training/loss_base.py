"""What a loss is: exact however a batch is cut, and void counts nowhere.

A loss is a sum of K terms, each a sum over the pixels or images of a batch divided by a weight that
depends on the truth alone. Sums and weights of parts of a batch add up to those of the whole, so

    mean_loss(sum of loss(logits, target), sum of loss.weights(target))

is the same for any micro-batches on any number of processes, and so is its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segkit.data.labels import IGNORE_INDEX


class Loss(nn.Module):
    """What all losses share; computed in fp32 whatever the logits are, in fp64 where they are.

    Shape: logits `(N, num_classes, H, W)` and target, int64 `(N, H, W)`, to `(K,)`.
    """

    def weights(self, target: Tensor) -> Tensor:
        """Give what the K sums are to be divided by: a matter of the truth alone."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the K sums over this batch."""
        raise NotImplementedError


def mean_loss(sums: Tensor, weights: Tensor) -> Tensor:
    """Divide sums by weights and add them up; a term without weight is 0, as are its gradients.

    Shape: `(K,)` and `(K,)` to a scalar.
    """
    counts = weights > 0
    return torch.where(counts, sums / torch.where(counts, weights, 1), 0).sum()


def precise(logits: Tensor) -> Tensor:
    """Give fp64 as it is and everything else as fp32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def valid_counts(target: Tensor) -> Tensor:
    """Count the pixels of each image that are not void; `(N, H, W)` to `(N,)`."""
    return (target != IGNORE_INDEX).flatten(1).sum(1)
