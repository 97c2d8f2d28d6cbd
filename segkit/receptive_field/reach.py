"""How far around a pixel a network looks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import nn

from segkit.errors import UserError
from segkit.receptive_field.follow import Lines, follow_rows
from segkit.receptive_field.spans import FAR, Rows

SHORTEST, LONGEST = 512, 2**15  # pixels along the followed axis


class Reach(NamedTuple):
    """How far around an output pixel an input pixel can influence it, in pixels.

    Args:
        before: above or left of the output pixel, at most.
        after: below or right of it, at most.
        field: the receptive field: from the first to the last that influence one output pixel, at
            most. Above and below are not at most for the same pixel, so it can be less than
            `before + 1 + after`.
    """

    before: int
    after: int
    field: int


class LayerReach(NamedTuple):
    """What one layer's output sees.

    Args:
        layer: its name in the model; empty for the model's own output.
        stride: image pixels per pixel of its output.
        reach: None where every pixel sees the whole image.
    """

    layer: str
    stride: int
    reach: Reach | None

    @property
    def field(self) -> float:
        """The receptive field in pixels; infinite where it is the whole image."""
        return math.inf if self.reach is None else self.reach.field


def reach_of(model: nn.Module, in_channels: int) -> Reach | None:
    """Tell how far around an output pixel the input influences it; None: the whole image does.

    For each phase of the stride both ends are exact, so a tile with a halo of `before` and
    `after` holds all that its middle depends on. The model counts as in evaluation mode.

    Args:
        model: image `(N, in_channels, H, W)` to a map, such as a `SegmentationModel`.
        in_channels: of the image.

    Raises:
        UserError: an operation that cannot be followed, or an output that is not a map whose rows
            lie evenly over the image.

    >>> reach_of(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)), 1)
    Reach(before=1, after=1, field=4)
    """
    return layer_reaches(model, in_channels)[-1].reach


def layer_reaches(model: nn.Module, in_channels: int) -> list[LayerReach]:
    """Tell what the output of each leaf module sees, in running order, and the model's own last.

    A module that runs several times comes several times; `nn.Identity` does not come.

    Raises:
        UserError: as `reach_of`.
    """
    rows, columns = (_along(model, in_channels, axis) for axis in (2, 3))
    return [_joined(a, b) for a, b in zip(rows, columns, strict=True)]


def _joined(a: LayerReach, b: LayerReach) -> LayerReach:
    if a.reach is None or b.reach is None:
        return LayerReach(a.layer, a.stride, None)
    return LayerReach(a.layer, max(a.stride, b.stride), Reach(*map(max, a.reach, b.reach)))


def _along(model: nn.Module, in_channels: int, axis: int) -> list[LayerReach]:
    """Measure along one axis, on an image long enough for its middle not to see the border."""
    length = SHORTEST
    while length <= LONGEST:
        lines = follow_rows(model, in_channels, length, axis)
        # maps of a few rows are a given size, such as that of a global pool
        strides = [_stride(line, length) for line in lines]
        period = max((s for s, line in zip(strides, lines, strict=True) if _local(line)), default=1)
        found = [_measured(*pair, length, period) for pair in zip(lines, strides, strict=True)]
        reaches = [reach for reach in found if reach is not None]
        if len(reaches) == len(lines):
            if len(lines[-1].first) * strides[-1] != length and reaches[-1].reach is not None:
                raise UserError(
                    f"an image of {length} pixels gives a map of {len(lines[-1].first)}, which is "
                    "no whole part of it; the receptive field is told of maps that keep their place"
                )
            return reaches
        length *= 2
    raise UserError(
        f"the receptive field is larger than {LONGEST // 2} pixels, or does not repeat with the "
        "stride"
    )


def _local(line: Lines) -> bool:
    return bool((line.first > -FAR).all())


def _stride(line: Lines, length: int) -> int:
    return max(1, round(length / len(line.first)))


def _measured(line: Lines, stride: int, length: int, period: int) -> LayerReach | None:
    """Measure in the middle of a map; None if the border can be seen from there.

    Args:
        line: what the rows of the map depend on.
        stride: of the map.
        length: of the image.
        period: pixels after which everything repeats.
    """
    if not _local(line):
        return LayerReach(line.layer, stride, None)
    step = max(1, period // stride)  # rows after which everything repeats
    middle = len(line.first) // 2
    if middle < step:
        return None
    rows = np.arange(middle - step, middle + step)
    first, last = line.first[rows], line.last[rows]
    dependent = first <= last
    if ((first < 0) | (last >= length))[dependent].any() or not _repeats(first, last, step, period):
        return None
    if not dependent.any():
        return LayerReach(line.layer, stride, Reach(0, 0, 0))
    rows, first, last = rows[dependent], first[dependent], last[dependent]
    before = int((rows * stride - first).max())
    after = int((last - (rows * stride + stride - 1)).max())
    field = int((last - first).max()) + 1
    return LayerReach(line.layer, stride, Reach(max(0, before), max(0, after), field))


def _repeats(first: Rows, last: Rows, step: int, period: int) -> bool:
    """Check that rows one period apart see the same, one period further on."""
    empty = first > last
    return bool(
        np.array_equal(empty[:step], empty[step:])
        and (first[step:] - first[:step] == period)[~empty[:step]].all()
        and (last[step:] - last[:step] == period)[~empty[:step]].all()
    )
