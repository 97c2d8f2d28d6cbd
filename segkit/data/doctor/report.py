"""What the doctor found, summed up, as lines for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from segkit.data.card import Card
from segkit.data.doctor.finding import Finding
from segkit.data.doctor.judge import judge
from segkit.data.doctor.scan import Facts, SplitFacts
from segkit.data.statistics import class_weights
from segkit.data.survey import Survey


@dataclass(frozen=True)
class ClassSummary:
    """How much there is of a class in a split.

    Args:
        name: of the class.
        pixels: of the class.
        share: of the valid pixels.
        images: in which it occurs.
        weight: of its loss by median frequency, see `class_weights`.
    """

    name: str
    pixels: int
    share: float
    images: int
    weight: float


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds.

    Args:
        name: of the split.
        pairs: that were read.
        sizes: (H, W) of the images and how many have it, the most frequent first.
        void: share of the pixels that are ignored.
        classes: one entry each.
        mean: of each channel, white being 1.
        std: of each channel.
    """

    name: str
    pairs: int
    sizes: list[tuple[tuple[int, int], int]]
    void: float
    classes: list[ClassSummary]
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Report:
    """All there is to say about a data set."""

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
        """One line: how many errors and warnings."""
        if not self.findings:
            return "nothing is wrong with it"
        errors = f"{self.errors} error{'s' * (self.errors != 1)}"
        return f"{errors}, {self.warnings} warning{'s' * (self.warnings != 1)}"

    def as_json(self) -> dict[str, Any]:
        """Give plain values, as JSON knows them."""
        return {
            "card": self.card.name,
            "root": self.card.root,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [asdict(finding) for finding in self.findings],
            "splits": [asdict(split) for split in self.splits],
        }


def make_report(card: Card, splits: Sequence[SplitFacts], needed: Sequence[str]) -> Report:
    """Judge and sum up scanned splits.

    Args:
        card: of the data set.
        splits: scanned.
        needed: splits whose absence is an error.
    """
    summaries = [_summary(card, split) for split in splits if split.facts]
    return Report(card, summaries, judge(card, splits, needed))


def _summary(card: Card, split: SplitFacts) -> SplitSummary:
    counted = [facts.pixels for facts in split.facts if facts.pixels is not None]
    pixels = np.stack(counted) if counted else np.zeros((0, card.num_classes + 1), np.int64)
    total, present = pixels.sum(0), pixels[:, :-1] > 0
    valid = pixels[:, :-1].sum(1)
    survey = Survey(
        total[:-1].tolist(),
        (present * valid[:, None]).sum(0).tolist(),
        present.sum(0).tolist(),
        int(total[-1]),
    )
    weights = (
        class_weights("median_frequency", survey) if any(survey.pixels) else [0.0] * len(total)
    )
    shares = total / max(int(total[:-1].sum()), 1)
    sizes = Counter(facts.image_size for facts in split.facts if facts.image_size)
    mean, std = _channels(split.facts)
    return SplitSummary(
        name=split.name,
        pairs=len(split.facts),
        sizes=sizes.most_common(),
        void=float(total[-1] / max(int(total.sum()), 1)),
        classes=[
            ClassSummary(name, survey.pixels[i], float(shares[i]), survey.images[i], weights[i])
            for i, name in enumerate(card.class_names)
        ],
        mean=mean,
        std=std,
    )


def _channels(facts: Sequence[Facts]) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels, over the images with as many of them as most have."""
    sums = [f.channels for f in facts if f.channels is not None]
    if not sums:
        return [], []
    [(usual, _)] = Counter(s.shape[1] for s in sums).most_common(1)
    number, total, squares = np.sum([s for s in sums if s.shape[1] == usual], axis=0)
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean**2, 0))
    return mean.round(5).tolist(), std.round(5).tolist()


def tables(report: Report) -> Iterator[Table]:
    """Lay out each split's classes for the terminal."""
    for split in report.splits:
        table = Table(title=escape(f"{split.name}: {split.pairs} pairs, {sizes_line(split)}"))
        table.add_column("class")
        for column in ("share of pixels %", "images", "median-frequency weight"):
            table.add_column(column, justify="right")
        for entry in split.classes:
            row = (f"{100 * entry.share:.2f}", str(entry.images), f"{entry.weight:.4f}")
            table.add_row(escape(entry.name), *row)
        table.caption = (
            f"void {split.void:.1%}; channel means {numbers(split.mean)}, "
            f"deviations {numbers(split.std)}"
        )
        yield table


def numbers(values: Sequence[float]) -> str:
    """Write means or deviations."""
    return " ".join(f"{value:.4f}" for value in values)


def sizes_line(split: SplitSummary) -> str:
    """Say which sizes (H x W) the images have."""
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
    """Write the findings: (severity, text) each, with examples below as ("", text)."""
    for finding in report.findings:
        where = f" {finding.split}:" if finding.split else ""
        yield finding.severity, f"{finding.check}:{where} {finding.text}"
        more = finding.count - len(finding.examples)
        for example in finding.examples:
            yield "", example
        if finding.examples and more > 0:
            yield "", f"... and {more} more"
