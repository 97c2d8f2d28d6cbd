"""Channels-last weights under torch's fused optimisers for CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def as_stored(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Temporarily permute channels-last weights for fused CPU optimisers.

    Torch's fused optimisers for CPUs copy each weight that is not in the usual order, and take
    gradients and moments to be in the order of the weight, whatever their own is.
    """
    weights = [
        weight
        for group in optimizer.param_groups
        for weight in group["params"]
        if weight.is_cpu
        and weight.ndim == 4
        and weight.grad is not None
        and not weight.is_contiguous()
    ]
    _permute(optimizer, weights, (0, 2, 3, 1))
    try:
        yield
    finally:
        _permute(optimizer, weights, (0, 3, 1, 2))


def _permute(
    optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], axes: tuple[int, ...]
) -> None:
    for weight in weights:
        assert weight.grad is not None
        gradient, state = weight.grad, optimizer.state[weight]
        weight.grad = None  # as it must have the shape of its weight at any time
        weight.data = weight.data.permute(axes)
        weight.grad = _in_layout_of(weight, gradient.permute(axes))
        for name, value in state.items():
            if torch.is_tensor(value) and value.ndim == 4:
                state[name] = _in_layout_of(weight, value.permute(axes))


def _in_layout_of(weight: Tensor, value: Tensor) -> Tensor:
    if value.stride() == weight.stride():
        return value
    return torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)
