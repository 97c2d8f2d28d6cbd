"""The samples of a split, read from disk as a card describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.data.images import Pixels, read_image
from segkit.data.label_map import LabelMap
from segkit.data.pairs import check_sizes, pair_files
from segkit.data.raster import raster_size
from segkit.data.shared_cache import SharedCache
from segkit.errors import UserError


class SampleReader:
    """Images and masks of a split; only their names are held in memory.

    Args:
        card: describes the data set.
        split: name of one of the card's splits.
        channels: of the images, as the model expects them.
        cache: `ram` keeps decoded samples in memory that all loading processes share.

    Raises:
        UserError: the data is missing or does not pair up, or the cache does not fit into memory.
    """

    def __init__(
        self, card: Card, split: str, channels: int = 3, cache: Literal["none", "ram"] = "none"
    ) -> None:
        ensure_data(card)
        self.card, self.split, self.channels = card, split, channels
        self.pairs = pair_files(card, split)
        self.labels = LabelMap(card)
        self.cache: SharedCache | None = None
        if cache == "ram":
            shapes = [(*raster_size(pair.image), channels) for pair in self.pairs]
            dtype = np.uint8 if card.image_max is None else np.float32
            self.cache = SharedCache(shapes, dtype, split)

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[Pixels, NDArray[np.uint8]]:
        """Return an image `(H, W, C)` and its class indices `(H, W)`, untransformed.

        Raises:
            UserError: an unreadable file, sizes that differ, or labels the card does not name.
        """
        if self.cache is None:
            return self.decode(index)
        sample = self.cache.get(index)
        return sample if sample is not None else self.cache.put(index, *self.decode(index))

    def decode(self, index: int) -> tuple[Pixels, NDArray[np.uint8]]:
        """Do what `read` does, always from the files."""
        pair = self.pairs[index]
        image = self.read_image(index)
        mask = self.labels.read(pair.mask)
        check_sizes(image.shape[:2], mask.shape, pair)
        return image, mask

    def read_image(self, index: int) -> Pixels:
        """Return an image without its mask, `(H, W, C)`."""
        return read_image(self.pairs[index].image, self.channels, self.card.image_max)


def warn_of_overlap(train: SampleReader, val: SampleReader) -> list[str]:
    """Return a warning for the log if training and validation share images, else nothing."""
    shared = train.pairs.image_paths & val.pairs.image_paths
    if not shared:
        return []
    if train.split == val.split:
        what = f"data.train_split and data.val_split are both '{train.split}'"
    else:
        what = f"{len(shared)} of the {len(val)} images of '{val.split}' are in '{train.split}' too"
    return [
        f"WARNING: {what}, so the validation judges images that were trained on and its scores "
        "will be too high"
    ]


def ensure_data(card: Card) -> None:
    """Draw a built-in data set that does not exist yet; refuse a root that does not exist."""
    if card.builtin == "streets":
        from segkit import streets  # takes time to import, and few data sets are drawn

        try:
            streets.generate(Path(card.root))
        except OSError as error:
            raise UserError(f"cannot draw the data set into {card.root}: {error}") from error
    elif not Path(card.root).is_dir():
        raise UserError(
            f"the data of '{card.name}' is not at {card.root}; get it from "
            f"{card.source or 'its source'} and name its folder with --data-root DIR"
        )
