"""SegFormer's head: bring all maps to one width and one size, and join them, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.decoders.base import Decoder
from segkit.decoders.head import ScoreHead
from segkit.features import Sizes, Tensors, Wants
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate


@register("decoder", "segformer")
class SegFormerDecoder(Decoder):
    """Join all maps by layers that look at one pixel alone.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; maps finer than `finest` are not
            read.
        finest: stride that the maps are joined at, from which the scores are interpolated.
        width: channels of all maps.
        norm: normalisation after the maps are joined.
        dropout: probability with which channels are dropped before they are scored.

    Source: Xie et al. 2021, arXiv:2105.15203.

    >>> import torch
    >>> decoder = SegFormerDecoder([16, 32, 64], [4, 8, 16], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        finest: Annotated[int, Bounds(ge=1)] = 4,
        width: Annotated[int, Bounds(ge=1)] = 256,
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__(in_channels, strides)
        self.skipped = self.count_finer(finest)
        used, channels = strides[self.skipped :], in_channels[self.skipped :]
        self.linears = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.ups = nn.ModuleList(Interpolate("bilinear", stride // used[0]) for stride in used[1:])
        self.join = ConvNormAct(width * len(used), width, 1, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.head = ScoreHead(width, num_classes, used[0])

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the maps from `finest` on."""
        return Wants(finest=options.get("finest", 4))

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        del maps[: self.skipped]
        finest, *coarser = [linear(maps[number]) for number, linear in enumerate(self.linears)]
        maps.clear()
        grown = [up(x, finest.shape[-2:]) for up, x in zip(self.ups, coarser, strict=True)]
        x = self.join(torch.cat([finest, *grown], dim=1))
        return self.head(self.dropout(x), sizes)
