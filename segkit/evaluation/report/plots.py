"""Layout of the page's plots, and captions for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from segkit.evaluation.calibration import BINS
from segkit.evaluation.results import Results
from segkit.evaluation.scores import percent

WIDTH, HEIGHT = 360, 250  # of a plot's viewBox: its text is as large as the page's on a phone
LEFT, RIGHT, TOP, BOTTOM = 40, 350, 10, 212  # of the data in it
IN_CAPTION = (1, 3, 5, 10, 20)  # pixels from a boundary


@dataclass(frozen=True)
class Frame:
    """Map data to coordinates of a plot, whose axes go from `low` to `high`, each (x, y)."""

    low: tuple[float, float]
    high: tuple[float, float]

    def x(self, value: float) -> float:
        """Return the coordinate along the width."""
        share = (value - self.low[0]) / (self.high[0] - self.low[0])
        return round(LEFT + share * (RIGHT - LEFT), 2)

    def y(self, value: float) -> float:
        """Return the coordinate along the height, from the top."""
        share = (value - self.low[1]) / (self.high[1] - self.low[1])
        return round(BOTTOM - share * (BOTTOM - TOP), 2)

    @property
    def rules(self) -> list[float]:
        """Heights of the grid lines: four to seven round numbers."""
        span = self.high[1] - self.low[1]
        step = next(s for s in (0.02, 0.05, 0.1, 0.2) if span < 6.5 * s)
        first, last = (round(bound / step, 6) for bound in (self.low[1], self.high[1]))
        return [step * i for i in range(math.ceil(first), math.floor(last) + 1)]


def trimap_plot(results: Results) -> dict[str, Any]:
    """Lay out the trimap curve; the axis spans the tens of percent that it takes."""
    points = [(r, v) for r, v in results.trimap.items() if not math.isnan(v)]
    overall = results.scores.miou
    heights = [v for _, v in points] + [0.0 if math.isnan(overall) else overall]
    low = math.floor(10 * min(heights)) / 10
    high = min(1.0, max(math.ceil(10 * max(heights)) / 10, low + 0.1))
    frame = Frame((0, min(low, high - 0.1)), (max(results.trimap, default=1), high))
    near = [f"{percent(v)} % within {r} px" for r, v in points if r in IN_CAPTION]
    return {
        "frame": frame,
        "points": points,
        "overall": overall,
        "path": _path(frame, points),
        "caption": f"mIoU {', '.join(near)}; {percent(overall)} % over whole images",
    }


class Bin(NamedTuple):
    """Pixels of a confidence from `low` to `high`; its mean, their accuracy and share of all."""

    low: float
    high: float
    confidence: float
    accuracy: float
    share: float


def reliability_plot(results: Results) -> dict[str, Any]:
    """Lay out the reliability diagram, and say whether the network is over- or under-confident."""
    found = results.calibration
    edges = np.linspace(0, 1, BINS + 1).tolist()
    bins = [
        Bin(edges[i], edges[i + 1], *map(float, values))
        for i, values in enumerate(zip(found.confidence, found.accuracy, found.share, strict=True))
        if values[2] > 0
    ]
    confidence = sum(b.share * b.confidence for b in bins)
    accuracy = sum(b.share * b.accuracy for b in bins)
    verdict = "over-confident" if confidence > accuracy else "under-confident"
    if abs(confidence - accuracy) < 0.005:
        verdict = "as sure as it is right on average"
    means = f"confidence {percent(confidence)} %, accuracy {percent(accuracy)} %: {verdict}"
    frame = Frame((0, 0), (1, 1))
    return {
        "frame": frame,
        "bins": bins,
        "error": found.error,
        "path": _path(frame, [(b.confidence, b.accuracy) for b in bins]),
        "means": means,
        "caption": f"expected calibration error {percent(found.error)} %; mean {means}",
    }


def _path(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{frame.x(x)} {frame.y(y)}" for x, y in points)
