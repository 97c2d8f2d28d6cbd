"""Images and their masks, paired by file name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Literal, NamedTuple

from segkit.data.card import Card, Split, split_of
from segkit.data.raster import SUFFIXES, raster_files
from segkit.errors import UserError
from segkit.files import require_file


class Pair(NamedTuple):
    """An image file and its mask."""

    name: str
    image: Path
    mask: Path


class Pairs:
    """The pairs of a split; only names (name, image, mask) below two folders are in memory."""

    def __init__(self, images: Path, masks: Path, files: list[tuple[str, str, str]]) -> None:
        self.images = images
        self.masks = masks
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pair:
        name, image, mask = self.files[index]
        return Pair(name, self.images / image, self.masks / mask)

    def __iter__(self) -> Iterator[Pair]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Names of the pairs in order."""
        return [name for name, _, _ in self.files]

    @property
    def image_paths(self) -> set[str]:
        """Paths of the images; strings, as a `Path` each takes a second for 100,000 of them."""
        folder = self.images.as_posix()
        return {f"{folder}/{image}" for _, image, _ in self.files}


class Listing(NamedTuple):
    """The files of a split, paired or not."""

    pairs: Pairs
    image_count: int
    mask_count: int
    without_mask: list[str]  # names of images, or lines of the list
    without_image: list[str]  # names of masks, or lines of the list
    doubles: list[str]  # a sentence for each file that shares its name with another


def pair_files(card: Card, split: str) -> Pairs:
    """Pair the images and masks of a split by name, sorted by name or as its list says.

    A file without a partner or of another's name is an error, with counts and five names a side.
    """
    found = list_files(card, split)
    if found.doubles:
        raise UserError("\n".join(found.doubles[:10]))
    if not found.pairs.files or found.without_image or found.without_mask:
        raise UserError(explain_unpaired(card, split, found))
    return found.pairs


def list_files(card: Card, split: str) -> Listing:
    """List the files of a split and pair them."""
    return list_split(Path(card.root), split_of(card, split))


def list_split(root: Path, entry: Split) -> Listing:
    """List the files of a split below the root, and pair them."""
    images, double_images = _by_name(root, entry, entry.images, "image")
    masks, double_masks = _by_name(root, entry, entry.masks, "mask")
    doubles = double_images + double_masks
    names = sorted(images.keys() | masks.keys())
    if entry.list is not None:
        names = _read_list(root / entry.list, entry.image_suffix, images.keys() | masks.keys())
        twice = [name for name, count in Counter(names).items() if count > 1]
        doubles += [f"{root / entry.list} names {name} twice; keep it once" for name in twice]
    without_mask = [n for n in names if n not in masks]
    without_image = [n for n in names if n not in images]
    files = [(n, images[n], masks[n]) for n in names if n in images and n in masks]
    pairs = Pairs(root / entry.images, root / entry.masks, files)
    return Listing(pairs, len(images), len(masks), without_mask, without_image, doubles)


def explain_unpaired(card: Card, split: str, found: Listing) -> str:
    """Explain what does not pair up, with counts, folders and five names a side."""
    without_mask, without_image = found.without_mask, found.without_image
    text = (
        f"split '{split}' of '{card.name}' does not pair up: {found.image_count} images in "
        f"{found.pairs.images}, {found.mask_count} masks in {found.pairs.masks}; "
        f"{_some(without_mask)} without a mask, {_some(without_image)} without an image"
    )
    suffix = _common_suffix(without_mask, without_image)
    return text + (f"; masks' names end in '{suffix}': say mask_suffix: {suffix}" if suffix else "")


def check_sizes(image: tuple[int, ...], mask: tuple[int, ...], pair: Pair) -> None:
    """Refuse an image and a mask of different sizes."""
    if image != mask:
        raise UserError(
            f"{pair.image} is {image[0]}x{image[1]} (H x W) but {pair.mask} is "
            f"{mask[0]}x{mask[1]}; they must show the same pixels"
        )


def _by_name(
    root: Path, split: Split, folder: str, kind: Literal["image", "mask"]
) -> tuple[dict[str, str], list[str]]:
    """Return the files of a folder by the name that pairs, and a sentence for each double."""
    top = root / folder
    if not top.is_dir():
        raise UserError(
            f"there is no folder {top}; mend the card, or name the folder of the data with "
            "--data-root DIR"
        )
    found: dict[str, str] = {}
    doubles = []
    for file in sorted(raster_files(top)):
        name = split.pairing_name(os.path.splitext(file)[0], kind)
        if name is None:
            continue
        if name in found:
            doubles.append(f"{top / found[name]} and {file} share a name; keep one of them")
        else:
            found[name] = file
    return found, doubles


def _read_list(path: Path, name_suffix: str, known: Set[str]) -> list[str]:
    """Return the names in a list; one that no file has is told by its line alone.

    A card may point at any text file, whose content is nobody's business.
    """
    try:
        require_file(path)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"the list {path} cannot be read: {why}; its path in the card is relative to the "
            "folder of the data"
        ) from error
    names = []
    for number, name in enumerate(map(str.strip, lines), start=1):
        stem, suffix = os.path.splitext(name)
        stem = stem if suffix.lower() in SUFFIXES else name  # other dots belong to the name
        stem = stem.removesuffix(name_suffix)
        if name:
            names.append(stem if stem in known else f"line {number} of {path.name}")
    return names


def _common_suffix(without_mask: list[str], without_image: list[str]) -> str:
    """Return what every mask's name adds to its image's, e.g. `_mask`; "" if nothing."""
    if not without_mask or not without_image:
        return ""
    first = min(without_mask)
    extras = {m[len(first) :] for m in without_image if m.startswith(first)} - {""}
    images = set(without_mask)
    fitting = (e for e in sorted(extras) if images == {m.removesuffix(e) for m in without_image})
    return next(fitting, "")


def _some(names: list[str]) -> str:
    shown = f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
    return f"{len(names)}{shown}"
