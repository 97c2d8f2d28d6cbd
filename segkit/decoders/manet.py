"""MA-Net: a U-Net that relates all pixels of the coarsest map, and weighs channels on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.decoders.attention import ChannelWeights
from segkit.decoders.climber import Climber, UpStep
from segkit.features import Size, Wants
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate


@register("decoder", "manet")
class MANetDecoder(Climber):
    """Climb as U-Net does, after attention over the coarsest map, weighing the channels of a step.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`.
        upsample: interpolation of each x2 step.
        widths: channels of the steps to strides 1, 2, 4, ...; None halves them with each step.
        depth: number of convolutions after each step.
        norm: normalisation after each convolution, but of attention and of averages.
        attention_width: channels in which the pixels of the coarsest map are compared.

    Source: Fan et al. 2020, "MA-Net: A Multi-Scale Attention Network for Liver and Tumor
        Segmentation".

    >>> import torch
    >>> decoder = MANetDecoder(in_channels=[8, 16, 32], strides=[1, 2, 4], num_classes=3)
    >>> maps = [torch.rand(2, 8, 33, 20), torch.rand(2, 16, 16, 10), torch.rand(2, 32, 8, 5)]
    >>> decoder(maps).shape
    torch.Size([2, 3, 33, 20])
    """

    sees_all = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        upsample: Literal["nearest", "bilinear"] = "bilinear",
        widths: Sequence[int] | None = None,
        depth: Annotated[int, Bounds(ge=1)] = 2,
        norm: NormName = "batch",
        attention_width: Annotated[int, Bounds(ge=1)] = 64,
    ) -> None:
        super().__init__(in_channels, strides)
        skips = dict(zip(strides[:-1], in_channels, strict=False))
        self.build(num_classes, lambda channels: Interpolate(upsample), widths, depth, norm, skips)
        self.attention = PositionAttention(in_channels[-1], attention_width)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for a map at every stride."""
        return Wants()

    def make_step(
        self, up: nn.Module, channels: int, skip: int, width: int, depth: int, norm: NormName
    ) -> nn.Module:
        """Build a step; see `Climber.make_step`."""
        if skip:
            return _WeighedStep(up, channels, skip, width, depth, norm)
        return super().make_step(up, channels, skip, width, depth, norm)

    def take(self, maps: list[Tensor]) -> Tensor:
        """Take the coarsest map out of the list, after attention where it is the first."""
        first = len(maps) == len(self.in_channels)
        x = maps.pop()
        return self.attention(x) if first else x


class PositionAttention(nn.Module):
    """Add to each pixel what all pixels hold, by how well they match.

    Shape: `(N, channels, H, W)` to the same.

    Args:
        channels: of the map.
        width: channels in which pixels are compared.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, width, 1)
        self.key = nn.Conv2d(channels, width, 1)
        self.value = nn.Conv2d(channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map after attention."""
        query, key, value = (  # N 1 H*W C, of one head
            conv(x).flatten(2).mT.unsqueeze(1) for conv in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        attended: Tensor = self.out(x + seen.squeeze(1).mT.reshape(x.shape))
        return attended


class _WeighedStep(UpStep):
    """An `UpStep` that narrows the map from below, and weighs its channels by both maps."""

    def __init__(
        self, up: nn.Module, channels: int, skip: int, width: int, depth: int, norm: NormName
    ) -> None:
        narrow = ConvNormAct(channels, channels, norm=norm), ConvNormAct(channels, skip, 1, norm)
        super().__init__(up, [2 * skip] + [width] * depth, norm)
        self.narrow = nn.Sequential(*narrow)
        self.of_below = ChannelWeights(skip)
        self.of_skip = ChannelWeights(skip)

    def forward(
        self, x: Tensor, size: Size | None, skips: list[Tensor], indices: Tensor | None = None
    ) -> Tensor:
        """Upsample `x` and join the encoder's map; see `UpStep.forward`."""
        return super().forward(self.narrow(x), size, skips, indices)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the weighed map from below and the encoder's."""
        return torch.cat([x * (self.of_below(x) + self.of_skip(skip)), skip], dim=1)
