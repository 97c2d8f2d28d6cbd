"""Feature pyramid: the coarse maps flow down into the fine ones, and all are summed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.decoders.head import ScoreHead
from segkit.decoders.pyramid import FINEST, PyramidDecoder
from segkit.features import Size, Sizes, Tensors, crop_or_pad
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate


class TopDown(nn.Module):
    """Bring maps to one width, and add each coarser one to the next finer one.

    Args:
        in_channels: of the maps, finest first, at neighbouring strides or further apart.
        strides: of the maps.
        width: channels of the results.

    Source: Lin et al. 2017, arXiv:1612.03144.
    """

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(each, width, 1) for each in in_channels)
        factors = [b // a for a, b in pairwise(strides)]
        self.ups = nn.ModuleList(Interpolate("nearest", factor) for factor in factors)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Take the maps out of the list, and return as many, finest first."""
        found = [self.laterals[-1](maps.pop())]
        for lateral, up in zip(reversed(self.laterals[:-1]), reversed(self.ups), strict=True):
            fine = lateral(maps.pop())
            found.append(fine + up(found[-1], fine.shape[-2:]))
        return found[::-1]


@register("decoder", "fpn")
class FPNDecoder(PyramidDecoder):
    """Add the coarse maps to the fine ones, climb from each to the finest, and sum them up.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; maps finer than `finest` are not
            read.
        finest: stride that the maps are summed at, from which the scores are interpolated.
        pyramid_width: channels of the pyramid.
        width: channels of each map on its way to the sum.
        norm: normalisation after each convolution of that way.
        dropout: probability with which channels of the sum are dropped.

    Source: Kirillov et al. 2019, arXiv:1901.02446, the semantic branch.

    >>> import torch
    >>> decoder = FPNDecoder([16, 32, 64], [4, 8, 16], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        finest: Annotated[int, Bounds(ge=1)] = FINEST,
        pyramid_width: Annotated[int, Bounds(ge=1)] = 256,
        width: Annotated[int, Bounds(ge=1)] = 128,
        norm: NormName = "group",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.2,
    ) -> None:
        super().__init__(in_channels, strides, finest)
        used = self.used_strides
        self.top_down = TopDown(self.used_channels, used, pyramid_width)
        self.ways = nn.ModuleList(_Way(s // used[0], pyramid_width, width, norm) for s in used)
        self.dropout = nn.Dropout2d(dropout)
        self.head = ScoreHead(width, num_classes, used[0])

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        del maps[: self.skipped]
        pyramid = self.top_down(maps)
        size = pyramid[0].shape[-2], pyramid[0].shape[-1]
        climbed = [way(x, size) for way, x in zip(self.ways, pyramid, strict=True)]
        return self.head(self.dropout(sum(climbed[1:], climbed[0])), sizes)


class _Way(nn.Module):
    """Convolve and double until a map is as large as the finest one."""

    def __init__(self, factor: int, in_channels: int, width: int, norm: NormName) -> None:
        super().__init__()
        self.doublings = factor.bit_length() - 1
        widths = [in_channels] + [width] * max(1, self.doublings)
        self.convs = nn.ModuleList(ConvNormAct(a, b, norm=norm) for a, b in pairwise(widths))
        self.up = Interpolate("bilinear")

    def forward(self, x: Tensor, size: Size) -> Tensor:
        for conv in self.convs:
            x = conv(x)
            x = self.up(x) if self.doublings else x
        return crop_or_pad(x, size, "replicate")  # what was dropped before each pool on the way
