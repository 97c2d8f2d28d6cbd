"""PSPNet: one map, with averages over the whole image and over parts of it beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from torch import Tensor, nn

from segkit.blocks import NormName
from segkit.decoders.base import Decoder
from segkit.decoders.context import PyramidPooling
from segkit.decoders.head import ScoreHead
from segkit.features import Sizes, Tensors, Wants
from segkit.registry import Bounds, register


@register("decoder", "pspnet")
class PSPNetDecoder(Decoder):
    """Put pooled context beside the coarsest map, and score it.

    The published network has a map of stride 8; a dilated encoder gives one (`dilate: 8`).

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; only the last map is read.
        width: channels of the joined map.
        bins: cells along a side of each grid of averages.
        norm: normalisation after each convolution, but of averages over the whole image.
        dropout: probability with which channels are dropped before they are scored.

    Source: Zhao et al. 2017, arXiv:1612.01105.

    >>> import torch
    >>> PSPNetDecoder([32], [8], num_classes=3)([torch.rand(2, 32, 6, 4)]).shape
    torch.Size([2, 3, 48, 32])
    """

    sees_all = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        width: Annotated[int, Bounds(ge=1)] = 512,
        bins: Sequence[int] = (1, 2, 3, 6),
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__(in_channels, strides)
        self.pooling = PyramidPooling(in_channels[-1], width, bins, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.head = ScoreHead(width, num_classes, strides[-1])

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the coarsest map alone."""
        return Wants(coarsest=True)

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        return self.head(self.dropout(self.pooling(maps.pop())), sizes)
