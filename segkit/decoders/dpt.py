"""DPT: convolutions in residual units fuse the maps of a vision transformer, coarsest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName, make_norm
from segkit.decoders.head import ScoreHead
from segkit.decoders.pyramid import FINEST, PyramidDecoder
from segkit.features import Size, Sizes, Tensors, size_at
from segkit.registry import Bounds, register
from segkit.upsample import Interpolate


@register("decoder", "dpt")
class DPTDecoder(PyramidDecoder):
    """Bring the maps to one width, and fuse each with what has climbed from the coarser ones.

    Transformers of timm's give it what the paper does with their option `taps: spread`.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; maps finer than `finest` are not
            read.
        finest: stride of the finest map that is fused; the scores are interpolated from half of it.
        width: channels of all maps.
        norm: normalisation after each convolution.
        dropout: probability with which values are dropped before the scores.

    Source: Ranftl et al. 2021, arXiv:2103.13413.

    >>> import torch
    >>> decoder = DPTDecoder([16, 32, 64], [4, 8, 16], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 48, 32])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        finest: Annotated[int, Bounds(ge=1)] = FINEST,
        width: Annotated[int, Bounds(ge=1)] = 256,
        norm: NormName = "batch",
        dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__(in_channels, strides, finest)
        used = self.used_strides
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels, width, 3, padding=1, bias=False) for channels in self.used_channels
        )
        self.last_stride = max(1, used[0] // 2)  # of the last fused map
        targets = [self.last_stride, *used[:-1]]
        factors = [stride // target for stride, target in zip(used, targets, strict=True)]
        self.fusions = nn.ModuleList(_Fusion(width, factor, norm) for factor in factors)
        self.last = nn.Sequential(ConvNormAct(width, width, norm=norm), nn.Dropout(dropout))
        self.head = ScoreHead(width, num_classes, self.last_stride)

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        del maps[: self.skipped]
        grids = [size_at(self.last_stride, sizes), *(m.shape[-2:] for m in maps[:-1])]
        x: Tensor | None = None
        for lateral, fuse in zip(reversed(self.laterals), reversed(self.fusions), strict=True):
            x = fuse(lateral(maps.pop()), x, grids.pop())
        return self.head(self.last(x), sizes)


class _Fusion(nn.Module):
    """Add a map to what has climbed from the coarser ones, and upsample the sum."""

    def __init__(self, width: int, factor: int, norm: NormName) -> None:
        super().__init__()
        self.of_map, self.of_sum = _Residual(width, norm), _Residual(width, norm)
        self.up = Interpolate("bilinear", factor) if factor > 1 else None
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, below: Tensor | None, size: Size | None) -> Tensor:
        x = self.of_map(x)
        if below is not None:
            x = x + below
        # the projection commutes with interpolation, and costs less before it
        x = self.project(self.of_sum(x))
        return x if self.up is None else self.up(x, size)


class _Residual(nn.Sequential):
    """Add to a map what two convolutions make of it, each after a ReLU."""

    def __init__(self, width: int, norm: NormName) -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(width, width, 3, padding=1, bias=norm == "none")
            layers += [nn.ReLU(), conv, make_norm(norm, width)]
        super().__init__(*(layer for layer in layers if not isinstance(layer, nn.Identity)))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = super().forward(x)
        return x + found
