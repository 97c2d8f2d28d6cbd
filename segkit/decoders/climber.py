"""What the skip-less decoders share: a climb from the coarsest map, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from segkit.blocks import NormName
from segkit.decoders.step import UpStep, step_widths
from segkit.features import Size, Wants, check_maps, check_strides, size_at, strides_above


class Climber(nn.Module):
    """Climb from the coarsest map to full resolution, with convolutions after each x2 step.

    Args:
        in_channels: channels of the maps, finest first; only the last map is read.
        strides: their strides.
        num_classes: channels of the logits.
        make_up: builds the upsampler of a step from its channels.
        widths: channels at strides 1, 2, 4, ...; None halves them with each step.
        depth: convolutions after each step.
        norm: of the convolutions.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        make_up: Callable[[int], nn.Module],
        widths: Sequence[int] | None,
        depth: int,
        norm: NormName,
    ) -> None:
        super().__init__()
        check_strides(in_channels, strides)
        self.in_channels = tuple(in_channels)
        self.strides = strides_above(strides[-1])
        self.steps = nn.ModuleList()
        channels = in_channels[-1]
        for width in step_widths(channels, len(self.strides), widths):
            self.steps.append(UpStep(make_up(channels), [channels] + [width] * depth, norm))
            channels = width
        self.head = nn.Conv2d(channels, num_classes, 1)

    @staticmethod
    def wants(**options: object) -> Wants:
        """Ask a VGG encoder for its last map."""
        return Wants(("pool5",))

    def forward(
        self,
        maps: Sequence[Tensor],
        sizes: Sequence[Size] | None = None,
        indices: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Turn maps into logits at stride 1."""
        check_maps(maps, self.in_channels, self)
        x = maps[-1]  # N C H/32 W/32 for pool5
        for stride, step in zip(self.strides, self.steps, strict=True):
            x = step(x, size_at(stride, sizes))  # N width 2H' 2W'
        return self.head(x)  # N num_classes H W
