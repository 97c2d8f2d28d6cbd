"""The pure climber: fixed interpolation between convolutions, from the coarsest map alone."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.blocks import NormName
from segkit.decoders.climber import Climber
from segkit.upsample import Interpolate, InterpolationMode


class InterpolateDecoder(Climber):
    """Climb from the coarsest map by interpolation, with convolutions after each x2 step.

    Args:
        in_channels: channels of the maps, finest first; only the last map is read.
        strides: their strides.
        num_classes: channels of the logits.
        mode: nearest, bilinear or bicubic.
        widths: channels at strides 1, 2, 4, ...; None halves them with each step.
        depth: convolutions after each step.
        norm: of the convolutions.

    Shape: maps `(N, in_channels[i], H / strides[i], W / strides[i])` to `(N, num_classes, H, W)`.

    Raises:
        UserError: channels, strides or widths that do not fit together.

    >>> import torch
    >>> decoder = InterpolateDecoder(in_channels=[32], strides=[8], num_classes=3)
    >>> decoder([torch.rand(2, 32, 5, 6)]).shape
    torch.Size([2, 3, 40, 48])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        mode: InterpolationMode = "bilinear",
        widths: Sequence[int] | None = None,
        depth: int = 2,
        norm: NormName = "batch",
    ) -> None:
        def make_up(channels: int) -> Interpolate:
            return Interpolate(mode)

        super().__init__(in_channels, strides, num_classes, make_up, widths, depth, norm)
