"""Colours for classes that are given none, apart from each other also without red and green."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from segkit.labels import Color

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
# the palette of Okabe and Ito, Color universal design (2008), without its black
PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
NEAR = 15.0  # distance in CIELAB below which a colour of the palette is not taken
# what those who lack the cones for red or green see, as matrices for linear RGB (Machado, Oliveira
# and Fernandes, IEEE TVCG 15, 2009)
_VISIONS = np.array(
    [
        np.eye(3),
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    ]
)
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)
_GRID: list[Color] = [(r, g, b) for r, g, b in product(_LEVELS, repeat=3)]


def distinct_colors(count: int, taken: Iterable[Color] = ()) -> list[Color]:
    """Choose RGB colours, always the same: those of the palette, then those farthest from all.

    Args:
        count: number of colours; black and white are never among them.
        taken: colours that they must differ from.
    """
    candidates: list[Color] = [*PALETTE, *_GRID]
    places = _perceived(candidates)
    distance = np.full(len(candidates), np.inf)  # from the nearest colour that is taken
    for color in _perceived([BLACK, WHITE, *taken]):
        distance = np.minimum(distance, _distance(places, color))
    chosen = []
    for _ in range(count):
        free = np.flatnonzero(distance[: len(PALETTE)] >= NEAR)
        best = int(free[0]) if free.size else int(distance.argmax())
        chosen.append(candidates[best])
        distance = np.minimum(distance, _distance(places, places[best]))
    return chosen


def _perceived(colors: Sequence[Color]) -> NDArray[np.float64]:
    """Return CIELAB coordinates as each vision sees them, `(N, 3)` to `(N, visions, 3)`."""
    shares = np.clip(np.array(colors) / 255, 0, 1)
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = np.einsum("vij,nj->nvi", _VISIONS, linear).clip(0, 1)
    return cv2.cvtColor(seen.astype(np.float32), cv2.COLOR_LRGB2LAB).astype(np.float64)


def _distance(places: NDArray[np.float64], color: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far colours are from one, in the vision that tells them apart the least."""
    return np.linalg.norm(places - color, axis=-1).min(axis=-1)
