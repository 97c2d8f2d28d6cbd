"""Rectangles of an image, and sampling an image in another size there alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segkit.features import Size


class Region(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends left out."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> Size:
        """(H, W) in pixels."""
        return self.bottom - self.top, self.right - self.left

    def mirrored(self, width: int) -> Region:
        """Give the same place in the mirrored image."""
        return Region(self.top, self.bottom, width - self.right, width - self.left)

    def within(self, other: Region) -> tuple[slice, slice]:
        """Give the rows and columns of this region as indices of another that holds it."""
        return (
            slice(self.top - other.top, self.bottom - other.top),
            slice(self.left - other.left, self.right - other.left),
        )


def whole(size: Size) -> Region:
    """Give the region that is all of an image."""
    return Region(0, size[0], 0, size[1])


def grow(region: Region, size: Size, before: int, after: int, stride: int) -> Region:
    """Add a halo within the image, then go on to multiples of the stride.

    Args:
        region: to grow.
        size: (H, W) of the image.
        before: pixels above and left of it.
        after: pixels below and right of it.
        stride: of the encoder.
    """

    def span(start: int, stop: int, length: int) -> tuple[int, int]:
        stop = -(-(stop + after) // stride) * stride
        return max(start - before, 0) // stride * stride, min(stop, length)

    return Region(*span(*region[:2], size[0]), *span(*region[2:], size[1]))


def source_of(region: Region, size: Size, source: Size) -> Region:
    """Give the part of a source that bilinear sampling to `size` reads for a region of it."""
    if size == source:
        return region
    rows, columns = (
        _taps(region[2 * axis], region[2 * axis + 1], size[axis], source[axis]) for axis in (0, 1)
    )
    return Region(
        int(rows[0][0]), int(rows[1][-1]) + 1, int(columns[0][0]), int(columns[1][-1]) + 1
    )


def sample(x: Tensor, part: Region, source: Size, size: Size, region: Region) -> Tensor:
    """Sample a map in another size, bilinearly, half-pixel centres, in a region alone.

    Args:
        x: `part` of the map, at least what `source_of` says.
        part: where it lies in the map.
        source: (H, W) of the whole map.
        size: (H, W) of the whole result.
        region: of the result to give.

    Shape: `(C, *part.size)` to float32 `(C, *region.size)`.
    """
    x = x.float()
    for axis in (0, 1):
        low, high, share = _taps(region[2 * axis], region[2 * axis + 1], size[axis], source[axis])
        start = part[2 * axis]
        share = share.to(x.device).view((-1, 1) if axis == 0 else (1, -1))
        lower = x.index_select(axis + 1, (low - start).to(x.device))
        upper = x.index_select(axis + 1, (high - start).to(x.device))
        x = torch.lerp(lower, upper, share)
    return x


def _taps(start: int, stop: int, size: int, source: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give the two neighbours of each cell along an axis, and the share of the second."""
    place = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (source / size) - 0.5
    place = place.clamp(0, source - 1)
    low = place.floor()
    return low.long(), (low.long() + 1).clamp(max=source - 1), (place - low).float()
