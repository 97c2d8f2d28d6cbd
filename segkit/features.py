"""The contract between encoder and decoder: named taps, lists of maps, and never stretching.

Maps travel as a list, finest first. An encoder declares its taps as `FeatureSpec`s when it is
built and returns a `Pyramid`; a decoder is built from plain channel and stride numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import UserError

Size = tuple[int, int]  # (H, W) in pixels


@dataclass(frozen=True)
class FeatureSpec:
    """What an encoder promises about one tap before any tensor exists.

    Args:
        name: of the tap, for example `conv4` or `pool4`; strides alone do not identify a tap.
        channels: of the map.
        stride: input pixels per map pixel, a power of two.
    """

    name: str
    channels: int
    stride: int


class Pyramid(NamedTuple):
    """What an encoder returns.

    Args:
        maps: the taps asked for, finest first, each `(N, C, H, W)`.
        sizes: `(H, W)` of the grids at strides 1, 2, 4, ... that a decoder climbs back to,
            finest first.
        indices: argmax indices of the 2x2 max pools as `torch.nn.functional.max_pool2d` returns
            them, finest first; `indices[k]` leads back to `sizes[k]`. None unless asked for.
    """

    maps: list[Tensor]
    sizes: list[Size]
    indices: list[Tensor] | None = None


def fit(x: Tensor, size: Size, mode: Literal["constant", "replicate"] = "constant") -> Tensor:
    """Crop or pad `x` at the bottom and right to `size`; content keeps its place.

    Pooling drops the last odd row or column, so a map that climbs back by x2 is one short.
    Stretching it would shift everything; padding shifts nothing.

    Args:
        x: map to fit.
        size: (H, W) wanted.
        mode: what padding holds: zeros (`constant`) or the last row and column (`replicate`).

    Shape: `(N, C, H, W)` to `(N, C, *size)`.

    >>> import torch
    >>> fit(torch.ones(1, 1, 2, 2), (3, 1))[0, 0].tolist()
    [[1.0], [1.0], [0.0]]
    """
    height, width = size
    x = x[..., :height, :width]
    missing = (0, width - x.shape[-1], 0, height - x.shape[-2])
    return F.pad(x, missing, mode=mode) if any(missing) else x


class Wants(NamedTuple):
    """What a decoder asks of a VGG encoder.

    Args:
        taps: names, finest first.
        indices: whether the max pools' argmax indices are needed.
    """

    taps: tuple[str, ...]
    indices: bool = False


def check_maps(maps: Sequence[Tensor], in_channels: Sequence[int], decoder: nn.Module) -> None:
    """Refuse a list of maps that is not the one the decoder was built for.

    Raises:
        UserError: wrong number of maps or of channels, with both sides.
    """
    got = [m.shape[1] for m in maps]
    if got != list(in_channels):
        raise UserError(
            f"{type(decoder).__name__} was built with in_channels={list(in_channels)}, finest map "
            f"first, but got maps with channels {got}; pass the list of maps it was built for"
        )


def check_strides(in_channels: Sequence[int], strides: Sequence[int]) -> None:
    """Refuse strides that no chain of x2 steps connects.

    Raises:
        UserError: not one stride a map, or not rising powers of two.
    """
    if not strides or len(in_channels) != len(strides):
        raise UserError(
            f"in_channels={list(in_channels)} and strides={list(strides)} must have one entry "
            "a map, finest first"
        )
    powers = all(s >= 1 and s & (s - 1) == 0 for s in strides)
    if not powers or list(strides) != sorted(set(strides)):
        raise UserError(
            f"strides={list(strides)} must be rising powers of two, finest map first; "
            "leave out a map that repeats a stride"
        )


def strides_above(stride: int) -> list[int]:
    """List the strides of the x2 steps from `stride` up to full resolution, in climbing order.

    >>> strides_above(16)
    [8, 4, 2, 1]
    """
    return [2**k for k in reversed(range(stride.bit_length() - 1))]


def size_at(stride: int, sizes: Sequence[Size] | None) -> Size | None:
    """Look up the recorded size of the grid at `stride`; None when nothing was recorded."""
    if sizes is None:
        return None
    octave = stride.bit_length() - 1
    if octave >= len(sizes):
        raise UserError(
            f"sizes={list(sizes)} must hold the (H, W) at strides 1, 2, 4, ... but has none for "
            f"stride {stride}; pass sizes=None to climb by exact doubling"
        )
    return sizes[octave]
