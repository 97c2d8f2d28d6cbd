"""Images as the network expects them: number of channels, and 8 bits or shares of white."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segkit.data.raster import read_raster
from segkit.errors import UserError

Pixels = NDArray[np.uint8] | NDArray[np.float32]


def read_image(path: Path, channels: int | None = 3, white: float | None = None) -> Pixels:
    """Read an image, turned upright.

    Args:
        path: of a file in any format of `raster.SUFFIXES`.
        channels: to return. Grey becomes RGB and vice versa, and an alpha channel is dropped; any
            other number must be what the file holds. None: what the file holds.
        white: the pixel value that is 1.0; None: the file has 8 bits, which stay as they are.

    Shape: `(H, W, channels)`, uint8, or float32 where `white` is given.

    Raises:
        UserError: not an image, cut short, deeper than `white` says, or of other channels.
    """
    scaled = _scale(_read(path), white, path)
    return scaled if channels is None else _fit_channels(scaled, channels, path)


def read_any(path: Path) -> Pixels:
    """Read an image of any depth and channels, turned upright; `guess_white` says what is white.

    Shape: `(H, W, C)`, uint8 for files of 8 bits, else float32.
    """
    pixels = _read(path)
    return _scale(pixels, None if pixels.dtype == np.uint8 else guess_white(pixels), path)


def _read(path: Path) -> NDArray[Any]:
    """Return the pixels of a file as `(H, W, C)`; those of a palette image as its colours."""
    raster = read_raster(path)
    pixels = raster.pixels if raster.palette is None else raster.palette[raster.pixels]
    return pixels[..., None] if pixels.ndim == 2 else pixels


def to_grey(image: NDArray[Any]) -> NDArray[Any]:
    """Weigh the first three channels as ITU-R BT.601 does; of fewer, take the first.

    Shape: `(H, W, C)`, uint8 or float 0 ... 1, to `(H, W)`, uint8 or float32 0 ... 255.
    """
    if image.dtype != np.uint8:
        image = np.float32(255) * image.astype(np.float32)
    if image.shape[-1] < 3:
        return image[..., 0]
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)


def convert_channels(pixels: Pixels, channels: int | None) -> Any:
    """Turn RGB into grey, by the weights of ITU-R BT.601, or grey into RGB, if that is asked for.

    Shape: `(H, W, C)`; pixels of other channels come back as they are.
    """
    if (pixels.shape[2], channels) == (3, 1):
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[..., None]
    return np.repeat(pixels, 3, axis=2) if (pixels.shape[2], channels) == (1, 3) else pixels


def has_alpha(channels: int, path: Path) -> bool:
    """Whether the last channel of a file is opacity."""
    return channels in (2, 4) and path.suffix.lower() in (".png", ".webp", ".gif")


def _fit_channels(pixels: Pixels, channels: int, path: Path) -> Any:
    held = pixels.shape[2]
    if channels in (1, 3) and has_alpha(held, path):
        pixels, held = pixels[..., : held - 1], held - 1  # without alpha
    pixels = convert_channels(pixels, channels)
    if pixels.shape[2] == channels:
        return np.ascontiguousarray(pixels)
    raise UserError(
        f"{path}: has {held} channels, its shape is {pixels.shape} (H, W, C), but "
        f"model.in_channels is {channels}; set model.in_channels={held}, or save the file otherwise"
    )


def _scale(pixels: NDArray[Any], white: float | None, path: Path) -> Pixels:
    if white is None:
        if pixels.dtype == np.uint8:
            return pixels
        raise UserError(
            f"{path}: has {pixels.dtype} pixels up to {pixels.max(initial=0):g}; say in the card "
            f"which value is white, e.g. image_max: {guess_white(pixels):g}"
        )
    if pixels.dtype == np.uint8 and white > 255:
        raise UserError(
            f"{path}: has 8 bits a channel, but the card's image_max is {white:g}; keep files of "
            "different depth in sets of their own"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise UserError(f"{path}: holds pixels that are NaN or infinite; fill them, e.g. with 0")
    return pixels.astype(np.float32) / np.float32(white)


def guess_white(pixels: NDArray[Any]) -> float:
    """Round the largest value up to full 8, 10, 12, 14 or 16 bits, or to 1 for fractions."""
    highest = float(pixels.max(initial=0))
    if pixels.dtype.kind == "f" and highest <= 1:
        return 1
    return next((2.0**b - 1 for b in (8, 10, 12, 14, 16) if highest < 2**b), highest)
