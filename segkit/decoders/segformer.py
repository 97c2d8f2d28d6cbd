"""SegFormer's head: bring all maps to one width and one size, and join them, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from segkit.blocks import NormName
from segkit.decoders.head import ScoreHead
from segkit.decoders.pyramid import FINEST, JoinAtFinest, PyramidDecoder
from segkit.features import Sizes, Tensors
from segkit.registry import Bounds, register


@register("decoder", "segformer")
class SegFormerDecoder(PyramidDecoder):
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
        finest: Annotated[int, Bounds(ge=1)] = FINEST,
        width: Annotated[int, Bounds(ge=1)] = 256,
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__(in_channels, strides, finest)
        self.linears = nn.ModuleList(nn.Conv2d(each, width, 1) for each in self.used_channels)
        self.join = JoinAtFinest(width, self.used_strides, 1, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.head = ScoreHead(width, num_classes, self.used_strides[0])

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        del maps[: self.skipped]
        linear = [layer(x) for layer, x in zip(self.linears, maps, strict=True)]
        maps.clear()
        return self.head(self.dropout(self.join(linear)), sizes)
