"""What the page's plots draw: where the data lies, and what to read off it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segkit.evaluation.calibration import BINS
from segkit.evaluation.findings import Findings
from segkit.evaluation.metrics import percent

WIDTH, HEIGHT = 360, 250  # of a plot's viewBox: its text is as large as the page's on a phone
LEFT, RIGHT, TOP, BOTTOM = 40, 350, 10, 212  # of the data in it
READ_OFF = (1, 3, 5, 10, 20)  # pixels from a boundary, in words


@dataclass(frozen=True)
class Frame:
    """Maps data to places in a plot.

    Args:
        low: where the axes cross, (x, y).
        high: the other ends of the axes.
    """

    low: tuple[float, float]
    high: tuple[float, float]

    def x(self, value: float) -> float:
        """Give the place along the width."""
        share = (value - self.low[0]) / (self.high[0] - self.low[0])
        return round(LEFT + share * (RIGHT - LEFT), 2)

    def y(self, value: float) -> float:
        """Give the place along the height, from the top."""
        share = (value - self.low[1]) / (self.high[1] - self.low[1])
        return round(BOTTOM - share * (BOTTOM - TOP), 2)

    @property
    def rules(self) -> list[float]:
        """Give the heights worth a line: four to seven round numbers."""
        span = self.high[1] - self.low[1]
        step = next(s for s in (0.02, 0.05, 0.1, 0.2) if span < 6.5 * s)
        first, last = (round(bound / step, 6) for bound in (self.low[1], self.high[1]))
        return [step * i for i in range(math.ceil(first), math.floor(last) + 1)]


@dataclass(frozen=True)
class TrimapPlot:
    """mIoU near the boundaries.

    Args:
        frame: of the plot.
        points: (pixels from a boundary, mIoU); none if nothing has a boundary.
        overall: mIoU of whole images.
    """

    frame: Frame
    points: list[tuple[int, float]]
    overall: float

    @property
    def path(self) -> str:
        """Write the curve as SVG."""
        return _path(self.frame, self.points)

    @property
    def spoken(self) -> str:
        """Say what the curve shows."""
        near = [f"{percent(v)} % within {r} px" for r, v in self.points if r in READ_OFF]
        return f"mIoU {', '.join(near)}; {percent(self.overall)} % over whole images"


def trimap_plot(findings: Findings) -> TrimapPlot:
    """Lay out the trimap curve; its height is cut to the tens of percent that it takes."""
    points = [(r, v) for r, v in findings.trimap.items() if not math.isnan(v)]
    overall = findings.scores.miou
    heights = [v for _, v in points] + [0.0 if math.isnan(overall) else overall]
    low = math.floor(10 * min(heights)) / 10
    high = min(1.0, max(math.ceil(10 * max(heights)) / 10, low + 0.1))
    frame = Frame((0, min(low, high - 0.1)), (max(findings.trimap, default=1), high))
    return TrimapPlot(frame, points, overall)


@dataclass(frozen=True)
class Bin:
    """Pixels that the network is about equally sure of.

    Args:
        low: bound of the confidence.
        high: bound of the confidence.
        confidence: mean.
        accuracy: share of them that is right.
        share: of all pixels.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    share: float


@dataclass(frozen=True)
class ReliabilityPlot:
    """Confidence against accuracy.

    Args:
        frame: of the plot.
        bins: those with pixels.
        error: expected calibration error.
        confidence: mean over the pixels.
        accuracy: over the pixels.
    """

    frame: Frame
    bins: list[Bin]
    error: float
    confidence: float
    accuracy: float

    @property
    def path(self) -> str:
        """Write the curve as SVG."""
        return _path(self.frame, [(b.confidence, b.accuracy) for b in self.bins])

    @property
    def verdict(self) -> str:
        """Say whether the network is sure too often or too seldom."""
        gap = self.confidence - self.accuracy
        if abs(gap) < 0.005:
            return "as sure as it is right on average"
        return "over-confident" if gap > 0 else "under-confident"

    @property
    def spoken(self) -> str:
        """Say what the diagram shows."""
        return (
            f"expected calibration error {percent(self.error)} %; mean confidence "
            f"{percent(self.confidence)} %, accuracy {percent(self.accuracy)} %: {self.verdict}"
        )


def reliability_plot(findings: Findings) -> ReliabilityPlot:
    """Lay out the reliability diagram."""
    found = findings.calibration
    edges = np.linspace(0, 1, BINS + 1).tolist()
    bins = [
        Bin(edges[i], edges[i + 1], *map(float, values))
        for i, values in enumerate(zip(found.confidence, found.accuracy, found.share, strict=True))
        if values[2] > 0
    ]
    return ReliabilityPlot(
        Frame((0, 0), (1, 1)),
        bins,
        found.error,
        sum(b.share * b.confidence for b in bins),
        sum(b.share * b.accuracy for b in bins),
    )


def _path(frame: Frame, points: list[tuple[int, float]] | list[tuple[float, float]]) -> str:
    def places() -> Iterator[str]:
        for x, y in points:
            yield f"{frame.x(x)} {frame.y(y)}"

    return "M" + " L".join(places())
