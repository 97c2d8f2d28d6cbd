"""The report on a data set, as tables and lines for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from segkit.data.card import Card
from segkit.data.inspect import mean_and_std, sum_classes
from segkit.data.statistics import class_weights
from segkit.doctor.checks import check
from segkit.doctor.finding import Finding
from segkit.doctor.scan import Facts, SplitFacts


@dataclass(frozen=True)
class ClassSummary:
    """How much there is of a class in a split."""

    name: str
    pixels: int
    share: float  # of the valid pixels, 0 ... 1
    images: int  # in which it occurs
    weight: float  # by median frequency, see `class_weights`


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of a split."""

    name: str
    pairs: int  # that were read
    sizes: list[tuple[tuple[int, int], int]]  # (H, W) and how many have it, the most frequent first
    void: float  # share of the pixels that are ignored, 0 ... 1
    classes: list[ClassSummary]
    mean: list[float]  # of each channel, white being 1
    std: list[float]


@dataclass(frozen=True)
class Report:
    """Statistics of a data set, and what is wrong with it."""

    card: Card
    splits: list[SplitSummary]
    findings: list[Finding]

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of findings that are warnings."""
        return len(self.findings) - self.errors

    @property
    def verdict(self) -> str:
        """How many errors and warnings there are, in one line."""
        if not self.findings:
            return "nothing is wrong with it"
        errors = f"{self.errors} error{'s' * (self.errors != 1)}"
        return f"{errors}, {self.warnings} warning{'s' * (self.warnings != 1)}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values, as JSON knows them."""
        return {
            "card": self.card.name,
            "root": self.card.root,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "splits": [asdict(split) for split in self.splits],
        }


def make_report(card: Card, splits: Sequence[SplitFacts], needed: Sequence[str]) -> Report:
    """Check scanned splits and sum them up; the absence of a needed split is an error."""
    summaries = [_summary(card, split) for split in splits if split.facts]
    return Report(card, summaries, check(card, splits, needed))


def _summary(card: Card, split: SplitFacts) -> SplitSummary:
    masks = [facts.mask.pixels for facts in split.facts if facts.mask.pixels is not None]
    counts = sum_classes(masks, card.num_classes)
    valid = sum(counts.pixels)
    weights = class_weights("median_frequency", counts) if valid else [0.0] * card.num_classes
    shares = [pixels / max(valid, 1) for pixels in counts.pixels]
    rows = zip(card.class_names, counts.pixels, shares, counts.images, weights, strict=True)
    sizes = Counter(facts.image_size for facts in split.facts if facts.image_size)
    void = counts.void / max(valid + counts.void, 1)
    classes = [ClassSummary(*row) for row in rows]
    return SplitSummary(
        split.name, len(split.facts), sizes.most_common(), void, classes, *_channels(split.facts)
    )


def _channels(facts: Sequence[Facts]) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels, over the images with as many of them as most have."""
    sums = [f.channels for f in facts if f.channels is not None]
    if not sums:
        return [], []
    [(usual, _)] = Counter(s.shape[1] for s in sums).most_common(1)
    mean, std = mean_and_std(np.sum([s for s in sums if s.shape[1] == usual], axis=0))
    return mean.round(5).tolist(), std.round(5).tolist()


def tables(report: Report) -> Iterator[Table]:
    """Yield a table of each split's classes for the terminal."""
    for split in report.splits:
        table = Table(title=f"{split.name}: {split.pairs} pairs, {sizes_line(split)}")
        table.add_column("class")
        for column in ("share of pixels %", "images", "median-frequency weight"):
            table.add_column(column, justify="right")
        table.add_column("colour")
        for entry, color in zip(split.classes, report.card.colors, strict=True):
            row = (f"{100 * entry.share:.2f}", str(entry.images), f"{entry.weight:.4f}")
            table.add_row(entry.name, *row, " ".join(map(str, color)))
        table.caption = (
            f"void {split.void:.1%}; channel means {numbers(split.mean)}, "
            f"deviations {numbers(split.std)}"
        )
        yield table


def numbers(values: Sequence[float]) -> str:
    """Format means or deviations."""
    return " ".join(f"{value:.4f}" for value in values)


def sizes_line(split: SplitSummary) -> str:
    """Describe the sizes (H x W) of the images."""
    if not split.sizes:
        return "no readable image"
    (common, count), *others = split.sizes
    line = f"{common[0]}x{common[1]} (H x W)"
    if not others:
        return line
    heights, widths = zip(*(size for size, _ in split.sizes), strict=True)
    return (
        f"{len(split.sizes)} sizes, heights {min(heights)} to {max(heights)}, widths {min(widths)} "
        f"to {max(widths)}, {count} of {line}"
    )


def lines(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the findings as (severity, text), and examples below each as ("", text)."""
    for finding in report.findings:
        yield finding.severity, f"{finding.check}: {finding.split}: {finding.text}"
        more = finding.count - len(finding.examples)
        for example in finding.examples:
            yield "", example
        if finding.examples and more > 0:
            yield "", f"... and {more} more"
