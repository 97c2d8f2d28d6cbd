"""What happens to an image before the network, as its checkpoint says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import albumentations
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.config import Config
from segkit.data.card import Card
from segkit.data.images import Pixels, convert_channels
from segkit.data.transforms import TransformSpec, build_transforms
from segkit.errors import UserError
from segkit.normalize import IMAGENET_MEAN

RESIZING = ("Resize", "LongestMaxSize", "SmallestMaxSize")  # all that scaling back can undo


class Preprocess:
    """Checks an image and applies the transforms of an evaluation.

    Args:
        channels: of the images that the network takes; None: any number.
        white: the pixel value that is 1.0 in image files; None: files have 8 bits.
        dtype: of the pixels; None: uint8 or float32.
        transforms: as in `data.eval_transforms`.
        mean: per channel, the colour of padding.
        seed: of random transforms, which have the same outcome each time.
    """

    def __init__(
        self,
        channels: int | None = None,
        white: float | None = None,
        *,
        dtype: type[np.generic] | None = None,
        transforms: Sequence[TransformSpec] = (),
        mean: Sequence[float] = IMAGENET_MEAN,
        seed: int = 0,
    ) -> None:
        self.channels = channels
        self.white = white
        self.dtypes = (np.uint8, np.float32) if dtype is None else (dtype,)
        self.specs = transforms
        self.transforms = build_transforms(
            transforms, mean, "data.eval_transforms", dtype is np.float32
        )
        self.seed = seed

    @classmethod
    def from_config(cls, config: Config, card: Card, mean: Sequence[float]) -> Preprocess:
        """Build the preprocessing of an experiment; `mean` is the colour of padding."""
        return cls(
            config.model.in_channels,
            card.image_max,
            dtype=np.uint8 if card.image_max is None else np.float32,
            transforms=config.data.eval_transforms,
            mean=mean,
            seed=config.seed,
        )

    def __call__(self, image: NDArray[Any]) -> Pixels:
        """Return the pixels that the network takes, `(H, W, C)`, transformed.

        A network of 1 channel sees RGB as grey, and one of 3 sees grey as RGB, as in files.
        """
        if image.ndim == 2:
            image = image[..., None]
        fits = image.ndim == 3 and self.channels in (None, image.shape[2])
        converts = image.ndim == 3 and {self.channels, image.shape[2]} == {1, 3}
        if not (fits or converts) or not image.size:
            raise UserError(
                f"the network takes images (H, W, {self.channels or 'C'}), but got one of shape "
                f"{image.shape}"
            )
        if image.dtype not in self.dtypes:
            shares = "float32, " + ("0 to 1" if self.white is None else f"shares of {self.white:g}")
            what = " or ".join("bytes" if dtype is np.uint8 else shares for dtype in self.dtypes)
            raise UserError(f"the network takes pixels as {what}, but got {image.dtype}")
        image = convert_channels(image, self.channels)
        if self.specs:
            self._check_undoable()
            self.transforms.set_random_seed(self.seed)
            image = self.transforms(image=image)["image"]
        return image

    def _check_undoable(self) -> None:
        """Refuse transforms after which the mask would not fit the image."""
        for spec, transform in zip(self.specs, self.transforms.transforms, strict=True):
            [name] = spec
            moves_pixels = not isinstance(transform, albumentations.ImageOnlyTransform)
            if moves_pixels and name not in RESIZING:
                raise UserError(
                    f"data.eval_transforms has {name}, which prediction cannot undo; of those "
                    f"that move pixels it can undo {', '.join(RESIZING)}"
                )


def as_tensor(pixels: Pixels) -> Tensor:
    """View an array `(H, W, C)` as a tensor `(C, H, W)`; copy it only if it is mirrored."""
    if min(pixels.strides) < 0:
        pixels = pixels.copy()
    with warnings.catch_warnings():  # that the memory is read-only; it is never written to
        warnings.simplefilter("ignore")
        return torch.from_numpy(pixels).permute(2, 0, 1)
