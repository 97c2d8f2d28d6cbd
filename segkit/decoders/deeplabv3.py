"""DeepLabV3 and V3+: dilated convolutions of several rates, without and with a finer map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from segkit.blocks import ConvNormAct, NormName, conv_chain
from segkit.decoders.base import Decoder
from segkit.decoders.context import AtrousPooling
from segkit.decoders.head import ScoreHead
from segkit.decoders.pyramid import FINEST, PyramidDecoder
from segkit.errors import UserError
from segkit.features import Sizes, Tensors, Wants
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate

REACH = 96  # pixels of the smallest rate: 6 cells at stride 16, 12 at stride 8


def _rates(rates: Sequence[int] | None, stride: int) -> list[int]:
    if rates is None:
        return [factor * max(1, REACH // stride) for factor in (1, 2, 3)]
    return list(rates)


@register("decoder", "deeplabv3")
class DeepLabV3Decoder(Decoder):
    """Look around in the coarsest map by dilated convolutions of several rates, and score it.

    The published networks have a map of stride 16 or 8; a dilated encoder gives one (`dilate`).

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; only the last map is read.
        width: channels of each branch.
        rates: of dilation; None is 6, 12 and 18 at stride 16, and as many pixels elsewhere.
        norm: normalisation after each convolution, but of averages over the whole image.
        dropout: probability with which values are dropped after the branches are joined.

    Source: Chen et al. 2017, arXiv:1706.05587.

    >>> import torch
    >>> DeepLabV3Decoder([32], [16], num_classes=3)([torch.rand(2, 32, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    sees_all = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        width: Annotated[int, Bounds(ge=1)] = 256,
        rates: Sequence[int] | None = None,
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(in_channels, strides)
        rates = _rates(rates, strides[-1])
        self.pooling = AtrousPooling(in_channels[-1], width, rates, norm, dropout)
        self.conv = ConvNormAct(width, width, norm=norm)
        self.head = ScoreHead(width, num_classes, strides[-1])

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the coarsest map alone."""
        return Wants(coarsest=True)

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        return self.head(self.conv(self.pooling(maps.pop())), sizes)


@register("decoder", "deeplabv3plus")
class DeepLabV3PlusDecoder(PyramidDecoder):
    """DeepLabV3, whose result climbs to a finer map and is joined with it before it is scored.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; the map of stride `finest` and
            the last one are read.
        finest: stride of the finer map.
        width: channels of each branch, and of the convolutions at the end.
        skip_width: channels that the finer map is narrowed to.
        rates: of dilation; None is 6, 12 and 18 at stride 16, and as many pixels elsewhere.
        norm: normalisation after each convolution, but of averages over the whole image.
        dropout: probability with which values are dropped after the branches are joined.

    Source: Chen et al. 2018, arXiv:1802.02611, with plain convolutions.

    >>> import torch
    >>> decoder = DeepLabV3PlusDecoder([16, 64], [4, 16], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    sees_all = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        finest: Annotated[int, Bounds(ge=1)] = FINEST,
        width: Annotated[int, Bounds(ge=1)] = 256,
        skip_width: Annotated[int, Bounds(ge=1)] = 48,
        rates: Sequence[int] | None = None,
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(in_channels, strides, finest)
        if len(strides) < 2:
            raise UserError(
                f"DeepLabV3+ joins two maps, but strides={list(strides)}; use deeplabv3 for one"
            )
        self.finer = min(self.skipped, len(strides) - 2)
        stride = strides[self.finer]
        rates = _rates(rates, strides[-1])
        self.pooling = AtrousPooling(in_channels[-1], width, rates, norm, dropout)
        self.up = Interpolate("bilinear", strides[-1] // stride)
        self.narrow = ConvNormAct(in_channels[self.finer], skip_width, 1, norm)
        self.convs = conv_chain([width + skip_width, width, width], norm)
        self.head = ScoreHead(width, num_classes, stride)

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        x = self.pooling(maps.pop())
        skip = self.narrow(maps[self.finer])
        maps.clear()
        x = torch.cat([self.up(x, skip.shape[-2:]), skip], dim=1)
        return self.head(self.convs(x), sizes)
