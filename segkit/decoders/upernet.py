"""UPerNet: pooled context flows down a feature pyramid, whose maps are all joined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.decoders.context import PyramidPooling
from segkit.decoders.head import ScoreHead
from segkit.decoders.pyramid import FINEST, JoinAtFinest, PyramidDecoder
from segkit.features import Sizes, Tensors
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate


@register("decoder", "upernet")
class UPerNetDecoder(PyramidDecoder):
    """Pool the coarsest map, add it downwards to the finer ones, and join all at the finest.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; maps finer than `finest` are not
            read.
        finest: stride that the maps are joined at, from which the scores are interpolated.
        width: channels of all maps.
        bins: cells along a side of each grid of averages.
        norm: normalisation after each convolution, but of averages over the whole image.
        dropout: probability with which channels are dropped before they are scored.

    Source: Xiao et al. 2018, arXiv:1807.10221.

    >>> import torch
    >>> decoder = UPerNetDecoder([16, 32, 64], [4, 8, 16], num_classes=3, width=32)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
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
        bins: Sequence[int] = (1, 2, 3, 6),
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__(in_channels, strides, finest)
        used, channels = self.used_strides, self.used_channels
        self.pooling = PyramidPooling(channels[-1], width, bins, norm)
        self.laterals = nn.ModuleList(ConvNormAct(each, width, 1, norm) for each in channels[:-1])
        self.ups = nn.ModuleList(Interpolate("bilinear", b // a) for a, b in pairwise(used))
        self.convs = nn.ModuleList(ConvNormAct(width, width, norm=norm) for _ in channels[:-1])
        self.join = JoinAtFinest(width, used, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.head = ScoreHead(width, num_classes, used[0])

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        del maps[: self.skipped]
        x = self.pooling(maps.pop())
        found = [x]
        levels = list(zip(self.laterals, self.ups, self.convs, strict=True))
        for lateral, up, conv in reversed(levels):
            fine = lateral(maps.pop())
            x = fine + up(x, fine.shape[-2:])
            found.append(conv(x))
        return self.head(self.dropout(self.join(found[::-1])), sizes)
