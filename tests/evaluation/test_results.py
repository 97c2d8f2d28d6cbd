"""All figures of an evaluation together, and the lines, tables and files made of them."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
import torch

from segkit.errors import UserError
from segkit.evaluation.boundary import BoundaryCounts, boundary_counts
from segkit.evaluation.boundary_scores import boundary_f1, mean_boundary_f1
from segkit.evaluation.calibration import BINS
from segkit.evaluation.export import as_json, class_csv, image_csv
from segkit.evaluation.images import Evaluation
from segkit.evaluation.intervals import percentiles
from segkit.evaluation.results import HEADLINES
from segkit.evaluation.summarize import summarize_evaluation
from segkit.evaluation.table import headlines

VOID = 255


def evaluation_of(truths, predictions, num_classes):
    matrices = np.zeros((len(truths), num_classes + 1, num_classes), np.int32)
    for matrix, truth, prediction in zip(matrices, truths, predictions, strict=True):
        np.add.at(matrix, (np.where(truth == VOID, num_classes, truth), prediction), 1)
    counts = [
        boundary_counts(p.astype(np.uint8), t.astype(np.uint8), num_classes)
        for t, p in zip(truths, predictions, strict=True)
    ]
    bins = np.zeros((BINS, 3))
    bins[10] = 100, 60, 70
    return Evaluation(
        tuple(f"{i:02}" for i in range(len(truths))),
        torch.from_numpy(matrices),
        1.0,
        BoundaryCounts(*map(np.stack, zip(*counts, strict=True))),
        bins,
    )


def painted(num_classes=3, images=12, seed=0):
    rng = np.random.default_rng(seed)
    truths = [
        np.kron(rng.integers(0, num_classes, (3, 4)), np.ones((8, 8), int)) for _ in range(images)
    ]
    predictions = [
        np.where(rng.random(t.shape) < 0.1 + i / 40, rng.integers(0, num_classes, t.shape), t)
        for i, t in enumerate(truths)
    ]
    for truth in truths:
        truth[:, :2] = VOID
    return evaluation_of(truths, predictions, num_classes)


def lines_of(matrix, images=1, **options):
    """The lines for a split of so many equal images."""
    matrix = np.array([*matrix, [0] * len(matrix)])
    truth = np.repeat(np.arange(len(matrix)), matrix.sum(1))
    prediction = np.concatenate([np.repeat(np.arange(len(row)), row) for row in matrix])
    shape = (1, max(1, truth.size))
    truth = np.where(truth == len(matrix) - 1, VOID, truth) if truth.size else np.array([VOID])
    prediction = prediction if prediction.size else np.array([0])
    evaluation = evaluation_of(
        [truth.reshape(shape)] * images, [prediction.reshape(shape)] * images, len(matrix) - 1
    )
    names = ("sky", "road", "car")[: len(matrix) - 1]
    return "\n".join(headlines(summarize_evaluation(evaluation, names, **options)))


def test_headlines_give_the_scores_and_the_baseline():
    text = lines_of([[40, 0, 0], [10, 50, 0], [0, 0, 0]])
    for part in (
        "mIoU 81.7 % (2 of 3 classes present)",
        "pixel accuracy 90.0 %\n",
        "mean accuracy 91.7 %\n",
        "frequency-weighted IoU 82.0 %\n",
        "'road' everywhere: pixel accuracy 60.0 %, mIoU 30.0 %",
        "no intervals: 1 image, and fewer than 10 are too few",
    ):
        assert part in text
    assert "WARNING" not in text


def test_equal_images_have_an_interval_without_width():
    matrix = [[40, 0, 0], [10, 50, 0], [0, 0, 0]]
    text = lines_of(matrix, images=10)
    assert "mIoU 81.7 % [81.7, 81.7] (2 of 3 classes present)" in text
    assert "95 % intervals by bootstrap over 10 images, taken as independent" in text
    in_blocks = lines_of(matrix, images=20, block=2)
    assert "95 % intervals by bootstrap over 10 blocks of 2 consecutive images" in in_blocks
    assert "independent" not in in_blocks
    few = lines_of(matrix, images=20, block=3)
    assert "no intervals: 6 blocks of 3 consecutive images, and fewer than 10 are too few" in few
    assert "%[" not in few.replace(" ", "")


def test_of_two_classes_the_foreground_comes_first_by_its_name():
    matrix = [[90, 0], [5, 5]]
    assert lines_of(matrix).startswith("foreground IoU (road) 50.0 %\nmIoU 72.4 %")
    first = lines_of(matrix, images=12, foreground="sky")
    assert first.startswith("foreground IoU (sky) 94.7 % [94.7, 94.7]\nmIoU 72.4 %")
    with pytest.raises(UserError, match=r"unknown class 'raod'; did you mean 'road'\?"):
        lines_of(matrix, foreground="raod")
    assert "foreground" not in lines_of([[40, 0, 0], [10, 50, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("matrix", "warning"),
    [
        (
            [[0, 40, 0], [0, 60, 0], [0, 0, 0]],
            "no better than calling everything 'road': mIoU 30.0 % against 30.0 %",
        ),
        (
            [[40, 0, 0], [60, 0, 0], [0, 0, 0]],
            "worse than calling everything 'road': mIoU 20.0 % against 30.0 %",
        ),
        ([[0, 40, 0], [1, 59, 0], [0, 0, 0]], "no better than calling everything 'road'"),
        (
            [[8, 392, 0], [6, 594, 0], [0, 0, 0]],
            "hardly better than calling everything 'road': mIoU 30.9 % against 30.0 %",
        ),
        ([[1, 39, 0], [0, 60, 0], [0, 0, 0]], None),
        ([[40, 0, 0], [0, 60, 0], [0, 0, 0]], None),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], "every pixel of the truth is void"),
    ],
)
def test_what_should_make_one_doubt(matrix, warning):
    text = lines_of(matrix)
    assert ("WARNING" in text) == bool(warning)
    assert (warning or "") in text


def test_intervals_are_those_of_drawing_images_by_hand():
    evaluation = painted()
    found = summarize_evaluation(evaluation, "abc", seed=3)
    rng = np.random.default_rng(8)
    each = evaluation.matrices[:, :3].double().numpy()
    mious, accuracies, f1s = [], [], []
    per_image = boundary_f1(evaluation.boundary.f1)
    for _ in range(4000):
        drawn = rng.integers(12, size=12)
        matrix = each[drawn].sum(0)
        hits = matrix.diagonal()
        mious.append(np.mean(hits / (matrix.sum(0) + matrix.sum(1) - hits)))
        accuracies.append(hits.sum() / matrix.sum())
        f1s.append(mean_boundary_f1(per_image[drawn]))
    for name, values in (("miou", mious), ("pixel_accuracy", accuracies), ("boundary_f1", f1s)):
        np.testing.assert_allclose(
            found.headlines[name].interval, percentiles(np.array(values)), atol=0.006, err_msg=name
        )
        low, high = found.headlines[name].interval
        assert low < found.headlines[name].value < high


def test_shares_of_target_and_prediction():
    evaluation = painted()
    found = summarize_evaluation(evaluation, "abc")
    matrix = evaluation.matrix.numpy()
    np.testing.assert_allclose(found.target_share, matrix.sum(1) / matrix.sum())
    np.testing.assert_allclose(found.predicted_share, matrix.sum(0) / matrix.sum())


def test_files_say_the_same():
    evaluation = painted(4)
    # class 3 nowhere: neither in truth nor in prediction
    gone = evaluation_of([np.zeros((4, 4), int)], [np.zeros((4, 4), int)], 4)
    for one in (evaluation, gone):
        found = summarize_evaluation(one, "abcd")
        plain = json.loads(json.dumps(as_json(one, found, split="val"), allow_nan=False))
        assert plain["split"] == "val"
        assert list(plain["headlines"]) == [n for n in HEADLINES if n != "foreground_iou"]
        assert plain["headlines"]["miou"]["value"] == found.scores.miou
        assert plain["calibration"]["error"] == pytest.approx(0.1)
        rows = list(csv.DictReader(io.StringIO(class_csv(found))))
        assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
        for row, iou, support in zip(rows, found.scores.iou, found.scores.support, strict=True):
            assert row["iou"] == ("" if np.isnan(iou) else str(iou))
            assert row["support"] == str(support)
        images = list(csv.DictReader(io.StringIO(image_csv(one, found))))
        assert [row["image"] for row in images] == list(one.names)
        assert float(images[0]["miou"]) == found.image_miou[0]
    assert rows[1]["iou"] == ""
    assert plain["scores"]["iou"][1] is None
    # what users read keeps its names
    assert list(plain["scores"]) == [
        "pixel_accuracy", "mean_accuracy", "miou", "frequency_weighted_iou", "mean_dice",
        "iou", "dice", "precision", "accuracy", "support", "classes_present",
    ]  # fmt: skip
    assert plain["truth_share"] == found.target_share.tolist()


@pytest.mark.parametrize("missing", ["boundary", "calibration"])
def test_counts_that_are_missing_are_asked_for(missing):
    lacking = dataclasses.replace(painted(), **{missing: None})
    with pytest.raises(UserError, match=r"boundaries=True, calibration=True"):
        summarize_evaluation(lacking, "abc")
