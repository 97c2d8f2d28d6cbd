"""Activation checkpointing that leaves batch norm statistics as one forward pass does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from torch import nn
from torch.compiler import is_compiling
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def recomputed(function: Callable[..., T], norms: Sequence[nn.Module], *arguments: object) -> T:
    """Call a function storing nothing inside it: the backward pass computes that again.

    Args:
        function: to call with `arguments`.
        norms: the batch norms it runs through.
        arguments: of the function.
    """
    if not norms or is_compiling():  # a compiled graph moves the statistics once by itself
        return checkpoint(function, *arguments, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _throwaway_buffers(norms)

    return checkpoint(function, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def _throwaway_buffers(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Let batch norms count into copies of their statistics, for those are counted already.

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
