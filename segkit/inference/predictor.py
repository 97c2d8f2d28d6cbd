"""From an image to a mask of its size: whole or in tiles, plain or averaged over views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segkit.checkpoint import find_checkpoint, restore_card, restore_config, restore_statistics
from segkit.data.card import Card
from segkit.errors import UserError
from segkit.features import Size
from segkit.hardware import DeviceName, Hardware
from segkit.hub import Source
from segkit.inference.backends.base import Backend
from segkit.inference.backends.files import load_content, make_backend
from segkit.inference.backends.pytorch import TorchBackend
from segkit.inference.finite import check_finite
from segkit.inference.memory import Room, find_room
from segkit.inference.prediction import Prediction, assemble, resized, to_prediction
from segkit.inference.preprocess import Preprocess, as_tensor
from segkit.inference.region import Region, grow, sample, scaled, source_of, whole
from segkit.inference.tiles import Tiles, blend
from segkit.labels import Classes, Color
from segkit.receptive_field import Halo


class Predictor:
    """Predicts images of any size.

    Args:
        model: a module, or an exported model as a `Backend`.
        hardware: of a module, as its mean and std: see `TorchBackend`.
        mean: per channel, of images scaled to 0 ... 1; None: images come normalised, as float32.
        std: the same.
        class_names: for what is written; None: those of the card.
        colors: RGB from 0 to 255, one a class; None: those of the card, or hues spread evenly.
        tiles: how to cut large images; None: they go through the network whole.
        flip: also predict the mirrored image, and average the probabilities.
        scales: predict the image in these sizes, and average the probabilities.
        preprocess: what happens to an image before normalisation; None: nothing.
        card: of the data set, with the raw labels that masks are written in.
        origin: where the model comes from, in words.

    Raises:
        UserError: a scale out of range, or exact tiles for a network that cannot be cut exactly.

    >>> predictor = Predictor.load("runs/unet_vgg16", tiles=Tiles(1024))  # doctest: +SKIP
    >>> predictor(image).mask.numpy()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module | Backend,
        *,
        hardware: Hardware | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
        colors: Sequence[Color] | None = None,
        tiles: Tiles | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        preprocess: Preprocess | None = None,
        card: Card | None = None,
        origin: str = "",
    ) -> None:
        if not scales or not all(0.1 <= scale <= 10 for scale in scales):
            raise UserError(f"scales must be one or more numbers from 0.1 to 10, not {scales}")
        if isinstance(model, nn.Module):
            model = TorchBackend(model, hardware, mean, std)
        self.backend: Backend = model
        self.tiles = tiles
        self.views = [(s, mirrored) for s in scales for mirrored in ((False, True)[: 1 + flip])]
        self.averages = self.views != [(1.0, False)]
        self.preprocess = preprocess or Preprocess(None if mean is None else len(mean))
        self.card = card
        self.classes = card.legend if card else None
        if class_names is not None:
            self.classes = Classes.named(class_names, colors)
        self.origin = origin
        self.stride = self.backend.stride
        self.halo = Halo(0, 0)
        if tiles and tiles.mode == "exact":
            self.halo = self.backend.halo(self.preprocess.channels)
        self.room: Room | None = None

    @classmethod
    def load(cls, path: Source, device: DeviceName = "auto", **options: Any) -> Predictor:
        """Load a checkpoint or an exported file, which hold all that prediction needs.

        What is local opens no socket.

        Args:
            path: of a checkpoint, of a run folder for its best one, of a model's folder, or of an
                `.onnx` or `.xml` file that segkit exported; or `hf://user/model`, with `@revision`
                if need be, which the hub's cache keeps.
            device: auto takes CUDA where there is one, see `choose_hardware`.
            options: `tiles`, `flip`, `scales`, see the class, and `fast`, see `make_backend`.

        Raises:
            UserError: no such file, a damaged one, or a runtime that is not installed.
        """
        return cls.restore(load_content(found := find_checkpoint(path)), found, device, **options)

    @classmethod
    def restore(
        cls,
        content: dict[str, Any],
        source: Source,
        device: DeviceName = "auto",
        *,
        fast: bool = False,
        **options: Any,
    ) -> Predictor:
        """Build a predictor from the content that `load_content` read from a source."""
        config, card = restore_config(content, source), restore_card(content, source)
        mean = restore_statistics(content, config).mean
        return cls(
            make_backend(content, source, device, fast),
            preprocess=Preprocess.from_config(config, card, mean),
            card=card,
            origin=f"{source}, epoch {content['epoch']}",
            **options,
        )

    def __call__(
        self, image: Any, *, confidence: bool = False, probabilities: bool = False
    ) -> Prediction:
        """Predict an image as it comes from a file.

        Args:
            image: RGB `(H, W, C)`, anything that NumPy takes for an array: uint8, or float32 from 0
                to 1 where the card has an `image_max`. Grey, `(H, W)` or `(H, W, 1)`, becomes RGB
                for a network of 3 channels, and RGB becomes grey for one of 1. A memory map is read
                tile by tile.
            confidence: also return the probability of each pixel's class.
            probabilities: also return those of every class.
        """
        image = np.asanyarray(image)
        pixels = as_tensor(self.preprocess(image))
        found = self.segment(pixels, confidence=confidence, probabilities=probabilities)
        check_finite(found, pixels, self.backend, self.origin)
        return resized(found, (image.shape[0], image.shape[1]))

    def overhead(self, image: Any) -> str | None:
        """Return what cutting an image into tiles costs, in words; None if it stays whole."""
        pixels = as_tensor(self.preprocess(np.asanyarray(image)))
        tiles = self._tiles_for(pixels)
        if tiles is None:
            return None
        cost = tiles.cost(_size(pixels), self.stride, self.halo)
        return f"{cost}; auto: {self.room}" if self.room else cost

    @torch.no_grad()
    def segment(
        self,
        pixels: Tensor,
        *,
        confidence: bool = False,
        probabilities: bool = False,
        logits: bool = False,
    ) -> Prediction:
        """Predict an image that is preprocessed already, as a data set returns it.

        Args:
            pixels: `(C, H, W)`, uint8, or float32 from 0 to 1; normalised if the predictor was
                given no mean and std.
            confidence: as for a call.
            probabilities: as for a call.
            logits: also return those; for a predictor without blended tiles and views alone.
        """
        if logits and (self.averages or (self.tiles and self.tiles.mode == "blend")):
            raise UserError(
                "blended tiles and averaged views have no logits; leave them out of this one"
            )
        size, tiles = _size(pixels), self._tiles_for(pixels)
        if tiles is None:
            scores = self._scores(pixels, whole(size))
            found = to_prediction(scores, self.averages, confidence, probabilities)
            return found._replace(logits=scores) if logits else found
        blended = self.averages or tiles.mode == "blend"

        def parts() -> Iterator[tuple[Region, Prediction]]:
            for region, scores in self._parts(pixels, tiles):
                found = to_prediction(scores, blended, confidence, probabilities)
                yield region, found._replace(logits=scores) if logits else found

        return assemble(size, parts())

    def _tiles_for(self, pixels: Tensor) -> Tiles | None:
        """Return the tiles to cut an image into; None: it stays whole."""
        size, tiles = _size(pixels), self.tiles
        if tiles and tiles.size == "auto":
            self.room = self.room or find_room(self.backend, pixels, tiles.memory)
            scale = max(scale for scale, _ in self.views)
            tiles = tiles.sized(size, self.stride, self.halo, self.room, scale)
        return None if tiles is None or tiles.fits(size, self.stride) else tiles

    def _parts(self, pixels: Tensor, tiles: Tiles) -> Iterator[tuple[Region, Tensor]]:
        """Predict an image part by part; the parts cover it once."""
        if tiles.mode == "exact":
            for region in tiles.cut(_size(pixels), self.stride):
                yield region, self._scores(pixels, region)
            return

        def probabilities(region: Region) -> Tensor:
            scores = self._scores(pixels[region.cells], whole(region.size))
            return scores if self.averages else scores.float().softmax(0)

        yield from blend(tiles, _size(pixels), self.stride, probabilities)

    def _scores(self, pixels: Tensor, region: Region) -> Tensor:
        """Return the logits of a region, or the mean probabilities over the views."""
        if not self.averages:
            return self._logits(pixels, region, 1.0, mirrored=False)
        size = _size(pixels)
        total = torch.zeros((), device=self.backend.device)
        for scale, mirrored in self.views:
            view_size = scaled(size, scale)
            place = region.mirrored(size[1]) if mirrored else region
            read = source_of(place, size, view_size)
            found = self._logits(pixels, read, scale, mirrored).float().softmax(0)
            if view_size != size:
                found = sample(found, read, view_size, size, place)
            total = total + (found.flip(-1) if mirrored else found)
        return total / len(self.views)

    def _logits(self, pixels: Tensor, region: Region, scale: float, mirrored: bool) -> Tensor:
        """Return the logits of a region of a view, in the view's own coordinates."""
        size = _size(pixels)
        view_size = scaled(size, scale)
        seen = grow(region, view_size, self.halo, self.stride)
        place = seen.mirrored(view_size[1]) if mirrored else seen
        read = source_of(place, view_size, size)
        # a copy, as the memory may be mapped read-only; channels last, as the network computes
        crop = pixels[read.cells].permute(1, 2, 0)
        crop = crop.clone(memory_format=torch.contiguous_format).permute(2, 0, 1)
        if view_size != size:
            share = crop / 255 if crop.dtype == torch.uint8 else crop
            crop = sample(share, read, size, view_size, place)
        crop = crop.flip(-1) if mirrored else crop
        return self.backend.logits(crop[None])[0][region.within(seen).cells]


def _size(pixels: Tensor) -> Size:
    return pixels.shape[1], pixels.shape[2]
