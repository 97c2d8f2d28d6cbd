"""Images with class-index masks, read from disk as a card describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from segkit.config import Config
from segkit.data.card import Card, ensure_data
from segkit.data.images import Pixels, read_image
from segkit.data.labels import LabelMap
from segkit.data.memory import SharedCache
from segkit.data.pairs import Pair, Pairs, pair_files
from segkit.data.raster import raster_size
from segkit.data.transforms import (
    IMAGENET_MEAN,
    TransformSpec,
    apply_transforms,
    build_transforms,
    channel_numbers,
)
from segkit.errors import UserError


class Sample(NamedTuple):
    """One image as the network sees it, before normalisation.

    Args:
        image: uint8 `(C, H, W)`, or float32 where the card names the value of white.
        mask: uint8 class indices `(H, W)`, 255 for void.
        name: of the files, without suffix.
    """

    image: Tensor
    mask: Tensor
    name: str


class SegmentationDataset(Dataset[Sample]):
    """A split of a data set; of its samples, nothing but the names is held.

    Args:
        card: describes the set.
        split: of the card.
        transforms: albumentations by name, see `build_transforms`.
        channels: of the images.
        mean: per channel, the colour of padding.
        seed: of the augmentation.
        where: the transforms' key in the config, for errors.
        cache: `ram` keeps decoded samples in memory that loading processes share.

    Raises:
        UserError: data that is not there or does not pair up; unknown transforms; too little
            memory for the cache.
    """

    def __init__(
        self,
        card: Card,
        split: str,
        transforms: Sequence[TransformSpec] = (),
        *,
        channels: int = 3,
        mean: Sequence[float] = IMAGENET_MEAN,
        seed: int = 0,
        where: str = "transforms",
        cache: Literal["none", "ram"] = "none",
    ) -> None:
        self.chain = build_transforms(transforms, mean, where, card.image_max is not None)
        ensure_data(card)
        self.card = card
        self.split = split
        self.channels = channels
        self.seed = seed
        self.where = where
        self.pairs = pair_files(card, split)
        self.labels = LabelMap(card)
        self.cache = self._shared_cache() if cache == "ram" else None

    def __len__(self) -> int:
        return len(self.pairs)

    def keep(self, count: int, repeats: int = 1) -> None:
        """Keep the first samples alone, each so many times.

        Raises:
            UserError: there are not as many.
        """
        if count > len(self):
            raise UserError(f"'{self.split}' has {len(self)} images, not {count}")
        kept = self.pairs.files[:count] * repeats
        self.pairs = Pairs(self.pairs.images, self.pairs.masks, kept)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Read a sample; the key is its index, or (epoch, index) for another augmentation."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, mask = self.transform(*self.read(index), epoch, index)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return Sample(pixels, torch.from_numpy(np.ascontiguousarray(mask)), self.pairs[index].name)

    def transform(
        self, image: Pixels, mask: NDArray[np.uint8], epoch: int, index: int
    ) -> tuple[Pixels, NDArray[np.uint8]]:
        """Transform what `read` gave.

        Raises:
            UserError: the sample does not go through the transforms.
        """
        try:
            return apply_transforms(self.chain, image, mask, (self.seed, epoch, index))
        except Exception as error:  # of any type, e.g. for a crop larger than the image
            raise UserError(
                f"{self.pairs[index].image} is {image.shape[0]}x{image.shape[1]} (H x W) and does "
                f"not go through {self.where}: {error}; mend them, e.g. a crop by pad_if_needed: "
                "true"
            ) from error

    def read(self, index: int) -> tuple[Pixels, NDArray[np.uint8]]:
        """Read an image `(H, W, C)` and its class indices `(H, W)`, untransformed.

        Raises:
            UserError: a file that cannot be read, sizes that differ, labels the card does not name.
        """
        if self.cache is None:
            return self.decode(index)
        sample = self.cache.get(index)
        return sample if sample is not None else self.cache.put(index, *self.decode(index))

    def decode(self, index: int) -> tuple[Pixels, NDArray[np.uint8]]:
        """Do as `read`, from the files in any case."""
        pair = self.pairs[index]
        image = self.read_image(index)
        mask = self.labels.read(pair.mask)
        check_sizes(image.shape[:2], mask.shape, pair)
        return image, mask

    def read_image(self, index: int) -> Pixels:
        """Read an image alone, `(H, W, C)`, untransformed.

        Raises:
            UserError: a file that cannot be read.
        """
        return read_image(self.pairs[index].image, self.channels, self.card.image_max)

    def _shared_cache(self) -> SharedCache:
        shapes = [(*raster_size(pair.image), self.channels) for pair in self.pairs]
        return SharedCache(
            shapes, np.uint8 if self.card.image_max is None else np.float32, self.split
        )


def build_dataset(config: Config, card: Card, split: str, augment: bool) -> SegmentationDataset:
    """Build a split as an experiment sees it.

    Args:
        config: the experiment, its statistics resolved.
        card: of its data set.
        split: of the card.
        augment: by data.train_transforms; else data.eval_transforms.

    Raises:
        UserError: data that is not there or does not pair up; unknown transforms; too little
            memory for the cache.
    """
    kind = "train_transforms" if augment else "eval_transforms"
    return SegmentationDataset(
        card,
        split,
        getattr(config.data, kind),
        channels=config.model.in_channels,
        mean=channel_numbers(config, "mean"),
        seed=config.seed,
        where=f"data.{kind}",
        cache=config.data.cache,
    )


def check_sizes(image: tuple[int, ...], mask: tuple[int, ...], pair: Pair) -> None:
    """Refuse an image and a mask of different sizes.

    Raises:
        UserError: with both sizes.
    """
    if image != mask:
        raise UserError(
            f"{pair.image} is {image[0]}x{image[1]} (H x W) but {pair.mask} is "
            f"{mask[0]}x{mask[1]}; they must show the same pixels"
        )
