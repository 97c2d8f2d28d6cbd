"""Cutting an image into tiles: exactly, with a halo, or blended, with an overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from segkit.errors import UserError
from segkit.features import Size
from segkit.inference.memory import Room
from segkit.inference.region import Region, grow
from segkit.receptive_field import Halo, halo_of, sees_all

UNMEASURED = 512  # pixels, the size where memory cannot be measured


@dataclass(frozen=True)
class Tiles:
    """How to cut images that are larger than a tile.

    Args:
        size: height and width of a tile in pixels, without its halo; rounded up to the encoder's
            stride. `auto`: as large as memory allows, 512 where it cannot be measured.
        mode: `exact` adds a halo as wide as the receptive field, so that tiled equals whole;
            `blend` has tiles without halo overlap and fades one into the next.
        overlap: of neighbours in blend mode, as a share of the size.
        memory: that a tile of size `auto` may take, in bytes; None: half of what is free.
    """

    size: int | Literal["auto"]
    mode: Literal["exact", "blend"] = "exact"
    overlap: float = 0.25
    memory: float | None = None

    def __post_init__(self) -> None:
        if self.size != "auto" and self.size < 1:
            raise UserError(f"a tile of {self.size} pixels is too small; use 512, for example")
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise UserError(f"tiles need a memory above 0 bytes, not {self.memory}")
        if not 0 <= self.overlap <= 0.5:
            raise UserError(f"tiles overlap by a share from 0 to 0.5, not {self.overlap}")

    def __str__(self) -> str:
        size = "as large as memory allows" if self.size == "auto" else f"of {self.size} px"
        return f"in tiles {size}, {self.mode}"

    def aligned(self, stride: int) -> int:
        """Round the size up to the stride."""
        assert self.size != "auto", "sized() chooses one"
        return _round_up(self.size, stride)

    def fits(self, size: Size, stride: int) -> bool:
        """Return whether an image fits into one tile."""
        return max(size) <= self.aligned(stride)

    def sized(self, size: Size, stride: int, halo: Halo, room: Room | None, scale: float) -> Tiles:
        """Choose the size of tiles for an image, where it is `auto`.

        Args:
            size: (H, W) of the image.
            stride: of the encoder.
            halo: of a tile.
            room: for a tile with its halo; None: unknown.
            scale: the largest that the image is predicted at.

        Raises:
            UserError: there is no room for the smallest tile.
        """
        if room is None:
            return replace(self, size=UNMEASURED)
        around = Halo(*(math.ceil(side / scale) for side in halo))  # in pixels of the image
        for tile in range(_round_up(max(size), stride), 0, -stride):
            tiles = replace(self, size=tile)
            if scale**2 * tiles.largest(size, stride, around) <= room.pixels:
                return replace(self, size=tiles.evened(size, stride))
        raise UserError(
            f"{room} is too little for a tile of {stride} pixels and its halo of "
            f"{halo.before}+{halo.after}; allow more memory, or use mode blend"
        )

    def largest(self, size: Size, stride: int, halo: Halo) -> int:
        """Return the number of pixels of the largest tile with its halo."""
        column, row = self.cut((size[0], 1), stride), self.cut((1, size[1]), stride)
        height = max(grow(region, size, halo, stride).size[0] for region in column)
        width = max(grow(region, size, halo, stride).size[1] for region in row)
        return height * width

    def evened(self, size: Size, stride: int) -> int:
        """Return the smallest size that gives as many tiles: it takes as long, and less memory."""
        tile = self.aligned(stride)
        if self.mode == "blend":
            return tile  # the number of tiles depends on the overlap, too
        evenly = (math.ceil(length / math.ceil(length / tile)) for length in size)
        return _round_up(max(evenly), stride)

    def cut(self, size: Size, stride: int) -> list[Region]:
        """Cut an image into tiles that do not overlap, row by row."""
        step = self.aligned(stride)
        rows, columns = ([*range(0, length, step), length] for length in size)
        return [Region(*row, *column) for row in pairwise(rows) for column in pairwise(columns)]

    def overhead(self, size: Size, stride: int, halo: Halo) -> float:
        """Return the pixels computed for each pixel of the image, halo and overlap included."""
        if self.fits(size, stride):
            return 1.0
        if self.mode == "exact":
            cut = self.cut(size, stride)
            sizes = [grow(region, size, halo, stride).size for region in cut]
            computed = sum(height * width for height, width in sizes)
        else:
            computed = math.prod(
                len(self.starts(length, stride)) * min(self.aligned(stride), length)
                for length in size
            )
        return computed / math.prod(size)

    def cost(self, size: Size, stride: int, halo: Halo) -> str:
        """Return how an image is cut and what that costs, in words."""
        how = f"with a halo of {halo.before}+{halo.after}"
        if self.mode == "blend":
            how = f"that overlap by {self.overlap:.0%}"
        share = self.overhead(size, stride, halo)
        return f"tiles of {self.aligned(stride)} {how}: {share:.1f} pixels computed for each pixel"

    def starts(self, length: int, stride: int) -> list[int]:
        """Return where the tiles of blend mode start along an axis, evenly spaced."""
        size = self.aligned(stride)
        if length <= size:
            return [0]
        count = -(-(length - size) // max(1, round(size * (1 - self.overlap)))) + 1
        return [round(i * (length - size) / (count - 1)) for i in range(count)]


def exact_halo(model: nn.Module, channels: int | None) -> Halo:
    """Return the halo of exact tiles, or refuse a network that cannot be cut exactly."""
    if not hasattr(model, "stride"):
        why = "it has no attribute 'stride' to say where tiles may begin"
    elif channels is None:
        why = "its number of channels is unknown without preprocess=Preprocess(channels)"
    elif sees_all(model):
        why = "a part of it declares that every pixel sees the whole image (sees_all)"
    elif (halo := halo_of(model, channels)) is not None:
        return halo
    else:
        why = "group norm lets every pixel see the whole image"
    raise UserError(f"this network cannot be cut exactly, as {why}; use tiles of mode blend")


def blend(
    tiles: Tiles, size: Size, stride: int, probabilities: Callable[[Region], Tensor]
) -> Iterator[tuple[Region, Tensor]]:
    """Predict overlapping tiles and fade one into the next, holding one row of tiles at a time.

    Args:
        tiles: of mode blend.
        size: (H, W) of the image.
        stride: of the encoder, in pixels.
        probabilities: predicts a region as `(num_classes, *region.size)`.

    Yields:
        Bands of the image from top to bottom, with their probabilities.
    """
    tops, lefts = (tiles.starts(length, stride) for length in size)
    height, width = (min(tiles.aligned(stride), length) for length in size)
    window = _fade(height)[:, None] * _fade(width)
    total, weight = torch.zeros(0), torch.zeros(height, size[1])
    for top, following in pairwise([*tops, size[0]]):
        for left in lefts:
            region = Region(top, top + height, left, left + width)
            found = probabilities(region).float()
            if not total.numel():  # the sums are on the device of the probabilities
                total = found.new_zeros(found.shape[0], height, size[1])
                window, weight = window.to(found.device), weight.to(found.device)
            total[:, :, left : left + width] += found * window
            weight[:, left : left + width] += window
        done = following - top  # rows that no later tile reaches
        yield Region(top, following, 0, size[1]), total[:, :done] / weight[:done]
        _scroll(total, done)
        _scroll(weight, done)


def _round_up(length: int, stride: int) -> int:
    return -(-length // stride) * stride


def _fade(length: int) -> Tensor:
    """Return the weights along a tile: high in the middle, low at the ends, never zero."""
    place = (torch.arange(length) + 0.5) / length
    return torch.sin(torch.pi * place).square() + 1e-3


def _scroll(x: Tensor, rows: int) -> None:
    """Move the rows up in place; zeros follow."""
    kept = x.shape[-2] - rows
    x[..., :kept, :] = x[..., rows:, :].clone()
    x[..., kept:, :] = 0
