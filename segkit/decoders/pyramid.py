"""What decoders share that read the maps from a stride on, and score at the finest of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.decoders.base import Decoder
from segkit.features import Wants
from segkit.upsample import Interpolate

FINEST = 4


class PyramidDecoder(Decoder):
    """Knows which maps are read: those from `finest` on, and the coarsest in any case.

    Args:
        in_channels, strides: as for every `Decoder`.
        finest: smallest stride that is read.
    """

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int], finest: int) -> None:
        super().__init__(in_channels, strides)
        self.skipped = sum(stride < finest for stride in strides[:-1])
        self.used_channels = self.in_channels[self.skipped :]
        self.used_strides = self.strides[self.skipped :]

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the maps from `finest` on."""
        return Wants(finest=options.get("finest", FINEST))


class JoinAtFinest(nn.Module):
    """Interpolate maps of one width to the size of the finest one, and join them.

    Shape: maps `(N, width, H / strides[i], W / strides[i])` to `(N, width, H, W)` of the finest.
    """

    def __init__(
        self, width: int, strides: Sequence[int], kernel_size: int, norm: NormName
    ) -> None:
        super().__init__()
        self.ups = nn.ModuleList(Interpolate("bilinear", s // strides[0]) for s in strides[1:])
        self.join = ConvNormAct(width * len(strides), width, kernel_size, norm)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the joined map."""
        finest, *coarser = maps
        grown = [up(x, finest.shape[-2:]) for up, x in zip(self.ups, coarser, strict=True)]
        joined: Tensor = self.join(torch.cat([finest, *grown], dim=1))
        return joined
