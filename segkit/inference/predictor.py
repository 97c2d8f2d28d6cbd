"""From an image to a mask of its size, as evaluation judges it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segkit.checkpoint import find_checkpoint, load_checkpoint, restore_config, restore_model
from segkit.config import Config
from segkit.data.card import Card
from segkit.data.images import Pixels
from segkit.data.transforms import Normalize, build_normalize
from segkit.errors import UserError
from segkit.features import Size
from segkit.hardware import DeviceName, Hardware, choose_hardware
from segkit.inference.prediction import Prediction, assemble, resized
from segkit.inference.preprocess import Preprocess
from segkit.inference.region import Region, grow, sample, source_of, whole
from segkit.inference.tiles import Tiles, blend
from segkit.receptive_field import Reach, reach_of


class Predictor:
    """Predicts images of any size.

    Args:
        model: image to logits, with an attribute `stride`; on the hardware's device. Its train or
            eval mode is put back after each image.
        normalize: on the hardware's device.
        hardware: where and how precisely to compute.
        tiles: how to cut large images; None: they go through the network whole.
        flip: also predict the mirrored image, and average the probabilities.
        scales: predict the image in these sizes, and average the probabilities.
        config: of the experiment, for its `data.eval_transforms`; without, images are taken as
            they are.
        card: of the data set, with class names, colours and raw labels.
        origin: where the model comes from, in words.

    Raises:
        UserError: a scale out of range; exact tiles for a network that sees the whole image.

    >>> predictor = Predictor.load("runs/unet_vgg16", tiles=Tiles(1024))  # doctest: +SKIP
    >>> predictor(image).mask.numpy()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        normalize: Normalize,
        hardware: Hardware,
        *,
        tiles: Tiles | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        config: Config | None = None,
        card: Card | None = None,
        origin: str = "",
    ) -> None:
        if not scales or not all(0.1 <= scale <= 10 for scale in scales):
            raise UserError(f"scales must be one or more numbers from 0.1 to 10, not {scales}")
        self.model = model
        self.normalize = normalize
        self.hardware = hardware
        self.tiles = tiles
        self.views = [(s, mirrored) for s in scales for mirrored in ((False, True)[: 1 + flip])]
        self.averages = self.views != [(1.0, False)]
        self.config = config
        self.card = card
        self.origin = origin
        self.stride: int = model.stride  # type: ignore[assignment]
        self.reach = Reach(0, 0, 1)
        if tiles and tiles.mode == "exact":
            self.reach = _finite_reach(model, len(normalize.mean))

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: DeviceName = "auto",
        *,
        tiles: Tiles | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> Predictor:
        """Load a checkpoint, which holds all that prediction needs; opens no socket.

        Args:
            path: of a checkpoint, or of a run folder for its best one.
            device: auto takes CUDA where there is one.
            tiles: see the class.
            flip: see the class.
            scales: see the class.

        Raises:
            UserError: no checkpoint there, or a damaged one.
        """
        file = find_checkpoint(Path(path))
        content = load_checkpoint(file)
        config = restore_config(content, file)
        hardware = choose_hardware(device, config.precision)
        card = Card.model_validate(content["card"])
        return cls(
            hardware.place(restore_model(content, file)),
            build_normalize(config).to(hardware.device),
            hardware,
            tiles=tiles,
            flip=flip,
            scales=scales,
            config=config,
            card=card,
            origin=f"{file}, epoch {content['epoch']}",
        )

    @cached_property
    def preprocess(self) -> Preprocess | None:
        """What happens to an image beforehand."""
        if self.config is None or self.card is None:
            return None
        return Preprocess(self.config, self.card)

    def __call__(
        self, image: Any, *, confidence: bool = False, probabilities: bool = False
    ) -> Prediction:
        """Predict an image.

        Args:
            image: RGB `(H, W, C)`, anything NumPy takes for an array: uint8, or float32 from 0 to 1
                where the card has an `image_max`. A memory map is read tile by tile.
            confidence: also give the probability of each pixel's class.
            probabilities: also give those of every class.

        Raises:
            UserError: another number of channels or type of pixels than the network was trained on.
        """
        image = np.asanyarray(image)
        if self.preprocess is None:
            return self.segment(image, confidence=confidence, probabilities=probabilities)
        pixels = self.preprocess(image)
        found = self.segment(pixels, confidence=confidence, probabilities=probabilities)
        return resized(found, (image.shape[0], image.shape[1]))

    def overhead(self, image: Any) -> str | None:
        """Say what cutting an image into tiles costs; None if it goes through whole."""
        pixels = image if self.preprocess is None else self.preprocess(np.asanyarray(image))
        size: Size = (pixels.shape[0], pixels.shape[1])
        if self.tiles is None or self.tiles.fits(size, self.stride):
            return None
        return self.tiles.cost(size, self.stride, self.reach)

    @torch.no_grad()
    def segment(
        self, pixels: Pixels, *, confidence: bool = False, probabilities: bool = False
    ) -> Prediction:
        """Predict pixels as the network takes them, `(H, W, C)`, without preprocessing."""
        size: Size = (pixels.shape[0], pixels.shape[1])
        with _judging(self.model):
            if self.tiles is None or self.tiles.fits(size, self.stride):
                scores = self._scores(pixels, whole(size))
                return self._read_off(scores, self.averages, confidence, probabilities)
            parts = self._parts(pixels, size)
            blended = self.averages or self.tiles.mode == "blend"
            return assemble(
                size,
                (
                    (region, self._read_off(scores, blended, confidence, probabilities))
                    for region, scores in parts
                ),
            )

    def _parts(self, pixels: Pixels, size: Size) -> Iterator[tuple[Region, Tensor]]:
        """Predict an image part by part; the parts cover it once."""
        assert self.tiles is not None
        if self.tiles.mode == "exact":
            for region in self.tiles.cut(size, self.stride):
                yield region, self._scores(pixels, region)
            return

        def probabilities(region: Region) -> Tensor:
            window = pixels[region.top : region.bottom, region.left : region.right]
            scores = self._scores(window, whole(region.size))
            return scores if self.averages else scores.float().softmax(0)

        yield from blend(self.tiles, size, self.stride, probabilities)

    def _scores(self, pixels: Pixels, region: Region) -> Tensor:
        """Give the logits of a region, or the mean probabilities over the views."""
        if not self.averages:
            return self._logits(pixels, region, 1.0, mirrored=False)
        size: Size = (pixels.shape[0], pixels.shape[1])
        total: Tensor | None = None
        for scale, mirrored in self.views:
            there = _scaled(size, scale)  # the size of this view
            place = region.mirrored(size[1]) if mirrored else region
            read = source_of(place, size, there)
            found = self._logits(pixels, read, scale, mirrored).float().softmax(0)
            if there != size:
                found = sample(found, read, there, size, place)
            found = found.flip(-1) if mirrored else found
            total = found if total is None else total + found
        assert total is not None
        return total / len(self.views)

    def _logits(self, pixels: Pixels, region: Region, scale: float, mirrored: bool) -> Tensor:
        """Give the logits of a region of a view, in the view's own coordinates."""
        size: Size = (pixels.shape[0], pixels.shape[1])
        there = _scaled(size, scale)
        seen = grow(region, there, self.reach.before, self.reach.after, self.stride)
        place = seen.mirrored(there[1]) if mirrored else seen
        read = source_of(place, there, size)
        # a copy, as torch takes no memory that is read-only, nor rows from right to left
        crop = torch.from_numpy(np.array(pixels[slice(*read[:2]), slice(*read[2:])], order="C"))
        crop = crop.permute(2, 0, 1)
        if there != size:
            share = crop / 255 if crop.dtype == torch.uint8 else crop
            crop = sample(share, read, size, there, place)
        crop = crop.flip(-1) if mirrored else crop
        with self.hardware.autocast():
            logits: Tensor = self.model(self.normalize(self.hardware.load(crop[None])))[0]
        rows, columns = region.within(seen)
        return logits[:, rows, columns]

    @staticmethod
    def _read_off(
        scores: Tensor, are_probabilities: bool, confidence: bool, probabilities: bool
    ) -> Prediction:
        mask = scores.argmax(0)
        shares = None
        if confidence or probabilities:
            shares = scores if are_probabilities else scores.float().softmax(0)
        return Prediction(
            mask.to(torch.uint8),
            shares.gather(0, mask[None])[0] if confidence and shares is not None else None,
            shares.half() if probabilities and shares is not None else None,
        )


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """Set eval mode, and put back what was, module by module: some may have been frozen."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def _finite_reach(model: nn.Module, in_channels: int) -> Reach:
    reach = reach_of(model, in_channels)
    if reach is None:
        raise UserError(
            "this network cannot be cut exactly, as group norm lets every pixel see the whole "
            "image; use tiles of mode blend"
        )
    return reach


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
