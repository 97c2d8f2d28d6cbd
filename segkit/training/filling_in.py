"""Void batches, by which a process without samples takes part in what all processes do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def filling_in(model: nn.Module) -> Iterator[None]:
    """Keep what passes through a model out of the statistics of `nn.SyncBatchNorm`.

    Each of its forward and backward passes in training is a collective operation. This process
    takes part in them with an empty batch, which torch weighs by its count of zero, and normalises
    its own batch by the running statistics.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.SyncBatchNorm) and module.training
    ]
    for norm in norms:
        norm.forward = partial(_join_in, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _join_in(norm: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    nothing = type(norm).forward(norm, x[:0]).sum()  # zero, but its backward pass takes part too
    if norm.running_mean is not None and norm.running_var is not None:
        # copies, as the next forward pass changes them before the backward pass of this one
        mean, var = norm.running_mean.clone(), norm.running_var.clone()
        x = F.batch_norm(x, mean, var, norm.weight, norm.bias, eps=norm.eps)
    return x + nothing
