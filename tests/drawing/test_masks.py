"""Masks as colours, pixel by pixel."""

import numpy as np
import pytest

from segkit.drawing.masks import colorize, displayable, overlay, rgb

COLORS = [(200, 100, 0), (10, 20, 30), (255, 255, 255)]
MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_colours_are_those_of_the_classes_and_void_is_black(dtype):
    painted = colorize(MASK.astype(dtype), COLORS)
    assert painted.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            label = MASK[row, column]
            expected = (0, 0, 0) if label == 255 else COLORS[label]
            assert tuple(painted[row, column]) == expected


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_an_overlay_blends_and_leaves_void_alone(opacity):
    blended = overlay(IMAGE, MASK, COLORS, opacity)
    assert blended.dtype == np.uint8
    for row in range(2):
        for column in range(3):
            label = MASK[row, column]
            pixel = IMAGE[row, column].astype(float)
            if label != 255:
                pixel = (1 - opacity) * pixel + opacity * np.array(COLORS[label])
            assert np.abs(blended[row, column] - pixel).max() <= 0.5


def test_any_number_of_channels_is_shown_as_rgb():
    four = np.concatenate([IMAGE, IMAGE[..., :1]], axis=2)
    assert np.array_equal(displayable(four), IMAGE)
    assert np.array_equal(displayable(IMAGE), IMAGE)
    for grey in (IMAGE[..., :1], IMAGE[..., :2]):
        assert np.array_equal(displayable(grey), np.stack([grey[..., 0]] * 3, axis=2))
    void = np.full((2, 3), 255)
    assert np.array_equal(overlay(IMAGE[..., :1], void, COLORS), displayable(IMAGE[..., :1]))


def test_colours_for_matplotlib_end_at_one():
    assert rgb((255, 0, 51)) == (1.0, 0.0, 0.2)
