"""Rectangular regions of an image, and resampling a region alone."""

from __future__ import annotations

from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.features import Size
from segkit.receptive_field import Halo


class Region(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> Size:
        """(H, W) in pixels."""
        return self.bottom - self.top, self.right - self.left

    def mirrored(self, width: int) -> Region:
        """Return the same region in the mirrored image."""
        return Region(self.top, self.bottom, width - self.right, width - self.left)

    @property
    def cells(self) -> tuple[EllipsisType, slice, slice]:
        """The index of its pixels in a tensor `(..., H, W)`."""
        return ..., slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, other: Region) -> Region:
        """Return this region in the coordinates of another that contains it."""
        top, left = other.top, other.left
        return Region(self.top - top, self.bottom - top, self.left - left, self.right - left)


def whole(size: Size) -> Region:
    """Return the region of a whole image."""
    return Region(0, size[0], 0, size[1])


def scaled(size: Size, scale: float) -> Size:
    """Return the size of an image scaled by a factor, at least one pixel."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def grow(region: Region, size: Size, halo: Halo, stride: int) -> Region:
    """Extend a region to multiples of a stride, and add a halo of whole strides, in the image."""

    def span(start: int, stop: int, length: int) -> tuple[int, int]:
        first, last = start // stride * stride, -(-stop // stride) * stride
        before, after = (-(-side // stride) * stride for side in halo)
        return max(first - before, 0), min(last + after, length)

    return Region(*span(*region[:2], size[0]), *span(*region[2:], size[1]))


def source_of(region: Region, size: Size, source: Size) -> Region:
    """Return the part of a source that bilinear sampling to `size` reads for a region."""
    if size == source:
        return region
    ends: list[int] = []
    for axis in (0, 1):
        low, high, _ = _taps(region[2 * axis], region[2 * axis + 1], size[axis], source[axis])
        ends += int(low[0]), int(high[-1]) + 1
    return Region(*ends)


def sample(x: Tensor, part: Region, source: Size, size: Size, region: Region) -> Tensor:
    """Resample a region of a map bilinearly, with half-pixel centres.

    Args:
        x: `part` of the map, at least what `source_of` returns.
        part: its region in the map.
        source: (H, W) of the whole map.
        size: (H, W) of the whole result.
        region: of the result to return.

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
    """Return the two neighbours of each cell along an axis, and the weight of the second."""
    place = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (source / size) - 0.5
    place = place.clamp(0, source - 1)
    low = place.floor()
    return low.long(), (low.long() + 1).clamp(max=source - 1), (place - low).float()
