"""Fixed interpolation between convolutions, from the coarsest map alone."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.blocks import NormName
from segkit.decoders.climber import Climber
from segkit.registry import register
from segkit.upsample import Interpolate, InterpolationMode


@register("decoder", "interpolate")
class InterpolateDecoder(Climber):
    """Climb from the coarsest map by interpolation, with convolutions after each x2 step.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; only the last map is read.
        mode: interpolation of each x2 step.
        widths: channels of the steps to strides 1, 2, 4, ...; None halves them with each step.
        depth: number of convolutions after each step.
        norm: normalisation after each convolution.

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
        super().__init__(in_channels, strides)
        self.build(num_classes, lambda channels: Interpolate(mode), widths, depth, norm)
