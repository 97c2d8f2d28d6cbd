"""Masks moved on purpose are measured; masks in place, or of other images, are passed over."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segkit.doctor import shift as module
from segkit.doctor.shift import (
    RADIUS,
    Shift,
    edge_correlation,
    estimate_shift,
)


@pytest.fixture(scope="module")
def scenes(drawn):
    return drawn[:24]


def surfaces(scenes, dy=0, dx=0):
    return [edge_correlation(image, np.roll(mask, (dy, dx), (0, 1))) for image, mask in scenes]


def blobs(rng, shape):
    return (cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), 6) > 0).astype(np.uint8)


@pytest.mark.parametrize("kind", ["rgb", "grey", "float", "int64 mask"])
def test_the_surface_is_that_of_loops(kind):
    rng = np.random.default_rng(0)
    mask = blobs(rng, (50, 60))
    mask[:, 40:44] = 255
    image = (60 + 90 * mask[..., None] + rng.normal(0, 9, (50, 60, 3))).clip(0, 255)
    image = image.astype(np.uint8)
    light = np.asarray(Image.fromarray(image).convert("L")).astype(float)
    if kind == "grey":
        image = light.astype(np.uint8)[..., None]
    elif kind == "float":
        image = image.astype(np.float32) / 255
    elif kind == "int64 mask":
        mask = mask.astype(np.int64)
    total, points = np.zeros((13, 13)), 0
    for turn in (np.asarray, np.transpose):  # the second looks along columns
        grey, classes = turn(light), turn(mask)
        edges = abs(grey[:, 1:] - grey[:, :-1])
        edges /= ndimage.uniform_filter(edges, 13, mode="mirror") + 2
        for y in range(RADIUS, edges.shape[0] - RADIUS):
            for x in range(RADIUS, edges.shape[1] - RADIUS):
                pair = classes[y, x], classes[y, x + 1]
                if pair[0] != pair[1] and 255 not in pair:
                    total += turn(edges[y - 6 : y + 7, x - 6 : x + 7])[::-1, ::-1]
                    points += 1
    expected = total / points - (total / points).mean()
    assert points > 100
    surface = edge_correlation(image, mask)
    assert surface.shape == (13, 13)
    assert np.allclose(surface, expected, atol=0.02)  # light is rounded to grey levels or not


def test_boundaries_with_void_near_the_frame_or_too_few_say_nothing(scenes):
    image = scenes[0][0]
    half = np.zeros((120, 160), np.uint8)
    half[:, 80:] = 1
    assert edge_correlation(image, half) is not None
    for void in (79, 80):
        bordered = half.copy()
        bordered[:, void] = 255
        assert edge_correlation(image, bordered) is None
    for edge in (2, 5, 155):
        upright = np.broadcast_to(np.arange(160) > edge, (120, 160)).astype(np.uint8)
        assert edge_correlation(image, upright) is None
    assert edge_correlation(image[:100], half[:100]) is None  # 88 pixels of boundary
    assert edge_correlation(image, np.zeros_like(half)) is None
    assert edge_correlation(image[:8, :8], half[:8, 76:84]) is None


def test_masks_in_place_are_in_place(scenes):
    shift = estimate_shift(surfaces(scenes))
    assert shift.images == 24
    assert not shift.is_shifted
    assert abs(shift.dy) < 0.1 > abs(shift.dx)


@pytest.mark.parametrize(
    ("dy", "dx"), [(0, 1), (1, 0), (0, 2), (2, 0), (-2, 0), (0, -2), (-1, 3), (5, -5)]
)
def test_moved_masks_are_measured(dy, dx, scenes):
    shift = estimate_shift(surfaces(scenes, dy, dx))
    assert shift.is_shifted
    assert shift.dy == pytest.approx(dy, abs=0.1)
    assert shift.dx == pytest.approx(dx, abs=0.1)
    for estimate, interval in ((shift.dy, shift.dy_interval), (shift.dx, shift.dx_interval)):
        assert interval[0] <= estimate <= interval[1] <= interval[0] + 0.5


def test_twelve_images_are_enough_and_nine_are_not(scenes):
    moved = surfaces(scenes[:12], 0, 2)
    assert estimate_shift(moved).dx == pytest.approx(2, abs=0.15)
    assert estimate_shift([*moved[:9], None, None, None]) is None
    assert estimate_shift([]) is None


def test_shifts_between_pixels_are_measured():
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(20):
        fine = np.kron(rng.integers(0, 3, (8, 8), np.uint8), np.ones((80, 80)))
        fine = ndimage.rotate(fine, rng.uniform(10, 80), reshape=False, order=0, mode="wrap")
        mask = fine[2::5, 2::5].astype(np.uint8)
        moved = np.roll(fine, (3, -8), (0, 1))  # image 0.6 px down, 1.6 px left
        picture = 80 * moved.reshape(128, 5, 128, 5).mean((1, 3)) + rng.normal(0, 2, (128, 128))
        drawn.append(edge_correlation(picture.clip(0, 255).astype(np.uint8)[..., None], mask))
    shift = estimate_shift(drawn)
    assert shift.dy == pytest.approx(-0.6, abs=0.15)
    assert shift.dx == pytest.approx(1.6, abs=0.15)


def test_no_single_image_outweighs_the_rest(scenes):
    bright = [(np.clip(image * 0.3, 0, 255).astype(np.uint8), mask) for image, mask in scenes[:-1]]
    spread = estimate_shift([*surfaces(bright, 0, 2), *surfaces(scenes[-1:], 0, -3)])
    assert spread.dx == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("move", [6, 8])
def test_a_shift_at_the_rim_or_beyond_is_not_guessed(move, scenes):
    assert estimate_shift(surfaces(scenes, 0, move)) is None


@pytest.mark.parametrize("kind", ["blobs", "noise", "of other images", "of flat images"])
def test_masks_that_do_not_belong_tell_nothing(kind, scenes):
    rng = np.random.default_rng(0)
    for trial in range(8):
        if kind == "blobs":
            pairs = [(image, blobs(rng, (120, 160))) for image, _ in scenes]
        elif kind == "noise":
            pairs = [(image, rng.integers(0, 3, (120, 160), np.uint8)) for image, _ in scenes]
        elif kind == "of other images":
            masks = [mask for _, mask in scenes]
            pairs = [(image, masks[k - trial - 1]) for k, (image, _) in enumerate(scenes)]
        else:
            pairs = [(np.full_like(image, 90), mask) for image, mask in scenes]
        assert estimate_shift([edge_correlation(*pair) for pair in pairs]) is None


def bump(dy, dx, height=1.0, width=1.0):
    """A surface of its own making, with its peak at (dy, dx)."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    return height * np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * width**2))


def test_intervals_are_as_wide_as_the_scatter_of_the_images_makes_them():
    rng = np.random.default_rng(0)
    centres = rng.normal((1, -2), (0.4, 0.8), (100, 2))
    shift = estimate_shift([bump(dy, dx, width=2) for dy, dx in centres])
    for name, spread in (("dy_interval", 0.4), ("dx_interval", 0.8)):
        assert np.ptp(getattr(shift, name)) == pytest.approx(2 * 1.96 * spread / 10, rel=0.25)
    assert (shift.dy, shift.dx) == pytest.approx(centres.mean(axis=0), abs=0.06)


def test_a_set_of_two_minds_tells_nothing():
    assert estimate_shift([bump(0, 2)] * 40) is not None
    assert estimate_shift([bump(0, 2), bump(0, -2)] * 40) is None


def test_one_image_that_is_very_sure_is_not_enough():
    assert estimate_shift([bump(0, 2, 0.1)] * 40) is not None
    assert estimate_shift([bump(0, 2, 10), *[bump(0, 2, 0.1)] * 39]) is None


def test_thinned_boundaries_speak_for_the_whole_image(monkeypatch):
    rng = np.random.default_rng(0)
    mask = blobs(rng, (300, 400))
    image = (60 + 90 * mask + rng.normal(0, 9, mask.shape)).astype(np.uint8)[..., None]
    image[:150] = 60  # no edges here
    thinned = edge_correlation(image, mask)
    monkeypatch.setattr(module, "MAX_POINTS", 10**6)
    whole = edge_correlation(image, mask)
    assert not np.array_equal(thinned, whole)
    assert np.allclose(thinned, whole, atol=0.1 * whole.max())


def test_images_that_do_not_agree_tell_nothing(scenes):
    moves = np.random.default_rng(0).integers(-4, 5, (24, 2))
    drawn = [surfaces([s], *move)[0] for s, move in zip(scenes, moves, strict=True)]
    assert estimate_shift(drawn) is None


def test_the_bootstrap_is_seeded(scenes):
    drawn = surfaces(scenes[:12])
    assert estimate_shift(drawn, 3) == estimate_shift(drawn, 3) != estimate_shift(drawn, 4)


def test_more_images_give_a_narrower_interval(scenes):
    drawn = surfaces(scenes)
    few, many = estimate_shift(drawn[:12]), estimate_shift([*drawn] * 8)
    for axis in ("dy_interval", "dx_interval"):
        assert np.ptp(getattr(many, axis)) < np.ptp(getattr(few, axis))


@pytest.mark.parametrize(
    ("dy", "dx", "shifted"),
    [
        ((-0.4, 0.4), (-0.2, 0.3), False),
        ((-0.6, 0.6), (0.4, 1.4), False),
        ((-0.1, 0.1), (0.6, 1.4), True),
        ((-0.8, -0.51), (-0.1, 0.1), True),
        ((-0.49, -0.1), (-0.1, 0.1), False),
    ],
)
def test_shifted_means_surely_more_than_half_a_pixel(dy, dx, shifted):
    assert Shift(float(np.mean(dy)), float(np.mean(dx)), dy, dx, 20).is_shifted is shifted


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, 0), (0, 1)])
@pytest.mark.parametrize(("split", "step", "high"), [("train", 12, 0.3), ("val", 5, 0.45)])
def test_camvid(split, step, high, dy, dx, shared):
    root = shared / "data/camvid"
    drawn = []
    for file in sorted((root / split).glob("*.webp"))[::step]:
        mask = np.array(Image.open(root / f"{split}annot" / f"{file.stem}.png"))
        mask[mask == 11] = 255
        drawn.append(edge_correlation(np.array(Image.open(file)), np.roll(mask, (dy, dx), (0, 1))))
    shift = estimate_shift(drawn)
    assert shift.is_shifted == bool(dy or dx)
    assert shift.dy == pytest.approx(dy - high, abs=0.15)  # the masks as published
    assert shift.dx == pytest.approx(dx + 0.1, abs=0.15)
