"""Confidence intervals by block bootstrap over images.

Neighbouring frames of a video are nearly the same image, so drawing single frames would promise too
much; blocks of consecutive frames are drawn instead (Künsch 1989), which go on at the beginning of
a sequence where its end is reached (Politis and Romano 1992). An interval shows how much a score
would vary over other images of the same kind, and says nothing of other scenes or other trainings.

From few blocks, intervals are too narrow. For the mean of normal values, an interval from k blocks
holds the truth as often as Student's t of k - 1 degrees of freedom is within 1.96 sqrt(1 - 1 / k):
75 % of the time for 3, 85 % for 5, 90 % for 10, 93 % for 20. There are none from fewer than
`MIN_BLOCKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segkit.evaluation.patterns import groups_of
from segkit.evaluation.scores import Shares

SAMPLES = 2000
BLOCK = 10  # frames, of images that form sequences
MIN_BLOCKS = 10  # independent ones; fewer hold the truth less than 90 % of the time
LEVEL = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resampling:
    """How often each image is drawn in each bootstrap sample."""

    draws: NDArray[np.float64]  # `(samples, images)`
    block: int  # images drawn together
    blocks: int  # blocks that do not overlap; a shorter sequence counts as one

    def interval(self, values: Shares) -> Interval | None:
        """Return the middle 95 % of bootstrap values; None for fewer than `MIN_BLOCKS`."""
        return None if self.blocks < MIN_BLOCKS else percentiles(values)

    def of_sums(self, counts: NDArray[np.number], statistic: Callable[[Shares], Shares]) -> Shares:
        """Compute a statistic of counts that are summed over the images, for each bootstrap sample.

        Shape: counts `(images, ...)`; the statistic takes `(samples, ...)`.
        """
        flat = counts.reshape(len(counts), -1).astype(np.float64)
        return statistic((self.draws @ flat).reshape(len(self.draws), *counts.shape[1:]))

    def of_means(self, values: Shares) -> Shares:
        """Average over the images of each bootstrap sample, except those whose value is nan.

        Shape: values `(images,)`.
        """
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return (self.draws @ np.where(there, values, 0)) / (self.draws @ there)


def percentiles(values: Shares) -> Interval:
    """Return the middle 95 % of the values that are not nan; nan if there are none."""
    there = values[~np.isnan(values)]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(there, [tail, 100 - tail]) if there.size else (np.nan, np.nan)
    return float(low), float(high)


def resample(
    names: Sequence[str], sequences: str | None = None, block: int | None = None, seed: int = 0
) -> Resampling:
    """Draw bootstrap samples of images in blocks.

    Args:
        names: of the images, sorted.
        sequences: pattern whose group captures what the names of a sequence's frames share; None:
            the images form no sequences.
        block: frames in a block; None: `BLOCK` for sequences, else 1.
        seed: of the draws.
    """
    if block is None:
        block = BLOCK if sequences else 1
    follower = np.arange(len(names))  # each frame's next one, around the end of its sequence
    groups = group_sequences(names, sequences)
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
    return Resampling(draws, block, sum(max(1, len(group) // block) for group in groups))


def group_sequences(names: Sequence[str], pattern: str | None) -> list[NDArray[np.int64]]:
    """Group images, by index, whose names agree in what the pattern's group captures."""
    if pattern is None:
        return [np.arange(len(names))]
    groups: dict[str | None, list[int]] = {}
    for index, group in enumerate(groups_of(pattern, names)):
        groups.setdefault(group, []).append(index)
    return [np.array(group) for group in groups.values()]
