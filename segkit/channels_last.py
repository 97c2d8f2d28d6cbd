"""Keeping the memory format in which convolutions are fastest, which some operations lose."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def laid_out_like(source: Tensor, x: Tensor) -> Tensor:
    """Return a map in channels_last if the one that it was made from is, cropped or not.

    What is traced, exported or compiled is left alone: the runtime or compiler chooses its own.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if tracing or torch.compiler.is_compiling() or source.is_contiguous() or source.stride(1) != 1:
        return x
    return x.contiguous(memory_format=torch.channels_last)


def replicate(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Pad a map with its outermost values; `sides` are left, right, top and bottom."""
    return laid_out_like(x, F.pad(x, sides, mode="replicate"))  # CUDA's comes contiguous


class GroupNorm(nn.GroupNorm):
    """Group norm, of which CUDA's comes contiguous."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the channels of each group."""
        return laid_out_like(input, super().forward(input))
