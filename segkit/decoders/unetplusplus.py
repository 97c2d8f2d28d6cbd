"""U-Net++: a U-Net of every depth at once, each fed by those that are less deep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from segkit.blocks import NormName, conv_chain
from segkit.decoders.base import Decoder
from segkit.decoders.climber import step_widths
from segkit.errors import UserError
from segkit.features import Sizes, Tensors, size_at, strides_above
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate


@register("decoder", "unetplusplus")
class UNetPlusPlusDecoder(Decoder):
    """Fill the gap between the encoder and U-Net's steps with nodes that join their neighbours.

    The node of a level joins all earlier ones of that level with the one below it. Strides finer
    than the finest map are reached without a skip, as in U-Net.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`.
        widths: channels at strides 1, 2, 4, ... above the coarsest map; None halves them with each
            step, but not below 16.
        depth: number of convolutions in each node.
        norm: normalisation after each convolution.

    Source: Zhou et al. 2018, arXiv:1807.10165, without deep supervision.

    >>> import torch
    >>> decoder = UNetPlusPlusDecoder([8, 16], [1, 2], num_classes=3)
    >>> decoder([torch.rand(2, 8, 33, 20), torch.rand(2, 16, 16, 10)]).shape
    torch.Size([2, 3, 33, 20])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        widths: Sequence[int] | None = None,
        depth: Annotated[int, Bounds(ge=1)] = 2,
        norm: NormName = "batch",
    ) -> None:
        super().__init__(in_channels, strides)
        if depth < 1:
            raise UserError(f"depth={depth} must be 1 or more")
        at = step_widths(widths, in_channels[-1], strides_above(strides[-1]))
        self.levels = levels = len(strides) - 1  # that have nodes
        self.ups = nn.ModuleList(Interpolate("bilinear", b // a) for a, b in pairwise(strides))
        self.nodes = nn.ModuleDict()  # by level, finest first, and by number in the level
        for level in range(levels):
            width = at[strides[level]]
            for number in range(levels - level):
                below = in_channels[level + 1] if number == 0 else at[strides[level + 1]]
                joined = in_channels[level] + number * width + below
                self.nodes[f"{level}_{number}"] = conv_chain([joined] + [width] * depth, norm)
        channels = at[strides[0]] if levels else in_channels[-1]
        self.last_strides = strides_above(strides[0])
        self.last_steps = nn.ModuleList()
        for stride in self.last_strides:
            self.last_steps.append(conv_chain([channels] + [at[stride]] * depth, norm))
            channels = at[stride]
        self.last_up = Interpolate("bilinear")
        self.head = nn.Conv2d(channels, num_classes, 1)

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        rows = [[x] for x in maps]  # nodes so far of each level, finest first
        maps.clear()
        for number in range(self.levels):
            for level in range(self.levels - number):
                here, below = rows[level], rows[level + 1][number]
                up = self.ups[level](below, here[0].shape[-2:])
                here.append(self.nodes[f"{level}_{number}"](torch.cat([*here, up], dim=1)))
        x = rows[0][-1]
        for stride, convs in zip(self.last_strides, self.last_steps, strict=True):
            x = convs(self.last_up(x, size_at(stride, sizes)))
        return self.head(x)
