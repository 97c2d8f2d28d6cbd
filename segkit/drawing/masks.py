"""Masks as pictures: colours for classes, overlays over images, maps of the errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segkit.data.images import Pixels
from segkit.labels import IGNORE_INDEX, Color

VOID_COLOR: Color = (146, 162, 190)  # black, white and grey are often classes
ERROR_COLOR: Color = (200, 0, 0)
GREYS = 12  # of the faded image, few, so that a lossless picture of it is small

Mask = NDArray[np.integer] | Tensor


def rgb(color: Color) -> tuple[float, float, float]:
    """Scale a colour to 0 ... 1, as matplotlib takes it."""
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def colorize(mask: Mask, colors: Sequence[Color]) -> NDArray[np.uint8]:
    """Paint class indices in their display colours, and void in its own.

    Shape: `(H, W)` to RGB `(H, W, 3)`.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    palette[IGNORE_INDEX] = VOID_COLOR
    return palette[np.asarray(mask)]


def displayable(image: Pixels | Tensor) -> NDArray[np.uint8]:
    """Show an image of any number of channels as RGB: the first three, or grey.

    Shape: array `(H, W, C)` or tensor `(C, H, W)`, uint8 or float 0 ... 1, to uint8 `(H, W, 3)`.
    """
    if isinstance(image, Tensor):
        image = image.permute(1, 2, 0).numpy()
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if shown.dtype != np.uint8:
        shown = np.clip(255 * shown, 0, 255)
    return shown.astype(np.uint8, copy=False)


def overlay(
    image: Pixels | Tensor, mask: Mask, colors: Sequence[Color], opacity: float = 0.55
) -> NDArray[np.uint8]:
    """Lay the colours of classes and void over an image.

    Shape: array `(H, W, C)` or tensor `(C, H, W)`, and mask `(H, W)`, to RGB `(H, W, 3)`.
    """
    mixed = (1 - opacity) * displayable(image) + opacity * colorize(mask, colors)
    return mixed.round().astype(np.uint8)


def error_map(image: Pixels | Tensor, target: Mask, prediction: Mask) -> NDArray[np.uint8]:
    """Paint errors red, void in its colour, correct pixels as the faded image; see `overlay`."""
    target, prediction = np.asarray(target), np.asarray(prediction)
    light = displayable(image).mean(-1, keepdims=True) / 255
    faded = 175 + 77 * (light * (GREYS - 1)).round() / (GREYS - 1)
    painted = np.repeat(faded, 3, axis=-1).round().astype(np.uint8)
    painted[target != prediction] = ERROR_COLOR
    painted[target == IGNORE_INDEX] = VOID_COLOR
    return painted
