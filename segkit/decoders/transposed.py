"""A transposed convolution for each x2 step, from the coarsest map alone."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.blocks import NormName
from segkit.decoders.climber import Climber
from segkit.registry import register
from segkit.upsample import TransposedConv


@register("decoder", "transposed")
class TransposedDecoder(Climber):
    """Climb from the coarsest map by learned x2 upsampling, with convolutions after each step.

    Differs from `InterpolateDecoder` only in the upsampling, and starts out as its bilinear form.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; only the last map is read.
        kernel_size: kernel of the transposed convolutions, a multiple of 2.
        widths: channels of the steps to strides 1, 2, 4, ...; None halves them with each step.
        depth: number of convolutions after each step.
        norm: normalisation after each convolution.

    >>> import torch
    >>> decoder = TransposedDecoder(in_channels=[32], strides=[8], num_classes=3)
    >>> decoder([torch.rand(2, 32, 5, 6)], sizes=[(41, 49), (20, 24), (10, 12)]).shape
    torch.Size([2, 3, 41, 49])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        kernel_size: int = 4,
        widths: Sequence[int] | None = None,
        depth: int = 2,
        norm: NormName = "batch",
    ) -> None:
        super().__init__(in_channels, strides)
        self.build(num_classes, lambda c: TransposedConv(c, kernel_size), widths, depth, norm)
