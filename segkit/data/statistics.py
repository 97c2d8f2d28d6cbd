"""Numbers of a training split, cached: class counts and weights, channels' mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.config import Config
from segkit.data.cached import cached, state_of
from segkit.data.inspect import ClassCounts, channel_sums, inspect_mask, mean_and_std, sum_classes
from segkit.data.pairs import check_sizes
from segkit.data.parallel import parallel_map
from segkit.data.raster import raster_size
from segkit.data.reader import SampleReader
from segkit.errors import UserError

SHOWN = 10  # problems in full


class Statistics(NamedTuple):
    """Numbers of a training split."""

    mean: tuple[float, ...]  # of each channel, white being 1
    std: tuple[float, ...]
    class_weights: tuple[float, ...] | None = None  # of the loss, one a class; None: it has none


def compute_statistics(config: Config, train: SampleReader) -> Statistics:
    """Take the numbers a config gives for a training split, and compute those it asks for."""
    card = train.card
    weights = getattr(config.train.loss, "class_weights", None)  # not every loss has them
    if not isinstance(weights, str | None) and len(weights) != card.num_classes:
        raise UserError(
            f"train.loss.class_weights has {len(weights)} numbers, but '{card.name}' has "
            f"{card.num_classes} classes: {', '.join(card.class_names)}; give one each"
        )
    mean, std = config.data.mean, config.data.std
    counts = [train.channels if isinstance(given, str) else len(given) for given in (mean, std)]
    if not counts[0] == counts[1] == train.channels:
        raise UserError(
            f"data.mean has {counts[0]} numbers and data.std {counts[1]}, but model.in_channels is "
            f"{train.channels}; give one a channel, or say auto"
        )
    if isinstance(mean, str) or isinstance(std, str):
        computed = channel_statistics(train)
        mean = computed[0] if isinstance(mean, str) else mean
        std = computed[1] if isinstance(std, str) else std
    if isinstance(weights, str):
        weights = None if weights == "none" else class_weights(weights, count_classes(train))
    return Statistics(tuple(mean), tuple(std), None if weights is None else tuple(weights))


def statistics_lines(
    config: Config, statistics: Statistics, class_names: Sequence[str]
) -> list[str]:
    """Return what `compute_statistics` computed, and a mean and std of one's own, for the log."""
    lines = []
    for key in ("mean", "std"):
        if getattr(config.data, key) != type(config.data).model_fields[key].default:
            lines.append(f"{key:<8} {', '.join(f'{n:.4g}' for n in getattr(statistics, key))}")
    if statistics.class_weights is not None:
        pairs = zip(class_names, statistics.class_weights, strict=True)
        lines.append(f"weights  {', '.join(f'{name} {weight:.4g}' for name, weight in pairs)}")
    return lines


def count_classes(reader: SampleReader) -> ClassCounts:
    """Read every mask of a split and the size of every image, unless a cached result holds.

    Raises:
        UserError: all problems, one a line, the first ten in full.
    """
    card = reader.card
    settings = (ClassCounts._fields, card.label_map, card.classes, card.lossy_masks)
    files = (str(path) for pair in reader.pairs for path in (pair.image, pair.mask))
    try:
        state = state_of(settings, files)
    except OSError as error:
        raise UserError(f"a file of '{card.name}' is gone: {error}") from error
    return ClassCounts(*cached("class-counts", state, lambda: _count_classes(reader)))


def _count_classes(reader: SampleReader) -> ClassCounts:
    def inspect(index: int) -> NDArray[np.int64] | str:
        """Return the pixels of each class of a mask, or what is wrong with it or its size."""
        pair = reader.pairs[index]
        facts, mask = inspect_mask(pair.mask, reader.labels)
        if mask is None or facts.pixels is None:
            return facts.error or str(facts.unknown)
        try:
            check_sizes(raster_size(pair.image), mask.shape, pair)
        except UserError as error:
            return str(error)
        return facts.pixels

    found = list(parallel_map(inspect, len(reader)))
    problems = [each for each in found if isinstance(each, str)]
    if problems:
        more = len(problems) - SHOWN
        rest = [f"... and {more} more files"] if more > 0 else []
        raise UserError("\n".join(problems[:SHOWN] + rest))
    counts = (each for each in found if not isinstance(each, str))
    return sum_classes(counts, reader.card.num_classes)


def class_weights(kind: str, counts: ClassCounts) -> list[float]:
    """Weigh classes by their frequency in a split; a class that does not occur gets 0.

    - `median_frequency` (Eigen and Fergus 2015): a class's frequency is its share of the pixels of
      those images in which it occurs, void left out; its weight is the median of all frequencies,
      divided by its own.
    - `sqrt_median_frequency`: the square roots of these, for classes of very different frequency.
    - `inverse_frequency`: the mean number of pixels of a class, divided by its own.
    """
    pixels = np.array(counts.pixels, float)
    present = pixels > 0
    by_median = kind != "inverse_frequency"
    around = np.array(counts.pixels_of_images) if by_median else pixels.sum()
    frequency = np.divide(pixels, around, out=np.zeros_like(pixels), where=present)
    typical = (np.median if by_median else np.mean)(frequency[present])
    weights = np.divide(typical, frequency, out=np.zeros_like(pixels), where=present)
    return _rounded(np.sqrt(weights) if kind == "sqrt_median_frequency" else weights)


def channel_statistics(reader: SampleReader) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and deviation of each channel over all pixels of a split, white being 1."""
    settings = (reader.channels, reader.card.image_max)
    state = state_of(settings, (str(pair.image) for pair in reader.pairs))
    mean, std = cached("channels", state, lambda: _channel_statistics(reader))
    constant = [channel for channel, deviation in enumerate(std) if deviation < 1e-6]
    if constant:
        raise UserError(
            f"data.std: auto: channel {constant[0]} has one value in all images of "
            f"'{reader.split}', so there is nothing to divide by; mend the images or give numbers"
        )
    return tuple(mean), tuple(std)


def _channel_statistics(reader: SampleReader) -> tuple[list[float], list[float]]:
    sums = parallel_map(lambda i: channel_sums(reader.read_image(i)), len(reader))
    mean, std = mean_and_std(sum(sums, np.zeros((3, reader.channels))))
    return _rounded(mean), _rounded(std)


def _rounded(numbers: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Round to six digits, so that a config stays readable."""
    return [float(f"{number:.6g}") for number in numbers]
