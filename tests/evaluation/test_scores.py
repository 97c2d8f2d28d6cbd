"""Scores against NumPy and scikit-learn."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from segkit.evaluation.scores import majority_baseline, percent, scores_of

VOID = 255


def count(truth, prediction, num_classes):
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for t, p in zip(truth, prediction, strict=True):
        if t != VOID:
            matrix[t, p] += 1
    return matrix


def oracle(matrix):
    """The definitions, class by class."""
    iou, accuracy, weighted, total = [], [], 0.0, matrix.sum()
    for c in range(len(matrix)):
        hit, truth, predicted = matrix[c, c], matrix[c].sum(), matrix[:, c].sum()
        union = truth + predicted - hit
        iou.append(hit / union if union else math.nan)
        accuracy.append(hit / truth if truth else math.nan)
        weighted += truth * hit / union / total if truth else 0
    mean = [sum(x for x in v if x == x) / sum(x == x for x in v) for v in (iou, accuracy)]
    return iou, accuracy, *mean, weighted, sum(x == x for x in iou)


def random_labels(seed):
    """Truth with void and prediction, in which some classes are rare, absent, or only predicted."""
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(2, 22))
    weights = rng.dirichlet(np.full(num_classes, 0.4))
    truth = rng.choice(num_classes, 800, p=weights)
    prediction = np.where(rng.random(800) < 0.7, truth, rng.integers(0, num_classes, 800))
    if num_classes > 4:
        gone, only_predicted = rng.permutation(num_classes)[:2]
        truth[truth == gone] = only_predicted
        prediction[prediction == gone] = only_predicted
        truth[truth == only_predicted] = VOID
    truth[rng.random(800) < 0.1] = VOID
    return truth, prediction, num_classes


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_the_definitions(seed):
    truth, prediction, num_classes = random_labels(seed)
    matrix = count(truth, prediction, num_classes)
    scores = scores_of(torch.from_numpy(matrix))
    iou, accuracy, miou, mean_accuracy, weighted, present = oracle(matrix)
    np.testing.assert_allclose(scores.iou, iou, rtol=1e-12)
    np.testing.assert_allclose(scores.recall, accuracy, rtol=1e-12)
    assert scores.miou == pytest.approx(miou, rel=1e-12)
    assert scores.mean_accuracy == pytest.approx(mean_accuracy, rel=1e-12)
    assert scores.frequency_weighted_iou == pytest.approx(weighted, rel=1e-12)
    assert scores.classes_present == present
    assert scores.miou_line() == (
        f"mIoU {100 * miou:.1f} % ({present} of {num_classes} classes present)"
    )


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_scikit_learn(seed):
    truth, prediction, num_classes = random_labels(seed)
    scores = scores_of(torch.from_numpy(count(truth, prediction, num_classes)))
    valid = truth != VOID
    truth, prediction = truth[valid], prediction[valid]
    present = sorted({*truth, *prediction})
    assert scores.classes_present == len(present)
    assert [c for c in range(num_classes) if not math.isnan(scores.iou[c])] == present
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are only predicted
        expected = {
            "pixel_accuracy": sk.accuracy_score(truth, prediction),
            "mean_accuracy": sk.balanced_accuracy_score(truth, prediction),
            "miou": sk.jaccard_score(truth, prediction, labels=present, average="macro"),
            "frequency_weighted_iou": sk.jaccard_score(truth, prediction, average="weighted"),
        }
        iou = sk.jaccard_score(truth, prediction, labels=present, average=None)
        precision, recall, dice, support = sk.precision_recall_fscore_support(
            truth, prediction, labels=present, zero_division=np.nan
        )
        expected["mean_dice"] = sk.f1_score(truth, prediction, labels=present, average="macro")
    for name, value in expected.items():
        assert getattr(scores, name) == pytest.approx(value, rel=1e-9), name
    dice = np.nan_to_num(dice)  # scikit-learn's harmonic mean of precision nan and recall 0
    for got, want in (
        (scores.iou, iou),
        (scores.dice, dice),
        (scores.precision, precision),
        (scores.recall, recall),
        (scores.support, support),
    ):
        np.testing.assert_allclose([got[c] for c in present], want, rtol=1e-9)


def test_a_class_that_is_only_predicted_counts_as_zero():
    scores = scores_of(torch.tensor([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert scores.iou[:2] == (0.75, 0.0)
    assert math.isnan(scores.iou[2])
    assert scores.miou == 0.375
    assert scores.mean_accuracy == 0.75
    assert math.isnan(scores.recall[1])
    assert scores.miou_line() == "mIoU 37.5 % (2 of 3 classes present)"


def test_truth_against_itself_is_perfect():
    scores = scores_of(torch.diag(torch.tensor([5, 1, 0, 7])))
    assert scores.pixel_accuracy == scores.mean_accuracy == scores.miou == 1
    assert scores.frequency_weighted_iou == 1
    assert scores.classes_present == 3


def test_counts_beyond_what_single_precision_holds_are_exact():
    matrix = torch.tensor([[2**40 + 1, 1], [0, 2**40]])
    assert scores_of(matrix).iou[0] == (2**40 + 1) / (2**40 + 2)


def test_without_a_judged_pixel_all_is_nan():
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    for scores in (scores_of(matrix), majority_baseline(matrix)[1]):
        assert math.isnan(scores.pixel_accuracy)
        assert math.isnan(scores.miou)
        assert math.isnan(scores.mean_accuracy)
        assert math.isnan(scores.frequency_weighted_iou)
        assert scores.classes_present == 0
        assert scores.miou_line() == "mIoU n/a % (0 of 3 classes present)"


@pytest.mark.parametrize("seed", range(6))
def test_the_baseline_is_the_majority_class_everywhere(seed):
    truth, prediction, num_classes = random_labels(seed)
    matrix = torch.from_numpy(count(truth, prediction, num_classes))
    majority, baseline = majority_baseline(matrix)
    truth = truth[truth != VOID]
    values, counts = np.unique(truth, return_counts=True)
    assert majority == values[counts.argmax()]
    constant = np.full(len(truth), majority)
    expected = sk.jaccard_score(truth, constant, labels=values, average="macro", zero_division=0)
    assert baseline.miou == pytest.approx(expected)
    assert baseline.pixel_accuracy == pytest.approx(counts.max() / len(truth))
    assert baseline.classes_present == len(values)
    assert baseline.mean_accuracy == pytest.approx(1 / len(values))
    weighted = sk.jaccard_score(truth, constant, average="weighted", zero_division=0)
    assert baseline.frequency_weighted_iou == pytest.approx(weighted)


@pytest.mark.parametrize(
    ("share", "text"), [(0.6123, "61.2"), (1.0, "100.0"), (0, "0.0"), (math.nan, "n/a")]
)
def test_shares_in_percent(share, text):
    assert percent(share) == text
