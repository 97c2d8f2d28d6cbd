"""Masks moved by many pixels are found on reduced images; what does not belong is passed over."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from segkit.doctor.distant import CELL, REACH, coarse_correlation, distant_shift
from segkit.doctor.shift import edge_correlation, estimate_shift


@pytest.fixture(scope="module")
def scenes(drawn):
    return drawn[:20]


def moved(mask, dy, dx):
    """A mask in another place; what is uncovered is void."""
    padded = np.full([3 * side for side in mask.shape], 255, np.uint8)
    height, width = mask.shape
    padded[height + dy : 2 * height + dy, width + dx : 2 * width + dx] = mask
    return padded[height : 2 * height, width : 2 * width]


def surfaces(pairs):
    found = (coarse_correlation(image, mask) for image, mask in pairs)
    return [surface for surface in found if surface is not None]


def test_the_surface_is_that_of_loops():
    rng = np.random.default_rng(0)
    mask = (cv2.GaussianBlur(rng.standard_normal((102, 121)), (0, 0), 6) > 0).astype(np.uint8)
    mask[:, 80:84] = 255
    image = (60 + 90 * (mask == 1) + rng.normal(0, 9, mask.shape)).clip(0, 255)
    image = image.astype(np.uint8)[..., None]
    light = image[:100, :120, 0].reshape(25, 4, 30, 4).mean((1, 3))
    small = mask[2:100:4, 2:120:4]
    moves = [(0, 0), (0, 3), (-5, 2), (7, -9), (20, 0)]
    total, points = np.zeros(len(moves)), 0
    for turn in (np.asarray, np.transpose):  # the second looks along columns
        grey, classes = turn(light), turn(small)
        edges = abs(grey[:, 1:] - grey[:, :-1])
        edges /= ndimage.uniform_filter(edges, 13, mode="mirror") + 2
        edges -= edges.mean()
        for y, x in np.ndindex(edges.shape):
            pair = classes[y, x], classes[y, x + 1]
            if pair[0] == pair[1] or 255 in pair:
                continue
            points += 1
            for k, (dy, dx) in enumerate(moves):
                to_y, to_x = (y - dy, x - dx) if turn is np.asarray else (y - dx, x - dy)
                if 0 <= to_y < edges.shape[0] and 0 <= to_x < edges.shape[1]:
                    total[k] += edges[to_y, to_x]
    surface = coarse_correlation(image, mask)
    assert surface.shape == (65, 65)
    assert [surface[32 + dy, 32 + dx] for dy, dx in moves] == pytest.approx(
        total / points, abs=0.01
    )


@pytest.mark.parametrize(
    ("dy", "dx"), [(7, 0), (0, -7), (-12, 0), (0, 20), (20, -20), (-32, 0), (0, 48), (48, 0)]
)
def test_masks_moved_far_are_found_and_measured(dy, dx, scenes):
    pairs = [(image, moved(mask, dy, dx)) for image, mask in scenes]
    place = distant_shift(surfaces(pairs))
    assert max(abs(np.subtract(place, (dy, dx)))) <= CELL
    shift = estimate_shift([edge_correlation(*pair, place) for pair in pairs], around=place)
    assert (shift.dy, shift.dx) == pytest.approx((dy, dx), abs=0.15)
    for interval, by in ((shift.dy_interval, dy), (shift.dx_interval, dx)):
        assert interval[0] - 0.15 <= by <= interval[1] + 0.15


@pytest.mark.parametrize("count", [20, 10])
def test_masks_in_place_are_in_place(count, scenes):
    assert distant_shift(surfaces(scenes[:count])) == (0, 0)


@pytest.mark.parametrize("kind", ["blobs", "noise", "of other images", "of flat images"])
def test_masks_that_do_not_belong_tell_nothing(kind, scenes):
    rng = np.random.default_rng(0)
    for trial in range(5):
        if kind == "blobs":
            pairs = [
                (image, (cv2.GaussianBlur(rng.standard_normal(mask.shape), (0, 0), 6) > 0) * 1)
                for image, mask in scenes
            ]
        elif kind == "noise":
            pairs = [(image, rng.integers(0, 3, mask.shape, np.uint8)) for image, mask in scenes]
        elif kind == "of other images":
            pairs = [(image, scenes[k - trial - 1][1]) for k, (image, _) in enumerate(scenes)]
        else:
            pairs = [(np.full_like(image, 90), mask) for image, mask in scenes]
        assert distant_shift(surfaces(pairs)) is None


def bump(*places):
    """A surface of its own making, with a peak at each place in pixels, and noise."""
    cells = np.arange(-REACH, REACH + 1, CELL)
    y, x = cells[:, None], cells
    return sum(np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * CELL**2)) for dy, dx in places)


def noisy(*places, count=20):
    rng = np.random.default_rng(0)
    return [bump(*places) + rng.normal(0, 0.2, (65, 65)) for _ in range(count)]


def test_a_place_at_the_rim_one_of_two_or_of_few_images_is_not_guessed():
    assert distant_shift(noisy((40, -100))) == (40, -100)
    assert distant_shift(noisy((40, -REACH))) is None
    assert distant_shift(noisy((40, -100), (0, 0))) is None  # as of stripes
    assert distant_shift(noisy((40, -100), count=9)) is None
    assert distant_shift([]) is None


def test_small_images_and_masks_of_one_class_are_passed_over(scenes):
    image, mask = scenes[0]
    assert coarse_correlation(image, np.zeros_like(mask)) is None
    assert coarse_correlation(image[:7], mask[:7]) is None
    assert coarse_correlation(image[:9, :9], mask[:9, :9]) is None
