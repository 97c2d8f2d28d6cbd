"""The learned climber: a transposed convolution for each x2 step, from the coarsest map alone."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.blocks import NormName
from segkit.decoders.climber import Climber
from segkit.upsample import TransposedConv


class TransposedDecoder(Climber):
    """Climb from the coarsest map by learned x2 upsampling, with convolutions after each step.

    Differs from `InterpolateDecoder` in the upsampling alone, and starts out as its bilinear form.

    Args:
        in_channels: channels of the maps, finest first; only the last map is read.
        strides: their strides.
        num_classes: channels of the logits.
        kernel_size: of the transposed convolutions, a multiple of 2.
        widths: channels at strides 1, 2, 4, ...; None halves them with each step.
        depth: convolutions after each step.
        norm: of the convolutions.

    Shape: maps `(N, in_channels[i], H / strides[i], W / strides[i])` to `(N, num_classes, H, W)`.

    Raises:
        UserError: channels, strides, widths or kernel that do not fit together.

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
        def make_up(channels: int) -> TransposedConv:
            return TransposedConv(channels, kernel_size)

        super().__init__(in_channels, strides, num_classes, make_up, widths, depth, norm)
