"""What decoders gather from around a pixel: averages over the image, and dilated convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.blocks import ConvNormAct, NormName
from segkit.channels_last import laid_out_like
from segkit.errors import UserError


def average_grid(x: Tensor, bins: int) -> Tensor:
    """Average a map over a grid of bins x bins cells, as `F.adaptive_avg_pool2d` does.

    By sums, which take any size in an exported graph; a product with a matrix refuses one pixel.

    Shape: `(N, C, H, W)` to `(N, C, bins, bins)`.
    """
    rows, columns = (_shares(side, bins, x) for side in x.shape[-2:])
    bands = (x.unsqueeze(2) * rows.unsqueeze(2)).sum(3)  # N C bins W
    return (bands.unsqueeze(3) * columns).sum(4)


def _shares(side: int, bins: int, x: Tensor) -> Tensor:
    """Return the weight of each pixel along a side in each bin, `(bins, side)`."""
    places = torch.arange(side, device=x.device)
    numbers = torch.arange(bins, device=x.device)[:, None]
    inside = (places >= numbers * side // bins) & (places * bins < (numbers + 1) * side)
    shares = inside.to(x.dtype)
    return shares / shares.sum(1, keepdim=True)


class Pooled(nn.Module):
    """Average a map over a grid of cells, convolve by 1x1, and interpolate back.

    The average over all of the image has one value a channel, of which batch norm can make nothing
    in a batch of one image, so there the convolution has a bias and no norm.

    Shape: `(N, in_channels, H, W)` to `(N, out_channels, H, W)`.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: int, norm: NormName) -> None:
        super().__init__()
        self.bins = bins
        norm = norm if bins > 1 else "none"
        self.conv = ConvNormAct(in_channels, out_channels, kernel_size=1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each pixel's cell holds on average."""
        pooled = self.conv(average_grid(x, self.bins))
        resized = F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=False)
        return laid_out_like(x, resized)  # a map of one pixel is as well contiguous


class PyramidPooling(nn.Module):
    """Put averages over grids of several sizes beside a map, and join them.

    Shape: `(N, in_channels, H, W)` to `(N, out_channels, H, W)`.

    Args:
        in_channels: of the map.
        out_channels: after the joining 3x3 convolution.
        bins: cells along a side of each grid.
        norm: normalisation after each convolution, but of averages over the whole image.

    Raises:
        UserError: no bins, or one below 1.

    Source: Zhao et al. 2017, arXiv:1612.01105.
    """

    def __init__(
        self, in_channels: int, out_channels: int, bins: Sequence[int], norm: NormName
    ) -> None:
        super().__init__()
        _check_positive("bins", bins)
        width = max(1, in_channels // len(bins))
        self.pools = nn.ModuleList(Pooled(in_channels, width, each, norm) for each in bins)
        joined = in_channels + width * len(bins)
        self.join = ConvNormAct(joined, out_channels, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the joined map."""
        joined: Tensor = self.join(torch.cat([x, *(pool(x) for pool in self.pools)], dim=1))
        return joined


class AtrousPooling(nn.Module):
    """Dilated convolutions of several rates beside an average over the image (ASPP).

    Shape: `(N, in_channels, H, W)` to `(N, out_channels, H, W)`.

    Args:
        in_channels: of the map.
        out_channels: of each branch, and of the result.
        rates: of dilation.
        norm: normalisation after each convolution, but of averages over the whole image.
        dropout: probability with which values are dropped at the end.

    Raises:
        UserError: no rates, or one below 1.

    Source: Chen et al. 2017, arXiv:1706.05587.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int],
        norm: NormName,
        dropout: float,
    ) -> None:
        super().__init__()
        _check_positive("rates", rates)
        self.branches = nn.ModuleList([ConvNormAct(in_channels, out_channels, 1, norm)])
        for rate in rates:
            self.branches.append(ConvNormAct(in_channels, out_channels, 3, norm, dilation=rate))
        self.branches.append(Pooled(in_channels, out_channels, 1, norm))
        joined = out_channels * len(self.branches)
        self.join = nn.Sequential(ConvNormAct(joined, out_channels, 1, norm), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Return the joined map."""
        joined: Tensor = self.join(torch.cat([branch(x) for branch in self.branches], dim=1))
        return joined


def _check_positive(option: str, numbers: Sequence[int]) -> None:
    if not numbers or min(numbers) < 1:
        raise UserError(f"{option}={list(numbers)}: write one or more whole numbers from 1 upwards")
