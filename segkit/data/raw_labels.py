"""Raw labels: the values or colours that mask files hold.

A raw label is one number: a value from 0 to 65535, or a colour packed into 24 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from segkit.data.raster import Raster, read_raster
from segkit.errors import UserError


def read_mask(path: Path, lossy: bool) -> Raster:
    """Read a mask file as it is; refuse a lossy format unless `lossy` allows it."""
    raster = read_raster(path)
    if raster.lossy and not lossy:
        raise UserError(
            f"{path}: is stored in a lossy format, which makes up labels at every border; save "
            "masks as PNG, or accept the nearest known label with lossy_masks: true in the card"
        )
    return raster


def pack(colors: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Pack RGB colours `(..., 3)` into one number each, `(...)`."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return (red << 16 | green << 8 | blue).astype(np.uint32, copy=False)


def unpack(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Undo `pack`: `(...)` to `(..., 3)`."""
    return np.stack([labels >> 16 & 255, labels >> 8 & 255, labels & 255], -1).astype(np.uint8)


def as_number(key: int | str) -> int:
    """Return a key of a card's `label_map` as a raw label."""
    return key if isinstance(key, int) else int(pack(np.array([int(c) for c in key.split()])))


def as_color(label: int) -> str:
    """Return a packed colour as a card writes it, `R G B`."""
    return " ".join(map(str, unpack(np.array(label)).tolist()))


def as_key(label: int, by_color: bool) -> int | str:
    """Return a raw label as a key of a card's `label_map`: a value, or `R G B`; see `as_number`."""
    return as_color(label) if by_color else label


def as_label_map(names: Mapping[int, str], by_color: bool) -> str:
    """Write a label map as a card has it, on one line."""
    entries = {as_key(label, by_color): names[label] for label in sorted(names)}
    return f"label_map: {as_yaml(entries)}"


def holds_colors(raster: Raster) -> bool:
    """Whether a mask file holds colours; grey saved as colours and palette indices are values."""
    pixels = raster.pixels
    colored = pixels.ndim == 3 and pixels.shape[2] >= 3
    return colored and bool((pixels[..., :1] != pixels[..., 1:3]).any())


def colors_of(raster: Raster, path: Path) -> NDArray[np.integer]:
    """Return the colours of a mask file, RGB `(H, W, 3)`; of a palette, those of its indices."""
    pixels = raster.pixels if raster.palette is None else raster.palette[raster.pixels]
    if pixels.dtype != np.uint8:
        raise UserError(f"{path}: has {pixels.dtype} pixels, but the card's label_map has colours")
    if pixels.ndim == 2 or pixels.shape[2] < 3:  # grey, perhaps with alpha
        return np.stack([pixels if pixels.ndim == 2 else pixels[..., 0]] * 3, axis=-1)
    return pixels[..., :3]


def values_of(raster: Raster, path: Path) -> NDArray[np.integer]:
    """Return the values of a mask file that holds no colours, `(H, W)`."""
    values = raster.pixels if raster.pixels.ndim == 2 else raster.pixels[..., 0]
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind not in "iu":
        raise UserError(f"{path}: holds {values.dtype}; save labels as whole numbers")
    if values.dtype not in (np.uint8, np.uint16) and values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise UserError(f"{path}: holds labels from {low} to {high}; save them as 0 to 65535")
        return values.astype(np.uint16)
    return values


def as_yaml(entries: Any) -> str:
    """Format a mapping or list as YAML on one line."""
    text: str = yaml.safe_dump(
        entries, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.strip()
