"""What weighs the encoder's maps on their way into a decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.blocks import NormName
from segkit.decoders.climber import UpStep

REDUCTION = 16  # of channels, as Hu et al. have it
NARROWEST = 4  # channels; of one or two, ReLU may be dead from the start


class ChannelWeights(nn.Sequential):
    """Weigh the channels of a map by their averages over the image (squeeze and excitation).

    Shape: `(N, channels, H, W)` to weights from 0 to 1, `(N, channels, 1, 1)`.

    Source: Hu et al. 2018, arXiv:1709.01507.
    """

    def __init__(self, channels: int) -> None:
        narrow = max(NARROWEST, channels // REDUCTION)
        super().__init__(
            nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the weights."""
        weights: Tensor = super().forward(x.mean((2, 3), keepdim=True))
        return weights.sigmoid()


class SCSE(nn.Module):
    """Weigh a map by channel and by pixel, and add the two (scSE).

    Shape: `(N, channels, H, W)` to the same.

    Source: Roy et al. 2018, arXiv:1803.02579.
    """

    sees_all = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_channels = ChannelWeights(channels)
        self.of_pixels = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed map."""
        return x * self.of_channels(x) + x * self.of_pixels(x).sigmoid()


class SCSEStep(UpStep):
    """An `UpStep` with scSE over the joined maps, and over the result."""

    def __init__(
        self, up: nn.Module, channels: int, skip: int, width: int, depth: int, norm: NormName
    ) -> None:
        super().__init__(up, [channels + skip] + [width] * depth, norm)
        if skip:
            self.convs.insert(0, SCSE(channels + skip))
        self.convs.append(SCSE(width))


class GatedStep(UpStep):
    """An `UpStep` that weighs each pixel of the encoder's map before it is joined.

    The weight comes from that pixel and from what has climbed to it, at the map's own resolution;
    Oktay et al. compute it at half of it.

    Source: Oktay et al. 2018, arXiv:1804.03999, the additive gate.
    """

    def __init__(
        self, up: nn.Module, channels: int, skip: int, width: int, depth: int, norm: NormName
    ) -> None:
        super().__init__(up, [channels + skip] + [width] * depth, norm)
        narrow = max(NARROWEST, skip // 2)
        self.of_skip = nn.Conv2d(skip, narrow, 1, bias=False)
        self.of_below = nn.Conv2d(channels, narrow, 1)
        self.weight = nn.Conv2d(narrow, 1, 1)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the upsampled map and the weighed one of the encoder."""
        weight = self.weight(F.relu(self.of_skip(skip) + self.of_below(x))).sigmoid()
        return torch.cat([x, skip * weight], dim=1)
