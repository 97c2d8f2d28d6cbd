"""Normalisation of pixels, on the device that the network runs on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB
IMAGENET_STD = (0.229, 0.224, 0.225)


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


def make_normalize(
    mean: Sequence[float] | None, std: Sequence[float] | None, device: torch.device
) -> Normalize | None:
    """Build the normalisation on a device; None for images that come normalised.

    Raises:
        UserError: mean without std, or std without mean.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise UserError("pass both mean and std, or none of them")
    return Normalize(mean, std).to(device)
