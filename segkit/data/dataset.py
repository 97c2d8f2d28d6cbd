"""Samples as tensors: of a split on disk, augmented, or of any dataset that a user hands in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from segkit.config import Config
from segkit.data.images import Pixels
from segkit.data.reader import SampleReader
from segkit.data.transforms import (
    TransformSpec,
    apply_transforms,
    build_transforms,
    explain_failure,
)
from segkit.errors import UserError
from segkit.normalize import IMAGENET_MEAN


class Sample(NamedTuple):
    """One image as the network sees it, before normalisation."""

    image: Tensor  # (C, H, W), uint8, or float32 where the card says which value is white
    mask: Tensor  # class indices (H, W), uint8, 255 for void
    name: str  # of the files, without suffix


class SegmentationDataset(Dataset[Sample]):
    """A split of a data set with augmentation.

    Args:
        reader: of the split.
        transforms: albumentations by name, see `build_transforms`.
        mean: one number a channel, the colour of padding.
        repeat: how often each image comes, augmented differently each time.
        seed: of the augmentation.
        where: the transforms' key in the config, for errors.
    """

    def __init__(
        self,
        reader: SampleReader,
        transforms: Sequence[TransformSpec] = (),
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        repeat: int = 1,
        seed: int = 0,
        where: str = "transforms",
    ) -> None:
        floats = reader.card.image_max is not None
        self.transforms = build_transforms(transforms, mean, where, floats)
        self.reader, self.repeat, self.seed, self.where = reader, repeat, seed, where
        self.card, self.split, self.pairs = reader.card, reader.split, reader.pairs

    def __len__(self) -> int:
        return self.repeat * len(self.reader)

    def __getitem__(self, index: int) -> Sample:
        if index >= len(self):  # which ends an iteration
            raise IndexError(index)
        return self.sample(index)

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """Return a sample, augmented as a function of (seed, epoch, index) alone."""
        file = index % len(self.reader)
        image, mask = self.transform(*self.reader.read(file), epoch, index)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return Sample(pixels, torch.from_numpy(np.ascontiguousarray(mask)), self.pairs[file].name)

    def transform(
        self, image: Pixels, mask: NDArray[np.uint8], epoch: int, index: int
    ) -> tuple[Pixels, NDArray[np.uint8]]:
        """Transform an image `(H, W, C)` and its mask `(H, W)`."""
        try:
            return apply_transforms(self.transforms, image, mask, (self.seed, epoch, index))
        except Exception as error:  # of any type
            path = self.pairs[index % len(self.pairs)].image
            text = explain_failure(error, image, path)
            raise UserError(f"{self.where}: {text}") from error


def build_dataset(
    config: Config, reader: SampleReader, augment: bool, mean: Sequence[float]
) -> SegmentationDataset:
    """Build an experiment's dataset, with `data.train_transforms` or `data.eval_transforms`."""
    kind = "train_transforms" if augment else "eval_transforms"
    where, transforms = f"data.{kind}", getattr(config.data, kind)
    repeat = config.data.repeat if augment else 1
    return SegmentationDataset(
        reader, transforms, mean=mean, repeat=repeat, seed=config.seed, where=where
    )


def as_sample(item: Any, index: int) -> Sample:
    """Convert what a user's dataset returns.

    Tensors are `(C, H, W)`; arrays and PIL images are `(H, W, C)` or `(H, W)`. Images of uint8
    are normalised later; floats are taken as they are.

    Args:
        item: `(image, mask)` or `(image, mask, name)`; the mask holds whole numbers `(H, W)`,
            255 for void.
        index: of the item; its name if it has none.

    Raises:
        UserError: another type, shape or value.
    """
    where = f"sample {index}"
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise UserError(
            f"{where} is {_kind(item)}; a dataset must return (image, mask) or (image, mask, name)"
        )
    image, mask = _as_image(item[0], where), as_class_indices(_as_tensor(item[1]), where)
    if mask.ndim != 2 or image.shape[1:] != mask.shape:
        raise UserError(
            f"{where}: the image is {tuple(image.shape)} and the mask {tuple(mask.shape)}; return "
            "an image (C, H, W) and a mask (H, W)"
        )
    return Sample(image, mask, str(item[2]) if len(item) == 3 else str(index))


def as_class_indices(mask: Any, where: str) -> Tensor:
    """Convert class indices of any integer type to uint8; refuse all but whole numbers to 255."""
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
        kind = mask.dtype if isinstance(mask, Tensor) else _kind(mask)
        raise UserError(f"{where}: the mask is {kind}; return class indices as whole numbers")
    if mask.dtype != torch.uint8:
        wide = mask.long()  # int8 itself could not be compared to 255
        outside = wide[(wide < 0) | (wide > 255)]
        if outside.numel():
            raise UserError(
                f"{where}: the mask holds {int(outside[0])}; class indices are 0 to 254, void 255"
            )
    return mask.to(torch.uint8)


def _as_image(image: Any, where: str) -> Tensor:
    pixels = _as_tensor(image)
    if not isinstance(pixels, Tensor):
        found = _kind(image)
    else:
        if pixels is not image:
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            pixels = pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels
        if pixels.ndim == 3 and (pixels.dtype == torch.uint8 or pixels.is_floating_point()):
            return pixels if pixels.dtype == torch.uint8 else pixels.float()
        found = f"{pixels.dtype} {tuple(pixels.shape)}"
    raise UserError(
        f"{where}: the image is {found}; return a tensor (C, H, W) or an array (H, W, C), of uint8 "
        "or float32"
    )


def _as_tensor(value: Any) -> Any:
    """Turn arrays and PIL images into tensors of the same shape."""
    if isinstance(value, Image.Image):
        value = np.array(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        # torch can hardly compute with uint16
        value = value.astype(np.int32) if value.dtype == np.uint16 else value
        return torch.from_numpy(np.ascontiguousarray(value))
    return value


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"
