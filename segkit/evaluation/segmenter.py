"""Predicting images for their scores, whatever their size."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from segkit.errors import UserError
from segkit.inference import Prediction, Predictor, Tiles


class Segmenter:
    """Predicts images whole, and in exact tiles once the memory of the GPU does not suffice.

    Both give the same digits.

    Attributes:
        tiled: the name of the image from which on they are tiled; None: all are whole.
    """

    def __init__(self, predictor: Predictor, **wanted: bool) -> None:
        self.predictor = predictor
        self.wanted = wanted
        self.tiled: str | None = None

    def __call__(self, image: Tensor, name: str) -> Prediction:
        """Predict an image `(C, H, W)`.

        Raises:
            UserError: the memory does not suffice for tiles either, or there can be none.
        """
        try:
            return self.predictor.segment(image, **self.wanted)
        except torch.cuda.OutOfMemoryError as error:
            shortage = (
                f"{name}, of {image.shape[1]}x{image.shape[2]} pixels, needs more memory than "
                f"{self.predictor.backend.device} has"
            )
            if self.predictor.tiles is not None or self.predictor.averages:
                raise UserError(f"{shortage}; use a smaller tile, or fewer views") from error
        try:
            self.predictor = in_exact_tiles(self.predictor)
        except UserError as error:
            raise UserError(f"{shortage}; {error}") from error
        self.tiled = name
        torch.cuda.empty_cache()
        return self(image, name)


def in_exact_tiles(predictor: Predictor) -> Predictor:
    """Return a predictor that cuts images into exact tiles as large as memory allows.

    Raises:
        UserError: the network cannot be cut exactly.
    """
    tiled = copy(predictor)
    tiled.tiles = Tiles("auto")
    tiled.halo = predictor.backend.halo(predictor.preprocess.channels)
    return tiled
