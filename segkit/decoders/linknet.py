"""LinkNet: climb as U-Net does, but add the encoder's maps instead of concatenating them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName, make_norm
from segkit.decoders.base import Decoder
from segkit.features import Size, Sizes, Tensors, size_at, strides_above
from segkit.registry import Bounds, register
from segkit.upsample import make_upsampler


@register("decoder", "linknet")
class LinkNetDecoder(Decoder):
    """Climb in narrow x2 steps, adding the encoder's map at each stride that has one.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`.
        upsample: upsampling of each step; `transposed` as published.
        width: channels at strides that have no map.
        norm: normalisation after each convolution.

    Source: Chaurasia and Culurciello 2017, arXiv:1707.03718.

    >>> import torch
    >>> decoder = LinkNetDecoder([16, 32, 64], [4, 8, 16], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        upsample: Literal["nearest", "bilinear", "transposed"] = "transposed",
        width: Annotated[int, Bounds(ge=1)] = 32,
        norm: NormName = "batch",
    ) -> None:
        super().__init__(in_channels, strides)
        self.step_strides = strides_above(strides[-1])
        self.skips = dict(zip(strides[:-1], in_channels, strict=False))
        channels = in_channels[-1]
        self.steps = nn.ModuleList()
        for stride in self.step_strides:
            out = self.skips.get(stride, width)
            self.steps.append(_Step(channels, out, upsample, norm))
            channels = out
        self.head = nn.Conv2d(channels, num_classes, 1)

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        x = maps.pop()
        for stride, step in zip(self.step_strides, self.steps, strict=True):
            if stride in self.skips:
                skip = maps.pop()
                x = step(x, skip.shape[-2:]) + skip
            else:
                x = step(x, size_at(stride, sizes))
        return self.head(x)


class _Step(nn.Module):
    """Narrow the map to a quarter of its channels, double it, and widen it again."""

    def __init__(self, in_channels: int, out_channels: int, upsample: str, norm: NormName) -> None:
        super().__init__()
        narrow = max(1, in_channels // 4)
        self.narrow = ConvNormAct(in_channels, narrow, 1, norm)
        self.up = make_upsampler(upsample, narrow)
        self.after: nn.Module = nn.Identity()
        if upsample == "transposed":  # interpolation has nothing to normalise
            self.after = nn.Sequential(make_norm(norm, narrow), nn.ReLU(inplace=True))
        self.widen = ConvNormAct(narrow, out_channels, 1, norm)

    def forward(self, x: Tensor, size: Size | None) -> Tensor:
        return self.widen(self.after(self.up(self.narrow(x), size)))
