"""The convolution block that all decoders use, and its initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from segkit.channels_last import GroupNorm
from segkit.errors import unknown_name

NormName = Literal["batch", "group", "none"]

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    # at most 32 groups, as in Wu and He 2018, and fewer where 32 does not divide the channels
    "group": lambda channels: GroupNorm(math.gcd(32, channels), channels),
    "none": lambda channels: nn.Identity(),
}


def make_norm(norm: NormName, channels: int) -> nn.Module:
    """Build the normalisation layer named `norm` for `channels` channels."""
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    return NORMS[norm](channels)


class ConvNormAct(nn.Sequential):
    """Convolution that keeps the size, dilated on request, normalisation, ReLU; He initialisation.

    Shape: `(N, in_channels, H, W)` to `(N, out_channels, H, W)`.

    Source: He et al. 2015, "Delving Deep into Rectifiers".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        norm: NormName = "batch",
        dilation: int = 1,
    ) -> None:
        bias, shape = norm == "none", (in_channels, out_channels, kernel_size)
        conv = nn.Conv2d(*shape, padding="same", dilation=dilation, bias=bias)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        layers = [conv, make_norm(norm, out_channels), nn.ReLU(inplace=True)]
        super().__init__(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


def conv_chain(widths: Sequence[int], norm: NormName = "batch") -> nn.Sequential:
    """Chain 3x3 `ConvNormAct`s through the channel counts `widths`, first to last.

    Shape: `(N, widths[0], H, W)` to `(N, widths[-1], H, W)`.
    """
    return nn.Sequential(*(ConvNormAct(a, b, norm=norm) for a, b in pairwise(widths)))
