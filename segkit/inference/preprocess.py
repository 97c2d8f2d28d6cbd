"""What happens to an image before the network, as its checkpoint says."""

from __future__ import annotations

from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray

from segkit.config import Config
from segkit.data.card import Card
from segkit.data.images import Pixels
from segkit.data.transforms import TRANSFORMS, build_transforms, channel_numbers
from segkit.errors import UserError

RESIZING = ("Resize", "LongestMaxSize", "SmallestMaxSize")  # all that scaling back can undo


class Preprocess:
    """Checks an image and applies the experiment's `data.eval_transforms`.

    Args:
        config: the experiment.
        card: of its data set.

    Raises:
        UserError: a transform that moves pixels, so that a mask would not fit the image.
    """

    def __init__(self, config: Config, card: Card) -> None:
        specs = config.data.eval_transforms
        for spec in specs:
            for name in spec:
                kind = TRANSFORMS.get(name, albumentations.ImageOnlyTransform)
                keeps = issubclass(kind, albumentations.ImageOnlyTransform)
                if not keeps and name not in RESIZING:
                    raise UserError(
                        f"data.eval_transforms has {name}, which prediction cannot undo; of those "
                        f"that move pixels it can undo {', '.join(RESIZING)}"
                    )
        self.chain = build_transforms(
            specs,
            channel_numbers(config, "mean"),
            "data.eval_transforms",
            card.image_max is not None,
        )
        self.channels = config.model.in_channels
        self.white = card.image_max
        self.seed = config.seed

    def __call__(self, image: NDArray[Any]) -> Pixels:
        """Give the pixels that the network takes, `(H, W, C)`.

        Raises:
            UserError: another number of channels or type of pixels than the network was trained on.
        """
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.shape[2] != self.channels or not image.size:
            raise UserError(
                f"the network takes images (H, W, {self.channels}), but got one of shape "
                f"{image.shape}"
            )
        wanted = np.uint8 if self.white is None else np.float32
        if image.dtype != wanted:
            what = "bytes" if self.white is None else f"float32, shares of {self.white:g}"
            raise UserError(f"the network takes pixels as {what}, but got {image.dtype}")
        if self.chain.transforms:
            self.chain.set_random_seed(self.seed)  # what is left to chance goes alike each time
            image = self.chain(image=image)["image"]
        return image
