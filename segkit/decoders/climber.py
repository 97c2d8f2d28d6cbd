"""What the decoders that climb in x2 steps share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
            x = self.join(x, skips.pop())
        return self.convs(x)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join the upsampled map and the encoder's."""
        return torch.cat([x, skip], dim=1)


def step_widths(
    widths: Sequence[int] | None, channels: int, strides: Sequence[int]
) -> dict[int, int]:
    """Return the channels of the step to each stride above the coarsest map.

    Args:
        widths: for strides 1, 2, 4, ...; None halves the channels with each step, but not below 16.
        channels: of the coarsest map.
        strides: of the steps, in any order.

    Raises:
        UserError: not one positive number a step.
    """
    steps = sorted(strides)
    if widths is None:
        widths = [max(16, channels >> step) for step in range(len(steps), 0, -1)]
    if len(widths) != len(steps) or min(widths, default=1) < 1:
        raise UserError(
            f"widths={list(widths)} must hold one positive number for each of the {len(steps)} "
            f"strides {steps}"
        )
    return dict(zip(steps, widths, strict=True))


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
            widths: channels of the steps, see `step_widths`.
            depth: number of convolutions after each step.
            norm: normalisation after each convolution.
            skips: channels of the maps to concatenate, by stride, finest first.
        """
        channels = self.in_channels[-1]
        self.step_strides = strides_above(self.strides[-1])
        self.skips = dict(skips or {})
        at = step_widths(widths, channels, self.step_strides)
        self.steps = nn.ModuleList()
        for stride in self.step_strides:
            shape = channels, self.skips.get(stride, 0), at[stride]
            self.steps.append(self.make_step(make_up(channels), *shape, depth, norm))
            channels = at[stride]
        self.head = nn.Conv2d(channels, num_classes, 1)

    def make_step(
        self, up: nn.Module, channels: int, skip: int, width: int, depth: int, norm: NormName
    ) -> nn.Module:
        """Build a step.

        Args:
            up: upsampler of the map from below.
            channels: of that map.
            skip: channels of the encoder's map, 0 without one.
            width: channels of the result.
            depth: number of convolutions.
            norm: normalisation after each.
        """
        return UpStep(up, [channels + skip] + [width] * depth, norm)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the coarsest map the encoder has."""
        return Wants(place="after_pool", coarsest=True)

    def take(self, maps: list[Tensor]) -> Tensor:
        """Take the coarsest map out of the list."""
        return maps.pop()

    def decode(
        self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None
    ) -> Tensor | dict[str, Tensor]:
        """Return the logits; see `Decoder.forward`."""
        for x in self.climb(maps, sizes):  # noqa: B007, the last one counts
            pass
        return self.head(x)  # N num_classes H W

    def climb(self, maps: list[Tensor], sizes: Sizes | None) -> Iterator[Tensor]:
        """Yield the coarsest map, and the result of each step."""
        x = self.take(maps)  # N C H/32 W/32 on VGG
        yield x
        for stride, step in zip(self.step_strides, self.steps, strict=True):
            skips = [self.take(maps)] if stride in self.skips else []
            size = skips[0].shape[-2:] if skips else size_at(stride, sizes)
            x = step(x, size, skips)  # N width 2H' 2W'
            yield x
