"""Images with class-index masks, read from disk as a card describes them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from segkit.config import Config
from segkit.data.card import Card, ensure_data
from segkit.data.files import image_size, pair_files, read_image, read_mask
from segkit.data.labels import LabelMap
from segkit.data.transforms import TransformSpec, apply_transforms, build_transforms
from segkit.errors import UserError


class Sample(NamedTuple):
    """One image as the network sees it, before normalisation.

    Args:
        image: uint8 `(C, H, W)`.
        mask: uint8 class indices `(H, W)`, 255 for void.
        name: of the files, without suffix.
    """

    image: Tensor
    mask: Tensor
    name: str


class SegmentationDataset(Dataset[Sample]):
    """A split of a data set.

    Args:
        card: describes the set.
        split: of the card.
        transforms: albumentations by name, see `build_transforms`.
        channels: of the images.
        mean: per channel, the colour of padding.
        seed: of the augmentation.
        where: the transforms' key in the config, for errors.

    Raises:
        UserError: data that is not there or does not pair up; unknown transforms.
    """

    def __init__(
        self,
        card: Card,
        split: str,
        transforms: Sequence[TransformSpec] = (),
        *,
        channels: int = 3,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        seed: int = 0,
        where: str = "transforms",
    ) -> None:
        self.chain = build_transforms(transforms, mean, where)
        ensure_data(card)
        self.card = card
        self.split = split
        self.channels = channels
        self.seed = seed
        self.where = where
        self.pairs = pair_files(card, split)
        self.labels = LabelMap(card)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Read a sample; the key is its index, or (epoch, index) for another augmentation."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, mask = self._transform(*self.read(index), epoch, index)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return Sample(pixels, torch.from_numpy(np.ascontiguousarray(mask)), self.pairs[index].name)

    def _transform(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], epoch: int, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        try:
            return apply_transforms(self.chain, image, mask, (self.seed, epoch, index))
        except Exception as error:  # of any type, e.g. for a crop larger than the image
            raise UserError(
                f"{self.pairs[index].image} is {image.shape[0]}x{image.shape[1]} (H x W) and does "
                f"not go through {self.where}: {error}; mend them, e.g. a crop by pad_if_needed: "
                "true"
            ) from error

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read an image `(H, W, C)` and its class indices `(H, W)` as they are on disk.

        Raises:
            UserError: a file that cannot be read, sizes that differ, labels the card does not know.
        """
        pair = self.pairs[index]
        image = read_image(pair.image, self.channels)
        mask = self.labels.to_classes(read_mask(pair.mask), pair.mask)
        _check_size(image.shape[:2], mask.shape, pair.image, pair.mask)
        return image, mask

    def check(self) -> None:
        """Look at every mask and the size of every image, before a first step is wasted.

        Raises:
            UserError: all problems, one a line, the first ten in full.
        """
        with ThreadPoolExecutor() as pool:
            problems = [p for p in pool.map(self._problem, range(len(self))) if p]
        if problems:
            more = [f"... and {len(problems) - 10} more files"] if len(problems) > 10 else []
            raise UserError("\n".join(problems[:10] + more))

    def _problem(self, index: int) -> str | None:
        pair = self.pairs[index]
        try:
            mask = self.labels.to_classes(read_mask(pair.mask), pair.mask)
            _check_size(image_size(pair.image), mask.shape, pair.image, pair.mask)
        except UserError as error:
            return str(error)
        return None


def build_dataset(config: Config, card: Card, split: str) -> SegmentationDataset:
    """Build a split as an experiment sees it: augmented for `train`, as it is elsewhere.

    Raises:
        UserError: data that is not there or does not pair up; unknown transforms.
    """
    kind = "train_transforms" if split == "train" else "eval_transforms"
    return SegmentationDataset(
        card,
        split,
        getattr(config.data, kind),
        channels=config.model.in_channels,
        mean=config.data.mean,
        seed=config.seed,
        where=f"data.{kind}",
    )


def _check_size(
    image: tuple[int, ...], mask: tuple[int, ...], image_path: object, mask_path: object
) -> None:
    if image != mask:
        raise UserError(
            f"{image_path} is {image[0]}x{image[1]} (H x W) but {mask_path} is "
            f"{mask[0]}x{mask[1]}; they must show the same pixels"
        )
