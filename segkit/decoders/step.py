"""One x2 step of a climb: go up, join a skip, convolve. Decoders differ in what they put here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segkit.blocks import NormName, conv_chain
from segkit.errors import UserError
from segkit.features import Size


class UpStep(nn.Module):
    """Upsample by two, concatenate the encoder's map of that resolution if there is one, convolve.

    Args:
        up: an upsampler that keeps the channels.
        widths: channels through the convolutions; `widths[0]` counts the skip's channels too.
        norm: of the convolutions.

    Shape: `(N, C, H, W)` to `(N, widths[-1], *size)`.

    Raises:
        UserError: no convolution.
    """

    def __init__(self, up: nn.Module, widths: Sequence[int], norm: NormName) -> None:
        super().__init__()
        if len(widths) < 2:
            raise UserError("depth=0 leaves a step without a convolution; use a depth of 1 or more")
        self.up = up
        self.convs = conv_chain(widths, norm)

    def forward(
        self,
        x: Tensor,
        size: Size | None = None,
        skip: Tensor | None = None,
        indices: Tensor | None = None,
    ) -> Tensor:
        """Climb from `x` to the skip's resolution, to `size`, or by exactly two."""
        if skip is not None:
            x = self.up(x, skip.shape[-2:], indices)
            x = torch.cat([x, skip], dim=1)
        else:
            x = self.up(x, size, indices)
        return self.convs(x)


def step_widths(in_channels: int, steps: int, widths: Sequence[int] | None) -> list[int]:
    """Give the output channels of each step, in climbing order.

    Args:
        in_channels: of the map the climb starts from.
        steps: number of x2 steps.
        widths: channels at strides 1, 2, 4, ..., finest first as everywhere; None halves them
            with each step, down to 16 at the least.

    Raises:
        UserError: not one width a step.

    >>> step_widths(512, 4, None)
    [256, 128, 64, 32]
    """
    if widths is None:
        return [max(16, in_channels >> step) for step in range(1, steps + 1)]
    if len(widths) != steps or min(widths, default=1) < 1:
        raise UserError(
            f"widths={list(widths)} must hold one positive number for each of the {steps} strides "
            f"{[2**k for k in range(steps)]}"
        )
    return list(reversed(widths))
