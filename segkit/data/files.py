"""Reading image and mask files, and pairing them by name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segkit.data.card import Card, split_of
from segkit.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MASK_SUFFIXES = (".png",)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name for them
INDEX_MODES = ("1", "L", "P", "I;16")  # masks whose pixels are label values


class Pair(NamedTuple):
    """An image file and its mask."""

    name: str
    image: Path
    mask: Path


def read_image(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    """Read an image, turned upright as its EXIF data say.

    Shape: `(H, W, channels)`, RGB where there are three.

    Raises:
        UserError: not an image, cut short, deeper than 8 bits, or an odd number of channels.
    """
    if channels not in MODES:
        raise UserError(f"image files have 1, 3 or 4 channels, but model.in_channels is {channels}")
    image = _open(path)
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: has pixels of mode {image.mode}; convert it to 8 bits a channel")
    pixels = np.array(image.convert(MODES[channels]))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_mask(path: Path) -> NDArray[np.integer]:
    """Read the raw label values of a mask; a palette PNG gives its indices, not its colours.

    Shape: `(H, W)`.

    Raises:
        UserError: not an image, cut short, or colours instead of label values.
    """
    image = _open(path)
    if image.mode not in INDEX_MODES:
        raise UserError(
            f"{path}: is a colour mask (mode {image.mode}); save label values as a grey or "
            "palette PNG"
        )
    return np.asarray(image).astype(np.uint16 if image.mode == "I;16" else np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Give (H, W) of an upright image, from its header where that is enough."""
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":
                image.load()  # Pillow turns a TIFF itself, and then says so
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the axes
            width, height = image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read: {error}; replace the file or take it out of the set")


def pair_files(card: Card, split: str) -> list[Pair]:
    """Pair the images and masks of a split by name, sorted by name or as its list says.

    Raises:
        UserError: a folder or list that is not there, or files without a partner, with counts and
            five names a side.
    """
    root, entry = Path(card.root), split_of(card, split)
    images = _by_stem(root / entry.images, IMAGE_SUFFIXES)
    masks = _by_stem(root / entry.masks, MASK_SUFFIXES)
    if entry.list is not None:
        names = _read_list(root / entry.list)
        without_image = [n for n in names if n not in images]
        without_mask = [n for n in names if n not in masks]
    else:
        names = sorted(images.keys() & masks.keys())
        without_image = sorted(masks.keys() - images.keys())
        without_mask = sorted(images.keys() - masks.keys())
    if not names or without_image or without_mask:
        raise UserError(
            f"split '{split}' of '{card.name}' does not pair up: {len(images)} images in "
            f"{root / entry.images}, {len(masks)} masks in {root / entry.masks}; "
            f"{_some(without_mask)} without a mask, {_some(without_image)} without an image"
        )
    return [Pair(name, images[name], masks[name]) for name in names]


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; mend the card or name --set data.root=DIR")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path.name} share a name; keep one of them")
        found[path.stem] = path
    return found


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {path} cannot be read: {error}") from error
    return [_stem(line.strip()) for line in lines if line.strip()]


def _stem(name: str) -> str:
    """Cut a known suffix off; other dots belong to the name."""
    return name[: -len(suffix)] if (suffix := Path(name).suffix).lower() in IMAGE_SUFFIXES else name


def _some(names: list[str]) -> str:
    shown = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
    return f"{len(names)}{shown}"
