"""Cutting an image into tiles: exactly, with a halo, or blended, with an overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from segkit.errors import UserError
from segkit.features import Size
from segkit.inference.region import Region, grow
from segkit.receptive_field import Reach


@dataclass(frozen=True)
class Tiles:
    """How to cut images that are larger than a tile.

    Args:
        size: height and width of a tile in pixels, without its halo; rounded up to the encoder's
            stride.
        mode: `exact` adds a halo as wide as the receptive field, so that tiled equals whole;
            `blend` has tiles without halo overlap and fades one into the next.
        overlap: of neighbours in blend mode, as a share of the size.

    Raises:
        UserError: a number out of range.
    """

    size: int
    mode: Literal["exact", "blend"] = "exact"
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"a tile of {self.size} pixels is too small; use 512, for example")
        if not 0 <= self.overlap <= 0.5:
            raise UserError(f"tiles overlap by a share from 0 to 0.5, not {self.overlap}")

    def aligned(self, stride: int) -> int:
        """Round the size up to the stride."""
        return -(-self.size // stride) * stride

    def fits(self, size: Size, stride: int) -> bool:
        """Tell whether an image is one tile."""
        return max(size) <= self.aligned(stride)

    def cut(self, size: Size, stride: int) -> list[Region]:
        """Cut an image into tiles that do not overlap, row by row."""
        step = self.aligned(stride)
        rows, columns = ([*range(0, length, step), length] for length in size)
        return [Region(*row, *column) for row in pairwise(rows) for column in pairwise(columns)]

    def overhead(self, size: Size, stride: int, reach: Reach) -> float:
        """Give the pixels computed for each pixel of the image, halo and overlap included."""
        if self.fits(size, stride):
            return 1.0
        if self.mode == "exact":
            regions = [
                grow(r, size, reach.before, reach.after, stride) for r in self.cut(size, stride)
            ]
        else:
            windows = [self.starts(length, stride) for length in size]
            side = [min(self.aligned(stride), length) for length in size]
            regions = [
                Region(y, y + side[0], x, x + side[1]) for y in windows[0] for x in windows[1]
            ]
        return sum(r.size[0] * r.size[1] for r in regions) / (size[0] * size[1])

    def cost(self, size: Size, stride: int, reach: Reach) -> str:
        """Say how an image is cut, and the overhead."""
        how = f"with a halo of {reach.before}+{reach.after}"
        if self.mode == "blend":
            how = f"that overlap by {self.overlap:.0%}"
        share = self.overhead(size, stride, reach)
        side = self.aligned(stride)
        return f"tiles of {side} {how}: {share:.1f} pixels computed for each pixel"

    def starts(self, length: int, stride: int) -> list[int]:
        """Place the tiles of blend mode along an axis, evenly."""
        size = self.aligned(stride)
        if length <= size:
            return [0]
        count = -(-(length - size) // max(1, round(size * (1 - self.overlap)))) + 1
        return [round(i * (length - size) / (count - 1)) for i in range(count)]


def blend(
    tiles: Tiles, size: Size, stride: int, probabilities: Callable[[Region], Tensor]
) -> Iterator[tuple[Region, Tensor]]:
    """Predict overlapping tiles and fade one into the next.

    Holds the probabilities of one row of tiles at a time.

    Args:
        tiles: how to cut.
        size: (H, W) of the image.
        stride: of the encoder.
        probabilities: predicts a region, `(num_classes, *region.size)`.

    Yields:
        Bands of the image from top to bottom, with their probabilities.
    """
    tops, lefts = (tiles.starts(length, stride) for length in size)
    height, width = (min(tiles.aligned(stride), length) for length in size)
    row_weights, column_weights = _fade(height), _fade(width)
    total, weight = torch.zeros(0), torch.zeros(height, size[1])
    for top, following in pairwise([*tops, size[0]]):
        for left in lefts:
            region = Region(top, top + height, left, left + width)
            found = probabilities(region).float().cpu()
            if not total.numel():
                total = torch.zeros(found.shape[0], height, size[1])
            window = row_weights[:, None] * column_weights
            total[:, :, left : left + width] += found * window
            weight[:, left : left + width] += window
        done = following - top  # rows that no later tile reaches
        yield Region(top, following, 0, size[1]), total[:, :done] / weight[:done]
        _scroll(total, done)
        _scroll(weight, done)


def _fade(length: int) -> Tensor:
    """Weigh a tile's rows: high in the middle, low at its ends, above zero everywhere."""
    place = (torch.arange(length) + 0.5) / length
    return torch.sin(torch.pi * place).square() + 1e-3


def _scroll(x: Tensor, rows: int) -> None:
    """Move the content up in place, zeros follow."""
    kept = x.shape[-2] - rows
    x[..., :kept, :] = x[..., rows:, :].clone()
    x[..., kept:, :] = 0
