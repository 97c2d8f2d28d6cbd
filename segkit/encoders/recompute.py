"""Activation checkpointing that leaves batch norm statistics as one forward pass does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from torch import nn
from torch.compiler import is_compiling
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def recomputed(function: Callable[..., T], norms: Sequence[nn.Module], *arguments: object) -> T:
    """Call a function with batch norms `norms`; the backward pass recomputes its activations."""
    if not norms or is_compiling():  # a compiled graph updates them only once
        return checkpoint(function, *arguments, use_reentrant=False)

    return checkpoint(
        function,
        *arguments,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _throwaway_buffers(norms)),
    )


@contextmanager
def _throwaway_buffers(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Let batch norms update copies of their statistics, which the first pass has updated already.

    Switching `track_running_stats` off would not do: batch norm then saves two tensors less for
    the backward pass than the first time, which `checkpoint` refuses.
    """
    kept = [dict(layer._buffers) for layer in layers]
    for layer in layers:
        layer._buffers.update({name: b.clone() for name, b in layer.named_buffers()})
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)
