"""Masks that are shifted against their images: by how many pixels, and how certain that is.

If class boundaries lie on images' edges only once all masks are moved by the same few pixels, a
crop, a resize of another convention or an export that counts from 1 has shifted them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segkit.data.images import to_grey
from segkit.labels import IGNORE_INDEX

RADIUS = 6  # pixels around a place, within which a shift is measured
MIN_POINTS = 100  # boundary pixels that an image needs to be used
MAX_POINTS = 1500  # that are looked at in either direction; more cost time and tell little
MIN_IMAGES = 10
MIN_PEAK = 5.0  # height of the peak above the window's rim, in standard errors
MAX_WIDTH = 1.5  # pixels, of a 95 % interval
NOTABLE = 0.5  # pixels; less is common (CamVid's masks lie 0.3 too high) and does little harm

_WINDOW = 2 * RADIUS + 1
_CONTRAST = 2.0  # grey levels added to the mean edge around: sensor noise is no edge


class Shift(NamedTuple):
    """The shift of masks against their images."""

    dy: float  # pixels that the masks lie too low
    dx: float  # pixels that the masks lie too far right
    dy_interval: tuple[float, float]  # 95 % confidence
    dx_interval: tuple[float, float]
    images: int  # with enough boundaries

    @property
    def is_shifted(self) -> bool:
        """Whether the interval of either axis lies wholly beyond half a pixel (NOTABLE)."""
        return any(
            low > NOTABLE or high < -NOTABLE for low, high in (self.dy_interval, self.dx_interval)
        )


def edge_correlation(
    image: NDArray, mask: NDArray[np.integer], around: tuple[int, int] = (0, 0)
) -> NDArray[np.float32] | None:
    """Correlate class boundaries with image edges, over shifts of up to RADIUS pixels from a place.

    Both are forward differences, so that a boundary and its edge have the same place. An edge
    counts as a multiple of the mean edge around it, so that neither a textured wall nor a bright
    image outweighs the rest. Boundaries with void are no boundaries.

    Shape: image `(H, W, C)`, uint8 or float 0 ... 1, and class indices `(H, W)` to `(13, 13)`;
        `[RADIUS + dy, RADIUS + dx]` is how much stronger than elsewhere in the window edges are
        where boundaries would be, were the mask moved back by (dy, dx) and `around`.

    Returns:
        The correlation; None if there are fewer than MIN_POINTS = 100 boundary pixels that stay
        within the frame under every shift.
    """
    light = to_grey(image).astype(np.float32)
    total = np.zeros(_WINDOW**2)
    points = 0
    for axis in (0, 1):
        places = _boundaries(mask, axis, around)
        if not places.size:
            continue
        strength = edge_strength(light, axis)
        dy, dx = (place + np.arange(-RADIUS, RADIUS + 1) for place in around)
        moves = (dy[:, None] * strength.shape[1] + dx).ravel()
        total += strength.ravel()[places - moves[:, None]].sum(axis=1)
        points += places.size
    if points < MIN_POINTS:
        return None
    surface = (total / points).reshape(_WINDOW, _WINDOW)
    return (surface - surface.mean()).astype(np.float32)


def edge_strength(light: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the differences of grey levels along an axis, as multiples of those around."""
    edges = np.abs(np.diff(light, axis=axis))
    strength: NDArray[np.float32] = edges / (cv2.blur(edges, (_WINDOW, _WINDOW)) + _CONTRAST)
    return strength


def class_changes(mask: NDArray[np.integer], axis: int) -> NDArray[np.bool_]:
    """Mark where the class changes along an axis, other than from or to void."""
    ahead, behind = (mask[1:], mask[:-1]) if axis == 0 else (mask[:, 1:], mask[:, :-1])
    return (ahead != behind) & (ahead != IGNORE_INDEX) & (behind != IGNORE_INDEX)


def _boundaries(mask: NDArray[np.integer], axis: int, around: tuple[int, int]) -> NDArray[np.intp]:
    """Return where the class changes along an axis as flat indices, MAX_POINTS at most."""
    change = class_changes(mask, axis)
    inner = np.zeros_like(change)  # every shift sees the same boundaries
    window = tuple(
        slice(max(0, place + RADIUS), max(0, side + min(0, place - RADIUS)))
        for side, place in zip(change.shape, around, strict=True)
    )
    inner[window] = change[window]
    places = np.flatnonzero(inner)
    return places[:: 1 + len(places) // MAX_POINTS]


def estimate_shift(
    surfaces: Sequence[NDArray[np.float32] | None], seed: int = 0, around: tuple[int, int] = (0, 0)
) -> Shift | None:
    """Estimate the shift that masks have in common, by surfaces measured around a place.

    The surfaces' mean peaks at the shift, refined by a parabola along either axis. Intervals
    are percentiles of 1000 bootstrap samples of the images (Efron and Tibshirani, An Introduction
    to the Bootstrap, 1993).

    Returns:
        The shift; None if the evidence is weak: fewer than MIN_IMAGES = 10 images, a peak at the
        rim of the window or less than MIN_PEAK = 5 standard errors above it, or an interval of more
        than MAX_WIDTH = 1.5 pixels. Surfaces that are None do not count.
    """
    stack = np.array([surface for surface in surfaces if surface is not None], np.float64)
    images = len(stack)
    if images < MIN_IMAGES:
        return None
    mean = stack.mean(axis=0)
    y, x = (int(index) for index in np.unravel_index(mean.argmax(), mean.shape))
    if {0, _WINDOW - 1} & {y, x}:
        return None
    rim = np.pad(np.zeros((_WINDOW - 2, _WINDOW - 2), bool), 1, constant_values=True)
    heights = stack[:, y, x] - stack[:, rim].mean(axis=1)
    if heights.mean() < MIN_PEAK * heights.std(ddof=1) / images**0.5:
        return None
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), 1000)
    samples = (draws @ stack.reshape(images, -1) / images).reshape(-1, _WINDOW, _WINDOW)
    low, high = np.percentile([_summit(sample) for sample in samples], [2.5, 97.5], axis=0)
    if (high - low).max() > MAX_WIDTH:
        return None
    dy, dx = np.add(_summit(mean), around).tolist()
    (dy_low, dx_low), (dy_high, dx_high) = (low + around).tolist(), (high + around).tolist()
    return Shift(dy, dx, (dy_low, dy_high), (dx_low, dx_high), images)


def _summit(surface: NDArray[np.float64]) -> tuple[float, float]:
    """Return the place of the maximum, (dy, dx), to a fraction of a pixel."""
    y, x = (int(index) for index in np.unravel_index(surface.argmax(), surface.shape))
    return y - RADIUS + _vertex(surface[:, x], y), x - RADIUS + _vertex(surface[y], x)


def _vertex(line: NDArray[np.float64], top: int) -> float:
    """Return where a parabola through the maximum and its neighbours peaks, -0.5 to 0.5."""
    if not 0 < top < len(line) - 1:
        return 0.0
    left, middle, right = line[top - 1 : top + 2].tolist()
    bend = left - 2 * middle + right
    return (left - right) / (2 * bend) if bend else 0.0
