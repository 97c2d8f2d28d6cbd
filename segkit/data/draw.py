"""Masks as pictures: colours for classes, overlays over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.data.images import Pixels
from segkit.data.labels import IGNORE_INDEX

VOID_COLOR = (0, 0, 0)


def rgb(color: tuple[int, int, int]) -> tuple[float, float, float]:
    """Scale a colour to 0 ... 1, as matplotlib wants it."""
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def colorize(
    mask: NDArray[np.integer], colors: Sequence[tuple[int, int, int]]
) -> NDArray[np.uint8]:
    """Paint class indices in their display colours, void black.

    Shape: `(H, W)` to RGB `(H, W, 3)`.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    palette[IGNORE_INDEX] = VOID_COLOR
    return palette[mask]


def displayable(image: Pixels) -> NDArray[np.uint8]:
    """Show an image of any number of channels as RGB: the first three, or grey.

    Shape: `(H, W, C)`, uint8 or float 0 ... 1, to uint8 `(H, W, 3)`.
    """
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if shown.dtype != np.uint8:
        shown = np.clip(255 * shown, 0, 255)
    return shown.astype(np.uint8, copy=False)


def overlay(
    image: Pixels,
    mask: NDArray[np.integer],
    colors: Sequence[tuple[int, int, int]],
    opacity: float = 0.55,
) -> NDArray[np.uint8]:
    """Lay class colours over an image; void leaves the image as it is.

    Shape: image `(H, W, C)` and mask `(H, W)` to RGB `(H, W, 3)`.
    """
    base = displayable(image)
    mixed = (1 - opacity) * base + opacity * colorize(mask, colors)
    return np.where(mask[..., None] == IGNORE_INDEX, base, mixed.round()).astype(np.uint8)
