"""The contract between encoder and decoder.

A decoder says what it `Wants`; the encoder declares the maps that answer as `FeatureSpec`s when it
is built, and returns them as a `Pyramid`: a list of maps, finest first, that are never stretched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from segkit.channels_last import replicate
from segkit.errors import UserError

Size = tuple[int, int]  # (H, W) in pixels
Sizes = Sequence[Size]
Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class FeatureSpec:
    """One map of an encoder, as declared before any tensor exists."""

    name: str  # the encoder's own, for example `conv4` or `pool4`
    channels: int
    stride: int  # input pixels per map pixel, a power of two
    depth: int | None = None  # convolutions in the stage that ends in this map, if there are stages


class Wants(NamedTuple):
    """What a decoder asks of any encoder, by role.

    The `place` is the last map of a stride (`before_pool`) or the first one (`after_pool`); an
    encoder without pools has one map a stride, which serves as either.
    """

    strides: tuple[int, ...] | None = None  # None: every stride there is
    place: Literal["before_pool", "after_pool"] = "before_pool"
    indices: bool = False  # whether the argmax indices of the max pools are needed
    coarsest: bool = False  # only the coarsest of these maps is needed
    finest: int = 1  # where `strides` is None, smallest stride that is needed, if there is one

    def choose(self, available: Sequence[int]) -> list[int]:
        """Choose from the rising strides that an encoder has at `place`, or raise a `UserError`.

        >>> Wants(place="after_pool", coarsest=True).choose([2, 4, 8])
        [8]
        """
        every = [s for s in available if s >= self.finest] or list(available[-1:])
        chosen = sorted(every if self.strides is None else self.strides)
        if not chosen or not set(chosen) <= set(available):
            raise UserError(
                f"the decoder needs maps of strides {chosen} {self.place.replace('_', ' a ')}, but "
                f"the encoder has strides {list(available)} there; choose another encoder or "
                "decoder, or change the decoder's stride"
            )
        return chosen[-1:] if self.coarsest else chosen


class Pyramid(NamedTuple):
    """What an encoder returns; all finest first."""

    maps: list[Tensor]  # those asked for, each (N, C, H, W)
    sizes: list[Size]  # of the grids at strides 1, 2, 4, ... that a decoder climbs back to
    # of the 2x2 or 3x3 max pools, as F.max_pool2d returns them; indices[k] leads back to sizes[k]
    indices: list[Tensor] | None = None


class Disposable(list[Tensor]):
    """Maps that a decoder may take out of the list, so that each is freed once it has been read.

    A list of this kind is the only holder of its maps. Out of any other list, which may be read
    again, a decoder takes nothing.
    """


def crop_or_pad(
    x: Tensor, size: Size, mode: Literal["constant", "replicate"] = "constant"
) -> Tensor:
    """Crop or pad `x` to `size` at the bottom and right, so that its content stays in place.

    Pooling drops the last odd row or column, so a map upsampled by two is one short. Stretching
    it would shift everything; padding shifts nothing.

    Args:
        x: map `(N, C, H, W)`.
        size: (H, W) of the result.
        mode: pad with zeros (`constant`), or with the last row and column (`replicate`).

    >>> import torch
    >>> crop_or_pad(torch.ones(1, 1, 2, 2), (3, 1))[0, 0].tolist()
    [[1.0], [1.0], [0.0]]
    """
    height, width = size
    x = x[..., :height, :width]
    missing = (0, width - x.shape[-1], 0, height - x.shape[-2])
    if not any(missing):
        return x
    return F.pad(x, missing) if mode == "constant" else replicate(x, missing)


def check_images(x: Tensor, in_channels: int, stride: int) -> None:
    """Refuse images that an encoder cannot take."""
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise UserError(
            f"the encoder was built with in_channels={in_channels}, but got an input of shape "
            f"{tuple(x.shape)}, read as (N, C, H, W); change in_channels or the input"
        )
    height, width = x.shape[-2:]
    if height < stride or width < stride:
        raise UserError(
            f"an input of {height}x{width} (H x W) is smaller than the encoder's stride of "
            f"{stride}; pad it, or ask for maps of smaller strides"
        )


def padding_to(stride: int, x: Tensor) -> tuple[int, int]:
    """Return how many rows and columns are missing to a multiple of the stride."""
    height, width = ((side + stride - 1) // stride * stride - side for side in x.shape[-2:])
    return height, width


def check_maps(maps: Sequence[Tensor], in_channels: Sequence[int], decoder: nn.Module) -> None:
    """Refuse maps that are not those the decoder was built for."""
    name = type(decoder).__name__
    loose = isinstance(maps, (Mapping, Tensor, Pyramid))
    if loose or any(not isinstance(m, Tensor) for m in maps):
        held = "" if loose else f" of {', '.join(type(m).__name__ for m in maps)}"
        raise UserError(
            f"{name} takes a list of maps, finest first, but got a {type(maps).__name__}{held}; "
            f"pass {_list_of_maps(maps, in_channels)}"
        )
    got, last = ([m.shape[axis] for m in maps] for axis in (1, -1))
    if got != list(in_channels):
        remedy = "pass the list of maps it was built for"
        if last == list(in_channels):
            remedy = "these maps are (N, H, W, C): pass each as m.permute(0, 3, 1, 2)"
        raise UserError(
            f"{name} was built with in_channels={list(in_channels)}, finest map first, but got "
            f"maps with channels {got}; {remedy}"
        )


def _list_of_maps(maps: Any, in_channels: Sequence[int]) -> str:
    """Say what to pass instead of `maps`, which is no list of maps."""
    if isinstance(maps, Pyramid):
        return "its parts, as in decoder(*pyramid)"
    if isinstance(maps, Tensor):
        return "[maps]"
    if isinstance(maps, Mapping):
        tensors = {key: m for key, m in maps.items() if isinstance(m, Tensor) and m.ndim == 4}
        for axis in (1, -1):  # (N, H, W, C) gets its own sentence once it is in a list
            keys = [key for key, m in tensors.items() if m.shape[axis] in in_channels]
            if keys and len(keys) == len(maps):
                return "list(maps.values())"
            if keys:
                return f"[{', '.join(f'maps[{key!r}]' for key in keys)}]"
    return f"tensors (N, C, H, W) with channels {list(in_channels)}"


def check_strides(in_channels: Sequence[int], strides: Sequence[int]) -> None:
    """Refuse strides that x2 steps do not connect."""
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
    """List the strides of the x2 steps from `stride` up to full resolution.

    >>> strides_above(16)
    [8, 4, 2, 1]
    """
    return [2**k for k in reversed(range(stride.bit_length() - 1))]


def size_at(stride: int, sizes: Sequence[Size] | None) -> Size | None:
    """Return the recorded size of the grid at `stride`, or None if no sizes were recorded."""
    if sizes is None:
        return None
    octave = stride.bit_length() - 1
    if octave >= len(sizes):
        raise UserError(
            f"sizes={list(sizes)} must hold the (H, W) at strides 1, 2, 4, ... but has none for "
            f"stride {stride}; pass sizes=None to climb by exact doubling"
        )
    return sizes[octave]
