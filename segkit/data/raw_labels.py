"""Raw labels: the values or colours that mask files hold.

A raw label is one number: a value from 0 to 65535, or a colour packed into 24 bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from segkit.data.card import IGNORE, Card
from segkit.data.raster import Raster, read_raster
from segkit.errors import UserError


def read_raw(path: Path, card: Card) -> NDArray[np.integer]:
    """Read a mask file as it is: values `(H, W)`, or RGB `(H, W, 3)` where the card maps colours.

    Palette files give their indices, or their colours where the card maps colours.
    """
    raster = read_raster(path)
    if raster.lossy and not card.lossy_masks:
        raise UserError(
            f"{path}: is stored in a lossy format, which makes up labels at every border; save "
            "masks as PNG, or accept the nearest known label with lossy_masks: true in the card"
        )
    return _colors(raster, path) if card.by_color else _values(raster, path, card)


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


def _colors(raster: Raster, path: Path) -> NDArray[np.integer]:
    pixels = raster.pixels if raster.palette is None else raster.palette[raster.pixels]
    if pixels.dtype != np.uint8:
        raise UserError(f"{path}: has {pixels.dtype} pixels, but the card's label_map has colours")
    if pixels.ndim == 2 or pixels.shape[2] < 3:  # grey, perhaps with alpha
        return np.stack([pixels if pixels.ndim == 2 else pixels[..., 0]] * 3, axis=-1)
    return pixels[..., :3]


def _values(raster: Raster, path: Path, card: Card) -> NDArray[np.integer]:
    values = raster.pixels
    if values.ndim == 3:
        if values.shape[2] >= 3 and (values[..., :1] != values[..., 1:3]).any():
            raise UserError(_colors_instead(values[..., :3], path, card))
        values = values[..., 0]  # grey saved as colours, or with alpha
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


def _colors_instead(colors: NDArray[Any], path: Path, card: Card) -> str:
    """Explain that a mask holds colours where values were expected, and how to map them."""
    if colors.dtype != np.uint8:
        return f"{path}: has colours of {colors.dtype}; save masks with 8 bits a channel"
    values, counts = np.unique(pack(colors), return_counts=True)
    common = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))).most_common(8)
    names = {int(pack(np.array(entry.color))): entry.name for entry in card.classes}
    entries = {as_color(value): names.get(value, IGNORE) for value, _ in common}
    more = ", ...}" if len(values) > len(common) else "}"
    return (
        f"{path}: is a colour mask of {len(values)} colours, but the card's label_map has values; "
        f"give it the colours, e.g. label_map: {as_yaml(entries).removesuffix('}')}{more}"
    )


def as_yaml(entries: Mapping[Any, str]) -> str:
    """Format a mapping as YAML on one line."""
    text: str = yaml.safe_dump(
        dict(entries), default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.strip()
