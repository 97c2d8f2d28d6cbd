"""What the decoders that climb in x2 steps share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segkit.blocks import NormName, conv_chain
from segkit.decoders.base import Decoder
from segkit.errors import UserError
from segkit.features import Size, Sizes, Tensors, Wants, size_at, strides_above


class UpStep(nn.Module):
    """Upsample by two, concatenate the encoder's map of that resolution if there is one, convolve.

    Args:
        up: upsampler that keeps the number of channels.
        widths: channels through the convolutions; `widths[0]` includes those of the skip.
        norm: normalisation after each convolution.
    """

    def __init__(self, up: nn.Module, widths: Sequence[int], norm: NormName) -> None:
        super().__init__()
        if len(widths) < 2:
            raise UserError("depth=0 leaves a step without a convolution; use a depth of 1 or more")
        self.up = up
        self.convs = conv_chain(widths, norm)

    def forward(
        self, x: Tensor, size: Size | None, skips: list[Tensor], indices: Tensor | None = None
    ) -> Tensor:
        """Upsample `x` to `size`, or by exactly two for None.

        The list `skips` holds one map or none, and is emptied: the convolutions need the most
        memory, and the map is freed before them.
        """
        x = self.up(x, size, indices)
        if skips:
            x = torch.cat([x, skips.pop()], dim=1)
        return self.convs(x)


class Climber(Decoder):
    """Climb from the coarsest map to full resolution, with convolutions after each x2 step."""

    def build(
        self,
        num_classes: int,
        make_up: Callable[[int], nn.Module],
        widths: Sequence[int] | None,
        depth: int,
        norm: NormName,
        skips: Mapping[int, int] | None = None,
    ) -> None:
        """Build the steps and the head.

        Args:
            num_classes: channels of the logits.
            make_up: builds the upsampler of a step, given its number of channels.
            widths: channels of the steps to strides 1, 2, 4, ...; None halves them with each step,
                but not below 16.
            depth: number of convolutions after each step.
            norm: normalisation after each convolution.
            skips: channels of the maps to concatenate, by stride, finest first.
        """
        channels = self.in_channels[-1]
        self.step_strides = strides_above(self.strides[-1])
        self.skips = dict(skips or {})
        steps = len(self.step_strides)
        if widths is None:
            widths = [max(16, channels >> step) for step in range(steps, 0, -1)]
        if len(widths) != steps or min(widths, default=1) < 1:
            raise UserError(
                f"widths={list(widths)} must hold one positive number for each of the {steps} "
                f"strides {self.step_strides[::-1]}"
            )
        self.steps = nn.ModuleList()
        for stride, width in zip(self.step_strides, reversed(widths), strict=True):
            up, joined = make_up(channels), channels + self.skips.get(stride, 0)
            self.steps.append(UpStep(up, [joined] + [width] * depth, norm))
            channels = width
        self.head = nn.Conv2d(channels, num_classes, 1)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the coarsest map the encoder has."""
        return Wants(place="after_pool", coarsest=True)

    def take(self, maps: list[Tensor]) -> Tensor:
        """Take the coarsest map out of the list."""
        return maps.pop()

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        x = self.take(maps)  # N C H/32 W/32 on VGG
        for stride, step in zip(self.step_strides, self.steps, strict=True):
            skips = [self.take(maps)] if stride in self.skips else []
            size = skips[0].shape[-2:] if skips else size_at(stride, sizes)
            x = step(x, size, skips)  # N width 2H' 2W'
        return self.head(x)  # N num_classes H W
