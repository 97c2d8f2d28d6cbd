"""Numbers computed from the training split: class weights, mean and deviation of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segkit.config import Config
from segkit.data.card import Card
from segkit.data.dataset import SegmentationDataset
from segkit.data.parallel import in_parallel
from segkit.data.remember import remembered, state_of
from segkit.data.survey import Survey, survey
from segkit.errors import UserError


def resolve_statistics(config: Config, card: Card) -> Config:
    """Put numbers in place of `auto` and of the names of class weights.

    Raises:
        UserError: data that cannot be read, or not one weight a class.
    """
    data, loss = config.data, config.train.loss
    numbers: dict[str, tuple[float, ...]] = {}
    if "auto" in (data.mean, data.std):
        dataset = _plain(config, card)
        mean, std = channel_statistics(dataset)
        computed = {"mean": mean, "std": std}
        numbers = {key: computed[key] for key in computed if getattr(data, key) == "auto"}
    weights = getattr(loss, "class_weights", "none")  # not every loss has them
    if isinstance(weights, str) and weights != "none":
        weights = tuple(class_weights(weights, survey(_plain(config, card))))
    elif weights != "none" and len(weights) != card.num_classes:
        raise UserError(
            f"train.loss.class_weights has {len(weights)} numbers, but '{card.name}' has "
            f"{card.num_classes} classes: {', '.join(card.class_names)}; give one each"
        )
    if weights != "none":
        loss = loss.model_copy(update={"class_weights": weights})
    return config.model_copy(
        update={
            "data": data.model_copy(update=numbers),
            "train": config.train.model_copy(update={"loss": loss}),
        }
    )


def statistics_lines(asked: Config, resolved: Config, card: Card) -> list[str]:
    """Write what `resolve_statistics` computed, a line each."""
    lines = []
    for key in ("mean", "std"):
        if getattr(asked.data, key) == "auto":
            lines.append(f"{key:<8} {', '.join(f'{n:.4g}' for n in getattr(resolved.data, key))}")
    weights = getattr(resolved.train.loss, "class_weights", "none")
    if weights != "none":
        pairs = zip(card.class_names, weights, strict=True)
        lines.append(f"weights  {', '.join(f'{name} {weight:.4g}' for name, weight in pairs)}")
    return lines


def _plain(config: Config, card: Card) -> SegmentationDataset:
    return SegmentationDataset(card, config.data.train_split, channels=config.model.in_channels)


def class_weights(kind: str, counts: Survey) -> list[float]:
    """Weigh classes by their frequency in a split; a class that does not occur gets 0.

    - `median_frequency` (Eigen and Fergus 2015): a class's frequency is its share of the pixels of
      those images in which it occurs, void left out; its weight is the median of all frequencies,
      divided by its own.
    - `inverse_frequency`: the mean number of pixels of a class, divided by its own.

    Args:
        kind: one of these two.
        counts: of the split.
    """
    pixels = np.array(counts.pixels, float)
    present = pixels > 0
    around = np.array(counts.pixels_of_images) if kind == "median_frequency" else pixels.sum()
    frequency = np.divide(pixels, around, out=np.zeros_like(pixels), where=present)
    typical = (np.median if kind == "median_frequency" else np.mean)(frequency[present])
    weights = np.divide(typical, frequency, out=np.zeros_like(pixels), where=present)
    return _rounded(weights)


def channel_statistics(dataset: SegmentationDataset) -> tuple[tuple[float, ...], ...]:
    """Compute mean and deviation of each channel over all pixels of a split, white being 1.

    Raises:
        UserError: an image cannot be read, or a channel has one value everywhere.
    """
    settings = (dataset.channels, dataset.card.image_max)
    state = state_of(settings, (str(pair.image) for pair in dataset.pairs))
    mean, std = remembered("channels", state, lambda: _channel_statistics(dataset))
    constant = [channel for channel, deviation in enumerate(std) if deviation < 1e-6]
    if constant:
        raise UserError(
            f"data.std: auto: channel {constant[0]} has one value in all images of "
            f"'{dataset.split}', so there is nothing to divide by; mend the images or give numbers"
        )
    return tuple(mean), tuple(std)


def _channel_statistics(dataset: SegmentationDataset) -> tuple[list[float], list[float]]:
    def sums(index: int) -> NDArray[np.float64]:
        image = dataset.read_image(index)
        pixels = image.reshape(-1, dataset.channels).astype(np.float64)
        pixels /= 255 if image.dtype == np.uint8 else 1
        ones = np.full(dataset.channels, len(pixels), np.float64)
        return np.stack([ones, pixels.sum(0), np.square(pixels).sum(0)])

    total = np.zeros((3, dataset.channels))
    for one in in_parallel(sums, len(dataset)):
        total += one
    mean = total[1] / total[0]
    std = np.sqrt(np.maximum(total[2] / total[0] - mean**2, 0))
    return _rounded(mean), _rounded(std)


def _rounded(numbers: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Round to six digits, so that a config stays readable."""
    return [float(f"{number:.6g}") for number in numbers]
