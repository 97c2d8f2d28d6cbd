"""Look at a folder of images and one of masks: names, splits, labels, sizes, channels, videos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.data.card import Split
from segkit.data.images import guess_white, has_alpha, read_image
from segkit.data.label_proposal import Labels, Proposal, count_labels, propose_classes
from segkit.data.pairs import Listing, Pair, list_split
from segkit.data.parallel import parallel_map
from segkit.data.raster import LOSSLESS_SUFFIXES, raster_files, raster_size, read_raster
from segkit.doctor.fingerprint import Fingerprint, fingerprint
from segkit.doctor.video import find_videos
from segkit.errors import UserError
from segkit.features import Size
from segkit.starter.split import share_out

LOOKED_INTO = 40  # images whose pixels are read for their channels and depth
FINGERPRINTED = 3000  # images that are compared to find videos; more would take minutes
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Survey:
    """What lies in the two folders.

    Args:
        root: folder that holds both.
        splits: entries of the card; paths relative to `root`, without lists.
        names: of the pairs of each split.
        listed: splits that are a part of their folders, so that a list has to name theirs.
        left_out: names of images without a mask and of masks without an image.
        labels: what the masks hold.
        proposal: the classes that this suggests.
        lossy_masks: whether masks are JPEG or the like.
        channels: of the images.
        white: pixel value that is 1.0; None: 8 bits.
        sizes: `(H, W)` of the images, smallest to largest by area.
        sequences: pattern for the names of a video's frames; None: the images form no videos.
    """

    root: Path
    splits: dict[str, Split]
    names: dict[str, list[str]]
    listed: list[str]
    left_out: list[str]
    labels: Labels
    proposal: Proposal
    lossy_masks: bool
    channels: int
    white: float | None
    sizes: list[Size]
    sequences: str | None

    @property
    def count(self) -> int:
        """Number of pairs."""
        return sum(map(len, self.names.values()))

    @property
    def rarest(self) -> tuple[str, float]:
        """The rarest class and its share of the pixels that are not void."""
        pixels = {
            name: self.labels.pixels[label]
            for label, name in self.proposal.label_map.items()
            if name in self.proposal.names
        }
        name = min(pixels, key=lambda each: pixels[each])
        return name, pixels[name] / max(sum(pixels.values()), 1)


def survey(images: Path, masks: Path) -> Survey:
    """Look at a folder of images and one of masks.

    Raises:
        UserError: no such folder, nothing that pairs up, or masks that make no classes.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; name those of the images and the masks")
    try:
        root = Path(os.path.commonpath([images.resolve(), masks.resolve()]))
    except ValueError as error:  # Windows
        raise UserError(
            f"{images} and {masks} are on different drives; keep them below one folder"
        ) from error
    splits = _find_splits(root, images.resolve(), masks.resolve())
    found = {name: _pair(root, split) for name, split in splits.items()}
    splits = {name: split for name, (split, _) in found.items()}
    listings = [listing for _, listing in found.values()]
    pairs = [pair for listing in listings for pair in listing.pairs]
    files = [pair.mask for pair in pairs]
    lossy = any(file.suffix.lower() not in LOSSLESS_SUFFIXES for file in files)
    labels = count_labels(files, lossy)
    proposal = propose_classes(labels)
    if proposal is None:
        raise UserError(
            f"the {len(files)} masks hold {len(labels.pixels)} different labels, of which no "
            "classes can be made; name the folder of the masks, or write the card by hand: see "
            "datasets/README.md"
        )
    channels, white = _look_at([pair.image for pair in pairs])
    sizes = list(parallel_map(lambda index: raster_size(pairs[index].image), len(pairs)))
    names = {name: listing.pairs.names for name, (_, listing) in found.items()}
    sequences = None
    if len(pairs) <= FINGERPRINTED:
        sequences = _find_sequences(pairs, channels, white)
    listed = [name for name, (_, each) in found.items() if each.without_mask or each.without_image]
    if "train" not in names or "val" not in names:
        listed = ["train", "val", *(name for name in listed if name not in ("train", "all"))]
        whole_of = "train" if "train" in names else "all"
        names = share_out(names.pop(whole_of), sequences) | names
        whole = splits.pop(whole_of)
        splits = {"train": whole, "val": whole} | splits
    return Survey(
        root=root,
        splits=splits,
        names=names,
        listed=listed,
        left_out=[n for each in listings for n in (*each.without_mask, *each.without_image)],
        labels=labels,
        proposal=proposal,
        lossy_masks=lossy,
        channels=channels,
        white=white,
        sizes=sorted(sizes, key=lambda size: size[0] * size[1]),
        sequences=sequences,
    )


def _find_splits(root: Path, images: Path, masks: Path) -> dict[str, Split]:
    """Return the splits that subfolders name, else all files as one, called `all`."""
    found = {}
    for name, spellings in SPLITS.items():
        for folder in spellings:
            if (images / folder).is_dir() and (masks / folder).is_dir():
                found[name] = _entry(root, images / folder, masks / folder)
    return found if "train" in found else {"all": _entry(root, images, masks)}


def _entry(root: Path, images: Path, masks: Path) -> Split:
    folders = {"images": os.path.relpath(images, root), "masks": os.path.relpath(masks, root)}
    if images == masks:
        folders["mask_suffix"] = _ending_of_masks(images)
    return Split(**folders)


def _ending_of_masks(folder: Path) -> str:
    """Return what the masks' names add to those of the images in the same folder."""
    stems = {os.path.splitext(file)[0] for file in raster_files(folder)}
    endings: dict[str, int] = {}
    for stem in stems:
        for other in (stem[:end] for end in range(1, len(stem))):
            if other in stems:
                endings[stem[len(other) :]] = endings.get(stem[len(other) :], 0) + 1
    if not endings:
        raise UserError(
            f"{folder} holds images and masks alike, whose names do not tell them apart; give "
            "masks a name such as a_mask.png beside a.png"
        )
    return max(endings, key=lambda ending: endings[ending])


def _pair(root: Path, split: Split) -> tuple[Split, Listing]:
    """Pair a split by name; where nothing pairs, without what all images or all masks end in."""
    found = list_split(root, split)
    if found.doubles:
        raise UserError("\n".join(found.doubles[:10]))
    if not found.pairs.files and found.without_mask and found.without_image:
        endings = {
            "image_suffix": _common_ending(found.without_mask),
            "mask_suffix": _common_ending(found.without_image),
        }
        split = split.model_copy(update=endings)
        found = list_split(root, split)
    if not found.pairs.files:
        examples = ", ".join((*found.without_mask[:2], *found.without_image[:2]))
        raise UserError(
            f"no image in {root / split.images} has a mask of its name in {root / split.masks}: "
            f"{found.image_count} images, {found.mask_count} masks"
            + (f", such as {examples}" if examples else "")
        )
    return split, found


def _common_ending(names: Sequence[str]) -> str:
    """Return what all names end in, from a separator on, such as `_mask`."""
    ending = os.path.commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071
    starts = [ending.find(mark) for mark in "_-. " if mark in ending]
    return ending[min(starts) :] if starts else ""


def _look_at(files: Sequence[Path]) -> tuple[int, float | None]:
    """Return the channels of the images, and the value that is white; None for 8 bits."""
    some = files[:: 1 + len(files) // LOOKED_INTO]
    channels, white = [], None
    for file in some:
        raster = read_raster(file)
        pixels = raster.pixels
        held = 3 if raster.palette is not None else pixels.shape[2] if pixels.ndim == 3 else 1
        channels.append(held - has_alpha(held, file))
        if pixels.dtype != np.uint8:
            white = max(white or 0.0, guess_white(pixels))
    return max(set(channels), key=channels.count), white


def _find_sequences(pairs: Sequence[Pair], channels: int, white: float | None) -> str | None:
    """Return the pattern of a video's frames, where names and looks show some."""

    def look(index: int) -> Fingerprint:
        return fingerprint(read_image(pairs[index].image, channels, white))

    prints = list(parallel_map(look, len(pairs)))
    return r"^(.*?)\d+$" if find_videos([pair.name for pair in pairs], prints) else None
