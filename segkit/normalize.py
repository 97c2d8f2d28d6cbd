"""Normalisation of pixels, on the device that the network runs on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.errors import UserError


class Normalize(nn.Module):
    """Scale pixels to zero mean and unit variance, on whatever device they are.

    Args:
        mean: per channel, of images scaled to 0 ... 1.
        std: per channel.

    Shape: uint8, or float32 from 0 to 1, `(N, C, H, W)` to float32 `(N, C, H, W)`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise UserError(
                f"data.mean={list(mean)} and data.std={list(std)} must have one number a channel, "
                "std above zero"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise."""
        white = 255 if pixels.dtype == torch.uint8 else 1
        return (pixels - white * self.mean) / (white * self.std)
