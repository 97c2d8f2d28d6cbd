"""Masks as colours, pixel by pixel."""

import numpy as np
import pytest

from segkit.drawing.masks import VOID_COLOR, colorize, displayable, overlay, rgb

COLORS = [(200, 100, 0), (10, 20, 30), (255, 255, 255)]
MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_colours_are_those_of_the_classes_and_of_void(dtype):
    painted = colorize(MASK.astype(dtype), COLORS)
    assert painted.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            label = MASK[row, column]
            expected = VOID_COLOR if label == 255 else COLORS[label]
            assert tuple(painted[row, column]) == expected


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_an_overlay_blends_classes_and_void(opacity):
    blended = overlay(IMAGE, MASK, COLORS, opacity)
    assert blended.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            label = MASK[row, column]
            color = np.array(VOID_COLOR if label == 255 else COLORS[label])
            pixel = (1 - opacity) * IMAGE[row, column] + opacity * color
            assert np.abs(blended[row, column] - pixel).max() <= 0.5


def test_any_number_of_channels_is_shown_as_rgb():
    four = np.concatenate([IMAGE, IMAGE[..., :1]], axis=2)
    assert np.array_equal(displayable(four), IMAGE)
    assert np.array_equal(displayable(IMAGE), IMAGE)
    for grey in (IMAGE[..., :1], IMAGE[..., :2]):
        assert np.array_equal(displayable(grey), np.stack([grey[..., 0]] * 3, axis=2))
    assert np.array_equal(overlay(IMAGE[..., :1], MASK, COLORS, 0), displayable(IMAGE[..., :1]))


def test_colours_for_matplotlib_end_at_one():
    assert rgb((255, 0, 51)) == (1.0, 0.0, 0.2)
