"""U-Net: at every stride of the encoder, concatenate its map of the same resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from segkit.blocks import NormName, make_norm
from segkit.decoders.step import UpStep, step_widths
from segkit.errors import UserError
from segkit.features import Size, Wants, check_maps, check_strides, size_at, strides_above
from segkit.upsample import make_upsampler


class UNetDecoder(nn.Module):
    """Climb from the coarsest map, joining the finer ones by concatenation.

    A stride that has no map (the finest strides of most backbones) is climbed without a skip, so
    the logits are at stride 1 whatever the finest map.

    Args:
        in_channels: channels of the maps, finest first.
        strides: their strides.
        num_classes: channels of the logits.
        upsample: how each x2 step climbs. Max-unpooling is not among the choices: its indices
            belong to maps of the encoder's channels, which the climb has left behind.
        widths: channels at strides 1, 2, 4, ...; None halves them with each step.
        depth: convolutions after each step.
        norm: of the convolutions.
        normalize_maps: normalise each map before it joins. An encoder with norm layers needs none;
            a pretrained one without, such as plain VGG, has maps that differ a hundredfold in
            scale, and the largest would drown the rest.

    Shape: maps `(N, in_channels[i], H / strides[i], W / strides[i])` to `(N, num_classes, H, W)`.

    Raises:
        UserError: channels, strides or widths that do not fit together, or max-unpooling.

    Source: Ronneberger et al. 2015, with convolutions that keep the size.

    >>> import torch
    >>> decoder = UNetDecoder(in_channels=[8, 16, 32], strides=[1, 2, 4], num_classes=3)
    >>> maps = [torch.rand(2, 8, 33, 20), torch.rand(2, 16, 16, 10), torch.rand(2, 32, 8, 5)]
    >>> decoder(maps).shape
    torch.Size([2, 3, 33, 20])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        upsample: Literal[
            "nearest", "bilinear", "bicubic", "bed_of_nails", "transposed"
        ] = "bilinear",
        widths: Sequence[int] | None = None,
        depth: int = 2,
        norm: NormName = "batch",
        normalize_maps: bool = False,
    ) -> None:
        super().__init__()
        check_strides(in_channels, strides)
        if upsample == "max_unpool":
            raise UserError(
                "U-Net cannot climb by max_unpool: pool indices fit maps of the encoder's channels "
                "alone; choose bilinear, or the unpool decoder"
            )
        if normalize_maps and norm == "none":
            raise UserError("normalize_maps=True needs norm='batch' or 'group', but norm is 'none'")
        self.in_channels = tuple(in_channels)
        self.map_norms = nn.ModuleList(
            make_norm(norm, channels) if normalize_maps else nn.Identity()
            for channels in in_channels
        )
        self.strides = strides_above(strides[-1])
        self.skip_at = {stride: i for i, stride in enumerate(strides[:-1])}  # stride -> map
        self.steps = nn.ModuleList()
        channels = in_channels[-1]
        step_channels = step_widths(channels, len(self.strides), widths)
        for stride, width in zip(self.strides, step_channels, strict=True):
            joined = in_channels[self.skip_at[stride]] if stride in self.skip_at else 0
            up = make_upsampler(upsample, channels)
            self.steps.append(UpStep(up, [channels + joined] + [width] * depth, norm))
            channels = width
        self.head = nn.Conv2d(channels, num_classes, 1)

    @staticmethod
    def wants(**options: object) -> Wants:
        """Ask a VGG encoder for its last map at each stride, before the pool."""
        return Wants(("conv1", "conv2", "conv3", "conv4", "conv5"))

    def forward(
        self,
        maps: Sequence[Tensor],
        sizes: Sequence[Size] | None = None,
        indices: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Turn maps into logits at stride 1."""
        check_maps(maps, self.in_channels, self)
        maps = [norm(m) for norm, m in zip(self.map_norms, maps, strict=True)]
        x = maps[-1]  # N C H/16 W/16 for conv5
        for stride, step in zip(self.strides, self.steps, strict=True):
            if stride in self.skip_at:
                x = step(x, skip=maps[self.skip_at[stride]])  # N width 2H' 2W'
            else:
                x = step(x, size_at(stride, sizes))
        return self.head(x)  # N num_classes H W
