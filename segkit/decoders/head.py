"""The last step of decoders that score a map coarser than the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segkit.features import Sizes, size_at
from segkit.upsample import Interpolate


class ScoreHead(nn.Module):
    """Score each pixel of a map, and interpolate the scores to the image's resolution.

    Args:
        channels: of the map.
        num_classes: channels of the logits.
        stride: of the map.

    Shape: `(N, channels, H, W)` to `(N, num_classes, stride * H, stride * W)`, or the size at
        stride 1.
    """

    def __init__(self, channels: int, num_classes: int, stride: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, num_classes, 1)
        self.up = Interpolate("bilinear", stride) if stride > 1 else None

    def forward(self, x: Tensor, sizes: Sizes | None) -> Tensor:
        """Return the logits."""
        x = self.score(x)
        if self.up is None:
            return x
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 is too coarse for scores
        logits: Tensor = self.up(x, size_at(1, sizes))
        return logits
