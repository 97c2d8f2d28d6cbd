"""Where masks lie that are shifted by many pixels, found on images of a quarter of the size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from segkit.data.images import to_grey
from segkit.doctor.shift import MIN_IMAGES, class_changes, edge_strength

CELL = 4  # pixels of the image in one of the reduced one, in either direction
REACH = 128  # pixels, the largest shift looked for
MIN_POINTS = 50  # boundary pixels that a reduced image needs to be used
MIN_LEAD = 5.0  # standard errors by which the best place leads any that is not beside it
BESIDE = 2  # cells; a broad peak has more than one

_CELLS = REACH // CELL


def coarse_correlation(image: NDArray, mask: NDArray[np.integer]) -> NDArray[np.float32] | None:
    """Correlate class boundaries with image edges as `edge_correlation` does, over wide shifts.

    All boundaries count at every shift; those that it moves out of the image meet mean edges.

    Shape: image `(H, W, C)`, uint8 or float 0 ... 1, and class indices `(H, W)` to `(65, 65)`;
        `[32 + y, 32 + x]` is how much stronger than elsewhere edges are where boundaries would be,
        were the mask moved back by `CELL * (y, x)` pixels.

    Returns:
        The correlation; None for an image of few boundaries.
    """
    height, width = (CELL * (side // CELL) for side in mask.shape)
    if min(height, width) < 2 * CELL:
        return None
    light = to_grey(image)[:height, :width].astype(np.float32)
    light = cv2.resize(light, (width // CELL, height // CELL), interpolation=cv2.INTER_AREA)
    small = mask[CELL // 2 : height : CELL, CELL // 2 : width : CELL]
    shape = [fft.next_fast_len(side + _CELLS, real=True) for side in small.shape]
    points, spectrum = 0, np.zeros(1, np.complex64)
    for axis in (0, 1):
        change = class_changes(small, axis).astype(np.float32)
        strength = edge_strength(light, axis)
        strength -= strength.mean()
        spectrum = spectrum + fft.rfft2(change, shape).conj() * fft.rfft2(strength, shape)
        points += int(change.sum())
    if points < MIN_POINTS:
        return None
    moves = -np.arange(-_CELLS, _CELLS + 1)
    surface: NDArray[np.float32] = fft.irfft2(spectrum, shape)[np.ix_(moves, moves)] / points
    return surface.astype(np.float32)


def distant_shift(surfaces: Sequence[NDArray[np.float32]]) -> tuple[int, int] | None:
    """Return about where masks lie against their images, (dy, dx) in pixels, to a cell.

    Returns:
        The place; None if the evidence is weak: fewer than MIN_IMAGES = 10 images, a place at the
        rim, or a lead of less than MIN_LEAD = 5 standard errors over another place.
    """
    if len(surfaces) < MIN_IMAGES:
        return None
    stack = np.array(surfaces, np.float64)
    mean = stack.mean(axis=0)
    y, x = (int(index) for index in np.unravel_index(mean.argmax(), mean.shape))
    if {0, 2 * _CELLS} & {y, x}:
        return None
    others = mean.copy()
    others[max(0, y - BESIDE) : y + BESIDE + 1, max(0, x - BESIDE) : x + BESIDE + 1] = -np.inf
    second = np.unravel_index(others.argmax(), others.shape)
    leads = stack[:, y, x] - stack[:, second[0], second[1]]
    if leads.mean() < MIN_LEAD * leads.std(ddof=1) / len(leads) ** 0.5:
        return None
    return CELL * (y - _CELLS), CELL * (x - _CELLS)
