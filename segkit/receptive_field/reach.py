"""How far around a pixel a network looks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import nn

from segkit.errors import UserError
from segkit.receptive_field.follow import follow_rows
from segkit.receptive_field.spans import FAR, Rows, Span

SHORTEST, LONGEST = 4096, 2**15  # pixels along the followed axis; one try costs the same at any


class Reach(NamedTuple):
    """How far around an output pixel an input pixel can influence it, in pixels.

    Args:
        before: the farthest above or left of the output pixel.
        after: the farthest below or right of it.
        field: the receptive field: the distance from the first to the last input pixel that
            influence one output pixel, both included. `before` and `after` may come from different
            output pixels, so it can be less than `before + 1 + after`.
    """

    before: int
    after: int
    field: int


class Halo(NamedTuple):
    """What a tile needs around it, in pixels, if it begins and ends at multiples of the stride.

    That can be up to a stride less than the `Reach` of its pixels: the one that sees the farthest
    is often not the one at the edge of the tile.

    Args:
        before: above the tile and left of it.
        after: below it and right of it.
    """

    before: int
    after: int


class LayerReach(NamedTuple):
    """How far the output of one layer sees."""

    layer: str  # its name in the model; empty for the model's own output
    stride: int  # image pixels per pixel of its output
    reach: Reach | None  # None where every pixel sees the whole image
    halo: Halo | None  # the same

    @property
    def field(self) -> float:
        """The receptive field in pixels; infinite where it is the whole image."""
        return math.inf if self.reach is None else self.reach.field


def sees_all(model: nn.Module) -> bool:
    """Whether a module of the model declares, by `sees_all = True`, that it sees the whole image.

    Decoders that pool or attend globally do.
    """
    return any(getattr(module, "sees_all", False) for module in model.modules())


def reach_of(model: nn.Module, in_channels: int) -> Reach | None:
    """Compute how far around an output pixel the input influences it.

    For each phase of the stride both ends are exact. The model counts as in evaluation mode.

    Args:
        model: image `(N, in_channels, H, W)` to a map, such as a `SegmentationModel`.
        in_channels: of the image.

    Returns:
        None where each pixel sees the whole image, or where the model declares it (`sees_all`),
        in which case nothing is followed.

    Raises:
        UserError: an operation that cannot be followed, or an output that is not a map whose rows
            lie evenly over the image.

    >>> reach_of(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)), 1)
    Reach(before=1, after=1, field=4)
    """
    return None if sees_all(model) else layer_reaches(model, in_channels)[-1].reach


def halo_of(model: nn.Module, in_channels: int) -> Halo | None:
    """Compute what a tile needs around it; with that, it gives what the whole image gives.

    Args:
        model: as for `reach_of`.
        in_channels: of the image.

    Returns:
        None as from `reach_of`.

    Raises:
        UserError: as `reach_of`.

    >>> halo_of(nn.Sequential(nn.AvgPool2d(4), nn.UpsamplingNearest2d(scale_factor=4)), 1)
    Halo(before=0, after=0)
    """
    return None if sees_all(model) else layer_reaches(model, in_channels)[-1].halo


def layer_reaches(model: nn.Module, in_channels: int) -> list[LayerReach]:
    """Compute how far the output of each layer sees, in running order, and the model's own last.

    A layer is a module without children. One that runs several times is listed several times;
    `nn.Identity` is left out.

    Args:
        model: as for `reach_of`.
        in_channels: of the image.

    Raises:
        UserError: as `reach_of`.
    """
    axes = zip(*(_along(model, in_channels, axis) for axis in (2, 3)), strict=True)
    reaches = [
        LayerReach(
            a.layer,
            max(a.stride, b.stride),
            Reach(*map(max, a.reach, b.reach)) if a.reach and b.reach else None,
            Halo(*map(max, a.halo, b.halo)) if a.halo and b.halo else None,
        )
        for a, b in axes
    ]
    if sees_all(model):
        reaches[-1] = reaches[-1]._replace(reach=None, halo=None)
    return reaches


def _along(model: nn.Module, in_channels: int, axis: int) -> list[LayerReach]:
    """Measure along one axis, on an image long enough for its middle not to see the border."""
    own = getattr(model, "stride", 1)  # coarser maps than those of layers; a convolution has a pair
    length = SHORTEST
    while length <= LONGEST:
        layers = follow_rows(model, in_channels, length, axis)
        strides = [max(1, round(length / len(span.first))) for _, span in layers]
        is_local = [bool(span.first.min() > -FAR) for _, span in layers]
        # a map that sees the whole image may have any size, such as that of a global pool
        local_strides = [s for s, local in zip(strides, is_local, strict=True) if local]
        period = max([*local_strides, own if isinstance(own, int) else 1])
        found: list[LayerReach] = []
        for (name, span), stride, local in zip(layers, strides, is_local, strict=True):
            measured = _measured(span, stride, length, period) if local else (None, None)
            if measured:
                found.append(LayerReach(name, stride, *measured))
        if len(found) == len(layers):
            rows = len(layers[-1][1].first)
            if rows * strides[-1] != length and is_local[-1]:
                raise UserError(
                    f"an image of {length} pixels gives a map of {rows}, not a whole fraction of "
                    "it; only a map whose rows lie evenly over the image has a receptive field"
                )
            return found
        length *= 2
    raise UserError(
        f"the receptive field is larger than {LONGEST // 2} pixels, or does not repeat with the "
        "stride"
    )


def _measured(span: Span, stride: int, length: int, period: int) -> tuple[Reach, Halo] | None:
    """Measure in the middle of a map; None if it sees the border, or nothing repeats there.

    Lengths are in pixels: the stride of the map, the image, and the period of the pattern.
    """
    step = max(1, period // stride)  # rows of the map after which the pattern repeats
    middle = len(span.first) // 2
    if middle < step:
        return None
    rows = np.arange(middle - step, middle + step)
    ends = np.stack(span)[:, rows]
    seeing = ends[0] <= ends[1]
    moved = np.where(seeing, ends + period, ends)
    if (moved[:, :step] != ends[:, step:]).any():
        return None
    (first, last), top = ends[:, seeing], rows[seeing] * stride
    if (first < 0).any() or (last >= length).any():
        return None
    start = top // period * period  # a tile may begin here, or end at start + period
    extents = top - first, last - (top + stride - 1), last - first + 1
    around = start - first, last - (start + period - 1)
    return Reach(*map(_largest, extents)), Halo(*map(_largest, around))


def _largest(distances: Rows) -> int:
    return int(distances.max(initial=0))
