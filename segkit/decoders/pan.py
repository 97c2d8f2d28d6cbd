"""Pyramid attention network: attention over the coarsest map, and channels weighed by it below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.channels_last import replicate
from segkit.decoders.context import Pooled
from segkit.decoders.head import ScoreHead
from segkit.decoders.pyramid import FINEST, PyramidDecoder
from segkit.features import Sizes, Tensors
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate

KERNELS = (7, 5, 3)  # of the three halvings


@register("decoder", "pan")
class PANDecoder(PyramidDecoder):
    """Weigh the coarsest map by a pyramid of itself, and finer maps by what comes from below.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; maps finer than `finest` are not
            read.
        finest: stride of the finest map that is added, from which the scores are interpolated.
        width: channels of all maps.
        norm: normalisation after each convolution, but of averages over the whole image.

    Source: Li et al. 2018, arXiv:1805.10180.

    >>> import torch
    >>> decoder = PANDecoder([16, 32, 64], [4, 8, 16], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    sees_all = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        finest: Annotated[int, Bounds(ge=1)] = FINEST,
        width: Annotated[int, Bounds(ge=1)] = 32,
        norm: NormName = "batch",
    ) -> None:
        super().__init__(in_channels, strides, finest)
        used, channels = self.used_strides, self.used_channels
        self.attention = PyramidAttention(channels[-1], width, norm)
        self.steps = nn.ModuleList(
            _Weighed(channels[k], width, used[k + 1] // used[k], norm)
            for k in reversed(range(len(used) - 1))
        )
        self.head = ScoreHead(width, num_classes, used[0])

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        x = self.attention(maps.pop())
        for step in self.steps:
            x = step(x, maps.pop())
        maps.clear()
        return self.head(x, sizes)


class PyramidAttention(nn.Module):
    """Multiply a map by one that convolutions of 7x7, 5x5 and 3x3 make of its halves.

    These have no norm: the smallest half may be one pixel, in which there is nothing to normalise.

    Shape: `(N, in_channels, H, W)` to `(N, out_channels, H, W)`. Pools round up, so that any size
        will do.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: NormName) -> None:
        super().__init__()
        self.pooled = Pooled(in_channels, out_channels, 1, norm)
        self.middle = ConvNormAct(in_channels, out_channels, 1, norm)
        widths = (in_channels, out_channels, out_channels)
        self.down = nn.ModuleList(
            ConvNormAct(width, out_channels, kernel, "none")
            for width, kernel in zip(widths, KERNELS, strict=True)
        )
        self.across = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, kernel, "none") for kernel in KERNELS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed map."""
        shapes, levels, small = [], [], x
        for kernel, down, across in zip(KERNELS, self.down, self.across, strict=True):
            shapes.append(small.shape[-2:])
            small = self._convolved(down, _halved(small), kernel // 2)
            levels.append(self._convolved(across, small, kernel // 2))
        weights = levels.pop()
        while levels:
            weights = _resized(weights, shapes.pop()) + levels.pop()
        weights = _resized(weights, shapes.pop())
        return self.middle(x) * weights + self.pooled(x)

    def _convolved(self, conv: nn.Module, x: Tensor, reach: int) -> Tensor:
        """Convolve a map by a kernel that reaches so many pixels beyond its centre.

        On a CPU in bf16, the gradient of its weights over fewer rows or columns than that would
        hold whatever lies in memory, so these are padded.
        """
        if not (self.training and torch.is_autocast_enabled("cpu")):
            return conv(x)
        height, width = x.shape[-2:]
        missing = (0, max(0, reach - width), 0, max(0, reach - height))
        return conv(F.pad(x, missing))[..., :height, :width]


class _Weighed(nn.Module):
    """Weigh the channels of a finer map by the average of a coarser one, and add that.

    A sigmoid bounds the weights; the paper has batch norm and ReLU, but an average over the whole
    image has nothing to normalise.
    """

    def __init__(self, in_channels: int, width: int, factor: int, norm: NormName) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, width, norm=norm)
        self.weigh = nn.Conv2d(width, width, 1)
        self.up = Interpolate("bilinear", factor)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        weights = self.weigh(coarse.mean((2, 3), keepdim=True)).sigmoid()
        return self.conv(fine) * weights + self.up(coarse, fine.shape[-2:])


def _halved(x: Tensor) -> Tensor:
    """Pool a map of any size, rounding up; with `ceil_mode`, a graph would keep its size."""
    height, width = x.shape[-2:]
    return F.max_pool2d(replicate(x, (0, width % 2, 0, height % 2)), 2)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
