"""Boundary counts against known shapes and a brute-force reading of the definitions."""

import math
import warnings

import numpy as np
import pytest
from scipy import ndimage

from segkit.evaluation.boundary import TRIMAP_RADII, boundary_counts, fill_void
from segkit.evaluation.boundary_scores import (
    boundary_f1,
    boundary_iou,
    class_boundary_f1,
    mean_boundary_f1,
    trimap_miou,
)

VOID = 255
SLACK = 1e-4  # for "within", of roots of whole numbers
CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def blank(*shape):
    return np.zeros(shape, np.uint8)


def halves(height, width, split):
    labels = blank(height, width)
    labels[:, split:] = 1
    return labels


def square(top, left, side=10, shape=(30, 40)):  # the diagonal is 50
    labels = blank(*shape)
    labels[top : top + side, left : left + side] = 1
    return labels


def f1_of(prediction, truth, num_classes, tolerance=0.0075):
    counts = boundary_counts(prediction, truth, num_classes, tolerance)
    return boundary_f1(counts.f1[None])[0]


def blobs(rng, shape, num_classes, sigma=4.0):
    """Two label maps that look like a truth and a prediction of it."""
    fields = rng.standard_normal((num_classes, *shape))
    noise = rng.standard_normal((num_classes, *shape))
    smooth = [ndimage.gaussian_filter(f, (0, sigma, sigma)) for f in (fields, fields + noise)]
    truth, prediction = (f.argmax(0).astype(np.uint8) for f in smooth)
    return prediction, truth


def add_void(rng, truth):
    """Seams along a part of the contours, a blob, a rectangle, specks."""
    contour = np.zeros(truth.shape, bool)
    for c in np.unique(truth):
        contour |= (truth == c) & ndimage.binary_dilation(truth != c, CROSS)
    half = np.arange(truth.shape[1]) < truth.shape[1] // 2
    void = ndimage.binary_dilation(contour & half, SQUARE, iterations=int(rng.integers(1, 3)))
    void |= ndimage.gaussian_filter(rng.standard_normal(truth.shape), 5.0) > 0.12
    top, left = (int(rng.integers(0, size // 2)) for size in truth.shape)
    void[top : top + 12, left : left + 15] = True
    void |= rng.random(truth.shape) < 0.01
    return np.where(void, VOID, truth).astype(np.uint8)


def reference_void(truth, reach):
    """Wide void by its definition, from an exact distance transform."""
    void = truth == VOID
    depth = ndimage.distance_transform_edt(void)
    deep = depth > reach + SLACK
    if not deep.any():
        return deep
    return void & (ndimage.distance_transform_edt(~deep) <= math.sqrt(2) * (reach + SLACK))


def reference(prediction, truth, num_classes, tolerance, width):
    """The definitions, class by class and radius by radius."""
    diagonal = math.hypot(*truth.shape)
    reach, depth = tolerance * diagonal, max(1, round(width * diagonal))
    void = truth == VOID
    wide = reference_void(truth, reach)
    filled = np.where(void & ~wide, fill_void(truth, reach + SLACK)[0], truth)
    f1, iou = np.zeros((num_classes, 4), int), np.zeros((num_classes, 2), int)
    trimap = np.zeros((20, num_classes, 3), int)
    any_contour = np.zeros(truth.shape, bool)
    for c in range(num_classes):
        masks = [(labels == c) & ~wide for labels in (prediction, filled)]
        contours = [m & ndimage.binary_dilation(~m & ~wide, CROSS) for m in masks]
        any_contour |= contours[1]
        for column, (contour, other) in enumerate((contours, contours[::-1])):
            f1[c, 2 * column + 1] = contour.sum()
            if other.any():
                distance = ndimage.distance_transform_edt(~other)
                f1[c, 2 * column] = (distance[contour] <= reach + SLACK).sum()
        bands = [
            m & ~void & ~ndimage.binary_erosion(m | wide, SQUARE, iterations=depth) for m in masks
        ]
        iou[c] = (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
    if any_contour.any():
        distance = ndimage.distance_transform_edt(~any_contour)
        for i, radius in enumerate(range(1, 21)):
            near = ~void & (distance <= radius + SLACK)
            for c in range(num_classes):
                true, predicted = near & (truth == c), near & (prediction == c)
                trimap[i, c] = (true & predicted).sum(), true.sum(), predicted.sum()
    return f1, iou, trimap


@pytest.mark.parametrize("with_void", [False, True], ids=["labelled", "void"])
@pytest.mark.parametrize(
    ("shape", "num_classes", "tolerance", "width"),
    [
        ((60, 80), 2, 0.02, 0.02),
        ((60, 80), 5, 0.05, 0.05),
        ((61, 47), 7, 0.03, 0.004),  # a band of one pixel
        ((90, 120), 4, 0.2, 0.02),  # 30 pixels, beyond the largest disk
        ((24, 70), 3, 0.004, 0.03),  # less than one pixel
        ((7, 5), 3, 0.25, 0.1),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_brute_force(seed, shape, num_classes, tolerance, width, with_void):
    rng = np.random.default_rng(seed)
    prediction, truth = blobs(rng, shape, num_classes)
    if with_void:
        truth = add_void(rng, truth)
    counts = boundary_counts(prediction, truth, num_classes + 1, tolerance, width)
    expected = reference(prediction, truth, num_classes + 1, tolerance, width)
    for name, found, wanted in zip(counts._fields, counts, expected, strict=True):
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_default_tolerance_and_width():
    prediction, truth = blobs(np.random.default_rng(0), (180, 240), 4, sigma=8.0)
    expected = reference(prediction, truth, 4, 0.0075, 0.02)
    for found, wanted in zip(boundary_counts(prediction, truth, 4), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("reach", [1.0001, 2.5, 4.5, 9.9])
@pytest.mark.parametrize("seed", range(3))
def test_seams_take_a_nearest_class_and_wide_void_stays(seed, reach):
    rng = np.random.default_rng(seed)
    truth = add_void(rng, blobs(rng, (70, 90), 5)[1])
    given = truth.copy()
    filled, wide = fill_void(truth, reach)
    np.testing.assert_array_equal(truth, given)
    np.testing.assert_array_equal(wide, reference_void(truth, reach))
    np.testing.assert_array_equal(filled == VOID, wide)
    void = truth == VOID
    np.testing.assert_array_equal(filled[~void], truth[~void])
    depth = ndimage.distance_transform_edt(void)
    seam = void & ~wide
    assert seam.any()
    for c in range(5):
        to_class = ndimage.distance_transform_edt(truth != c)
        chosen = seam & (filled == c)
        assert (to_class[chosen] <= 1.03 * depth[chosen]).all()


@pytest.mark.parametrize("shape", [(40, 40), (24, 37), (37, 24)])
def test_identical_masks_score_one(shape):
    _, truth = blobs(np.random.default_rng(5), shape, 3)
    counts = boundary_counts(truth, truth, 4)
    f1 = boundary_f1(counts.f1[None])
    np.testing.assert_array_equal(f1, [[1, 1, 1, np.nan]])
    assert mean_boundary_f1(f1) == 1
    np.testing.assert_array_equal(boundary_iou(counts.iou[None]), [1, 1, 1, np.nan])
    np.testing.assert_array_equal(trimap_miou(counts.trimap[None]), np.ones(20))


@pytest.mark.parametrize(("pixels", "near"), [(2, 22), (2.9, 22), (3, 36), (4, 36)])
def test_a_square_moved_by_three_pixels(pixels, near):
    # a contour of 36 pixels; at 2 pixels, 10 of one side and 4 of the other stay alone
    counts = boundary_counts(square(10, 13), square(10, 10), 2, pixels / 50).f1
    assert counts[1].tolist() == [near, 36, near, 36]
    assert boundary_f1(counts[None])[0, 1] == pytest.approx(near / 36)


def test_distances_are_euclidean():
    # (3, 4) apart: 5 pixels, not 7 and not 4
    truth, prediction = blank(30, 40), blank(30, 40)
    truth[10, 10] = prediction[13, 14] = 1
    assert f1_of(prediction, truth, 2, 5 / 50)[1] == 1
    assert f1_of(prediction, truth, 2, 4.9 / 50)[1] == 0


def test_precision_and_recall_differ():
    truth, prediction = square(10, 10), square(10, 10)
    prediction[3:5, 30:32] = 1  # a false alarm of four contour pixels
    counts = boundary_counts(prediction, truth, 2).f1
    assert counts[1].tolist() == [36, 40, 36, 36]
    assert boundary_f1(counts[None])[0, 1] == pytest.approx(2 * 0.9 / 1.9)


def test_diagonal_neighbours_are_no_contour():
    truth = blank(9, 9)
    truth[4:, 4:] = 1
    counts = boundary_counts(truth, truth, 2).f1
    assert counts[1].tolist() == [9, 9, 9, 9]
    assert counts[0].tolist() == [10, 10, 10, 10]  # without the pixel at the corner


def test_the_image_border_is_contour_for_boundary_iou_only():
    only = blank(20, 30)
    counts = boundary_counts(only, only, 2, width=2 / math.hypot(20, 30))
    assert not counts.f1.any()
    assert not counts.trimap.any()
    assert counts.iou.tolist() == [[20 * 30 - 16 * 26] * 2, [0, 0]]


def test_boundary_iou_of_a_moved_square():
    # bands of 2 around squares of 10: 100 - 36 = 64 pixels each; moved by one row, the horizontal
    # stretches share 1 of 2 rows of 10, the vertical ones 2 columns in 5 + 2 rows less
    width = 2 / 50
    counts = boundary_counts(square(11, 10), square(10, 10), 2, width=width).iou
    ring = np.zeros((2, 30, 40), bool)
    for i, top in enumerate((11, 10)):
        ring[i, top : top + 10, 10:20] = True
        ring[i, top + 2 : top + 8, 12:18] = False
    assert ring[0].sum() == 64
    assert counts[1].tolist() == [(ring[0] & ring[1]).sum(), (ring[0] | ring[1]).sum()]


@pytest.mark.parametrize(("width", "depth"), [(0.001, 1), (1.4 / 50, 1), (1.6 / 50, 2)])
def test_band_width_is_rounded_and_at_least_one(width, depth):
    truth = square(10, 10)
    counts = boundary_counts(truth, truth, 2, width=width).iou
    assert counts[1].tolist() == [100 - (10 - 2 * depth) ** 2] * 2


def test_a_class_missed_or_made_up_scores_zero():
    full, empty = square(10, 10), blank(30, 40)
    for prediction, truth in ((empty, full), (full, empty)):
        counts = boundary_counts(prediction, truth, 3)
        f1 = boundary_f1(counts.f1[None])
        np.testing.assert_array_equal(f1, [[0, 0, np.nan]])
        assert mean_boundary_f1(f1) == 0
        assert counts.iou[1, 0] == 0
        assert counts.iou[1, 1] > 0


def test_contours_that_never_meet_score_zero():
    np.testing.assert_array_equal(f1_of(square(1, 28), square(19, 1), 2), [0, 0])


def test_only_the_contour_of_the_same_class_matches():
    truth, prediction = square(10, 10), 2 * square(10, 10)
    np.testing.assert_array_equal(f1_of(prediction, truth, 3), [1, 0, 0])


@pytest.mark.parametrize("split", range(27, 34))
def test_any_split_within_a_seam_is_right(split):
    truth = halves(30, 60, 30)
    truth[:, 27:33] = VOID
    counts = boundary_counts(halves(30, 60, split), truth, 2, 4 / math.hypot(30, 60))
    assert counts.f1.tolist() == [[30] * 4] * 2
    assert counts.trimap[5, 0].tolist() == [30 * 4, 30 * 4, 30 * 4]  # 7 columns, 3 of them void


@pytest.mark.parametrize(("split", "f1"), [(26, 1), (34, 1), (25, 0), (35, 0)])
def test_the_contour_is_the_middle_of_the_seam(split, f1):
    truth = halves(30, 60, 30)
    truth[:, 27:33] = VOID
    prediction = halves(30, 60, split)
    assert f1_of(prediction, truth, 2, 4 / math.hypot(30, 60)).tolist() == [f1, f1]


def test_a_constant_prediction_gains_nothing_from_a_seam():
    truth = halves(30, 60, 30)
    truth[:, 27:33] = VOID
    assert f1_of(blank(30, 60), truth, 2, 4 / math.hypot(30, 60)).tolist() == [0, 0]


@pytest.mark.parametrize(("columns", "judged"), [(8, True), (9, False), (10, False)])
def test_a_seam_is_at_most_twice_the_tolerance_wide(columns, judged):
    truth = halves(30, 60, 30)
    truth[:, 26 : 26 + columns] = VOID
    counts = boundary_counts(halves(30, 60, 30), truth, 2, 4 / math.hypot(30, 60))
    assert counts.f1.any() == judged
    assert counts.trimap.any() == judged


@pytest.mark.parametrize(
    "region",
    [np.s_[20:50, 30:60], np.s_[60:, :], np.s_[:, :9], np.s_[45:, 60:], np.s_[20:30, 5:70]],
    ids=["hole", "bonnet", "side", "corner", "bar"],
)
def test_nothing_predicted_in_wide_void_counts(region):
    rng = np.random.default_rng(2)
    prediction, truth = blobs(rng, (80, 100), 4)
    truth[region] = VOID
    tolerance = 4.5 / math.hypot(80, 100)
    counts = boundary_counts(prediction, truth, 4, tolerance, 0.05)
    assert all(c.any() for c in counts)
    for filling in (0, 3, rng.integers(0, 4, prediction[region].shape)):
        other = prediction.copy()
        other[region] = filling
        for found, wanted in zip(
            boundary_counts(other, truth, 4, tolerance, 0.05), counts, strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_wide_void_borders_on_nothing():
    # right wherever it is judged, and no contour of what is known meets another
    truth = halves(40, 80, 40)
    truth[:, 30:50] = VOID
    counts = boundary_counts(1 - blank(40, 80), truth, 2)
    assert not counts.f1.any()
    assert not counts.trimap.any()
    # the band along the image border goes on past the void
    depth = round(0.02 * math.hypot(40, 80))
    band = 30 * 40 - (30 - depth) * (40 - 2 * depth)
    assert counts.iou.tolist() == [[0, band], [band, 2 * band]]


def test_void_pixels_count_in_no_area():
    rng = np.random.default_rng(3)
    _, truth = blobs(rng, (60, 80), 3)
    truth = add_void(rng, truth)
    counts = boundary_counts(rng.integers(0, 3, truth.shape).astype(np.uint8), truth, 3)
    labelled = (truth != VOID).sum()
    assert counts.trimap[..., 1].sum(-1).max() <= labelled
    np.testing.assert_array_equal(counts.trimap[..., 1].sum(-1), counts.trimap[..., 2].sum(-1))


@pytest.mark.parametrize("shape", [(1, 1), (20, 30)])
def test_all_void_is_all_zeros(shape):
    for tolerance in (0.0075, 5.0):
        counts = boundary_counts(blank(*shape), np.full(shape, VOID, np.uint8), 3, tolerance)
        assert [c.shape for c in counts] == [(3, 4), (3, 2), (20, 3, 3)]
        assert not any(c.any() for c in counts)


def test_one_pixel():
    right, wrong = (boundary_counts(blank(1, 1) + c, blank(1, 1), 2) for c in (0, 1))
    assert right.iou.tolist() == [[1, 1], [0, 0]]
    assert wrong.iou.tolist() == [[0, 1], [0, 1]]
    assert not right.f1.any()
    assert not wrong.trimap.any()


@pytest.mark.parametrize("shape", [(1, 20), (20, 1)])
def test_one_row(shape):
    labels = blank(*shape)
    labels.reshape(-1)[8:] = 1
    counts = boundary_counts(labels, labels, 2)
    assert counts.f1.tolist() == [[1] * 4] * 2
    assert counts.trimap[:3, 0, 1].tolist() == [2, 3, 4]


@pytest.mark.parametrize("seed", range(4))
def test_swapping_truth_and_prediction_swaps_precision_and_recall(seed):
    one, other = blobs(np.random.default_rng(seed), (50, 70), 4)
    there, back = boundary_counts(one, other, 4, 0.03), boundary_counts(other, one, 4, 0.03)
    np.testing.assert_array_equal(there.f1, back.f1[:, [2, 3, 0, 1]])
    np.testing.assert_array_equal(there.iou, back.iou)
    assert (there.f1[:, 0] != there.f1[:, 2]).any()


def test_turning_both_changes_nothing():
    prediction, truth = blobs(np.random.default_rng(7), (50, 70), 4)
    counts = boundary_counts(prediction, truth, 4)
    for turned in (np.fliplr, np.flipud, np.rot90):  # views, as a caller may give them
        for found, wanted in zip(
            boundary_counts(turned(prediction), turned(truth), 4), counts, strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_trimap_that_reaches_everything_counts_the_image():
    rng = np.random.default_rng(0)
    truth = halves(30, 30, 15)
    prediction = rng.integers(0, 2, truth.shape).astype(np.uint8)
    counts = boundary_counts(prediction, truth, 3).trimap
    for c in range(3):
        true, predicted = truth == c, prediction == c
        assert counts[-1, c].tolist() == [
            (true & predicted).sum(),
            true.sum(),
            predicted.sum(),
        ]
    # the contour is two columns wide, each radius adds one on either side
    assert counts[:, :, 1].sum(-1).tolist() == [30 * min(2 + 2 * r, 30) for r in TRIMAP_RADII]


def test_trimap_holds_what_the_smaller_ones_hold():
    rng = np.random.default_rng(1)
    prediction, truth = blobs(rng, (80, 100), 4, sigma=9.0)
    counts = boundary_counts(prediction, add_void(rng, truth), 4).trimap
    assert (np.diff(counts, axis=0) >= 0).all()
    assert counts[0].sum() < counts[-1].sum()


def stacks(count=5, num_classes=5):
    rng = np.random.default_rng(11)
    images = []
    for _ in range(count):
        prediction, truth = blobs(rng, (40, 60), num_classes - 1)
        images.append(boundary_counts(prediction, add_void(rng, truth), num_classes))
    return [np.stack(part) for part in zip(*images, strict=True)]


def test_whole_set_scores_depend_on_the_sums_alone():
    _, iou, trimap = stacks()
    np.testing.assert_array_equal(boundary_iou(iou), boundary_iou(iou.sum(0)[None]))
    np.testing.assert_array_equal(trimap_miou(trimap), trimap_miou(trimap.sum(0)[None]))
    twice = [0, 0, 1, 1]
    np.testing.assert_array_equal(boundary_iou(iou[twice]), boundary_iou(iou[:2]))
    assert np.isnan(boundary_iou(iou)).tolist() == [False] * 4 + [True]


def test_boundary_iou_and_trimap_by_hand():
    iou = np.array([[[1, 4], [0, 0], [0, 3]], [[2, 2], [0, 0], [0, 1]]])
    np.testing.assert_array_equal(boundary_iou(iou), [0.5, np.nan, 0])
    trimap = np.zeros((2, 20, 3, 3), int)
    trimap[0, :, 0] = 3, 4, 4  # with the other image 4 / 8
    trimap[1, :, 0] = 1, 2, 2
    trimap[1, 4:, 2] = 0, 0, 2  # made up there: 0
    expected = np.where(np.arange(20) < 4, 0.5, 0.25)
    np.testing.assert_allclose(trimap_miou(trimap), expected, rtol=1e-12)


def test_boundary_f1_by_hand():
    counts = np.array(
        [
            [[1, 2, 3, 4], [0, 0, 0, 0], [0, 5, 0, 0]],
            [[0, 5, 0, 5], [0, 0, 0, 0], [0, 0, 0, 5]],
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[4, 4, 4, 4], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    f1 = boundary_f1(counts)
    nan = np.nan
    assert f1.dtype == np.float64
    np.testing.assert_allclose(
        f1, [[0.6, nan, 0], [0, nan, 0], [nan, nan, nan], [1, nan, nan]], rtol=1e-12
    )
    # per image 0.3, 0, none, 1: not the mean over all (0.32), nor over the classes' means (0.27)
    assert mean_boundary_f1(f1) == pytest.approx(1.3 / 3)
    np.testing.assert_allclose(class_boundary_f1(f1), [1.6 / 3, nan, 0], rtol=1e-12)


@pytest.mark.parametrize("images", [0, 2])
def test_nothing_to_score_is_nan(images):
    f1 = boundary_f1(np.zeros((images, 3, 4), int))
    assert f1.shape == (images, 3)
    assert np.isnan(f1).all()
    assert math.isnan(mean_boundary_f1(f1))
    assert np.isnan(class_boundary_f1(f1)).tolist() == [True] * 3
    assert np.isnan(boundary_iou(np.zeros((images, 3, 2), int))).tolist() == [True] * 3
    assert np.isnan(trimap_miou(np.zeros((images, 20, 3, 3), int))).tolist() == [True] * 20


def test_inputs_are_left_alone():
    rng = np.random.default_rng(4)
    prediction, truth = blobs(rng, (40, 60), 3)
    truth = add_void(rng, truth)
    given = prediction.copy(), truth.copy()
    prediction.flags.writeable = truth.flags.writeable = False
    boundary_counts(prediction, truth, 3)
    np.testing.assert_array_equal(prediction, given[0])
    np.testing.assert_array_equal(truth, given[1])


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (blank(4, 5), blank(5, 4), r"\(4, 5\) and target \(5, 4\)"),
        (blank(4, 5, 3), blank(4, 5, 3), "must be"),
        (blank(0, 5), blank(0, 5), "not empty"),
        (blank(4, 5).astype(np.int64), blank(4, 5), "prediction is int64"),
        (blank(4, 5), blank(4, 5).astype(np.int64), "target is int64"),
        (blank(4, 5) + 3, blank(4, 5), "prediction has class 3 of 3"),
        (blank(4, 5) + VOID, blank(4, 5), "prediction has class 255 of 3"),
        (blank(4, 5), blank(4, 5) + 3, "target has class 3 of 3"),
    ],
)
def test_unfit_arrays_are_refused(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        boundary_counts(prediction, truth, 3)
