"""Confidence intervals by block bootstrap over images.

Neighbouring frames of a video are nearly the same image, so drawing single frames would promise too
much; blocks of consecutive frames are drawn instead (Künsch 1989), which go on at the beginning of
a sequence where its end is reached (Politis and Romano 1992). An interval tells how much a figure
would vary over other images of the same kind, and nothing of other scenes or other trainings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.evaluation.metrics import Shares

SAMPLES = 2000
BLOCK = 10  # frames, where the card names sequences and the user no length
LEVEL = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resampling:
    """How often each image is drawn in each bootstrap sample.

    Args:
        draws: `(samples, images)`.
        block: images drawn together.
    """

    draws: NDArray[np.float64]
    block: int

    def interval(self, values: Shares) -> Interval | None:
        """Give the middle 95 % of a figure's bootstrap values; None for fewer than two blocks."""
        if self.draws.shape[1] < 2 * self.block:
            return None
        return percentiles(values)

    def of_sums(self, counts: NDArray[np.number], statistic: Callable[[Shares], Shares]) -> Shares:
        """Give a statistic of counts that are summed over the images, for each sample.

        Shape: counts `(images, ...)`; the statistic takes `(samples, ...)`.
        """
        flat = counts.reshape(len(counts), -1).astype(np.float64)
        return statistic((self.draws @ flat).reshape(len(self.draws), *counts.shape[1:]))

    def of_means(self, values: Shares) -> Shares:
        """Give a mean over images for each sample; an image without a value is left out.

        Shape: values `(images,)`.
        """
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            means: Shares = (self.draws @ np.where(there, values, 0)) / (self.draws @ there)
        return means


def percentiles(values: Shares) -> Interval:
    """Give the middle 95 % of values; nan if there are none."""
    there = values[~np.isnan(values)]
    if not there.size:
        return float("nan"), float("nan")
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(there, [tail, 100 - tail])
    return float(low), float(high)


def resample(
    names: Sequence[str], card: Card, block: int | None = None, seed: int = 0
) -> Resampling:
    """Draw bootstrap samples of images in blocks.

    Args:
        names: of the images, sorted.
        card: may name sequences of consecutive frames.
        block: frames in a block; None: `BLOCK` where the card names sequences, else 1.
        seed: of the draws.
    """
    if block is None:
        block = BLOCK if card.sequences else 1
    groups = sequences(names, card)
    follower = np.arange(len(names))  # each frame's next one, around the end of its sequence
    for group in groups:
        follower[group] = np.roll(group, -1)
    generator = np.random.default_rng(seed)
    draws = np.zeros((SAMPLES, len(names)))
    for sample in draws:
        place = generator.integers(len(names), size=-(-len(names) // block))
        missing = len(names)
        for _ in range(block):  # all blocks grow by a frame
            np.add.at(sample, place[:missing], 1)
            missing -= len(place[:missing])
            place = follower[place]
    return Resampling(draws, block)


def sequences(names: Sequence[str], card: Card) -> list[NDArray[np.int64]]:
    """Group images into sequences: those whose names agree in what the card's pattern captures."""
    if card.sequences is None:
        return [np.arange(len(names))]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        match = re.search(card.sequences, name)
        groups.setdefault(match.group(1) if match else name, []).append(index)
    return [np.array(group) for group in groups.values()]
