"""Metrics on plain arrays and tensors, against other implementations."""

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import jaccard_score

from segkit import metrics
from segkit.errors import UserError

CLASSES = 4


@pytest.fixture
def pair():
    generator = np.random.default_rng(0)
    target = generator.integers(0, CLASSES, (3, 20, 30))
    wrong = generator.random(target.shape) < 0.3
    prediction = np.where(wrong, generator.integers(0, CLASSES, target.shape), target)
    target[generator.random(target.shape) < 0.1] = 255
    return prediction, target


FORMS = {
    "int64 arrays": lambda p, t: (p, t),
    "uint8 arrays": lambda p, t: (p.astype(np.uint8), t.astype(np.uint8)),
    "tensors": lambda p, t: (torch.tensor(p), torch.tensor(t)),
    "an array and a tensor": lambda p, t: (p, torch.tensor(t)),
    "nested lists": lambda p, t: (p.tolist(), t.tolist()),
    "logits": lambda p, t: (
        torch.nn.functional.one_hot(torch.tensor(p), CLASSES).permute(0, 3, 1, 2).float() - 3,
        torch.tensor(t),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_confusion_matrix_is_sklearns(form, pair):
    prediction, target = pair
    known = target != 255
    expected = sklearn_matrix(target[known], prediction[known], labels=range(CLASSES))
    found = metrics.confusion_matrix(*FORMS[form](*pair), CLASSES)
    assert found.dtype == torch.int64
    assert found.tolist() == expected.tolist()


def test_iou_is_that_of_sklearn(pair):
    prediction, target = pair
    known = target != 255
    each = jaccard_score(target[known], prediction[known], average=None)
    assert metrics.scores(*pair, CLASSES).iou == pytest.approx(each)
    assert metrics.mean_iou(*pair, CLASSES) == pytest.approx(each.mean())


def test_a_class_that_is_nowhere_is_left_out(pair):
    assert metrics.mean_iou(*pair, CLASSES + 3) == metrics.mean_iou(*pair, CLASSES)


def test_another_ignore_index(pair):
    prediction, target = pair
    other = np.where(target == 255, -1, target)
    assert metrics.mean_iou(prediction, other, CLASSES, ignore_index=-1) == metrics.mean_iou(
        *pair, CLASSES
    )
    zero = metrics.confusion_matrix(prediction, target, CLASSES, ignore_index=255)
    zero[0] = 0
    assert torch.equal(
        metrics.confusion_matrix(
            prediction, np.where(target == 255, 0, target), CLASSES, ignore_index=0
        ),
        zero,
    )


def test_boundary_scores_of_images_are_averaged_as_documented():
    target = np.zeros((2, 40, 40), int)
    target[:, :, 20:] = 1
    far = np.roll(target, 6, axis=2)
    far[:, :, :6] = 0
    both = np.stack([target[0], far[1]])
    assert metrics.boundary_f1(target, target, 2) == metrics.boundary_iou(target, target, 2) == 1
    assert metrics.boundary_f1(both, target, 2) == 0.5  # one image right, one wrong
    assert metrics.boundary_f1(far, target, 2, tolerance=6.1 / np.hypot(40, 40)) == 1
    assert 0 < metrics.boundary_iou(both, target, 2) < 1
    wide = metrics.boundary_iou(both, target, 2, width=0.3)
    assert wide > metrics.boundary_iou(both, target, 2)


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = metrics.bootstrap(values)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.05)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.06)


def test_bootstrap_of_blocks_is_wider_where_neighbours_are_alike():
    values = np.repeat(np.random.default_rng(2).normal(size=40), 10)
    narrow, wide = (np.ptp(metrics.bootstrap(values, block=block)) for block in (1, 10))
    # a block that starts anywhere averages two neighbours: 2/3 of the variance
    assert wide == pytest.approx(narrow * (10 * 2 / 3) ** 0.5, rel=0.1)


def test_bootstrap_of_matrices(pair):
    matrices = torch.stack(
        [metrics.confusion_matrix(p, t, CLASSES) for p, t in zip(*pair, strict=True)] * 10
    )

    def accuracy(sums):
        return np.trace(sums, axis1=1, axis2=2) / sums.sum((1, 2))

    low, high = metrics.bootstrap(matrices, accuracy)
    everything = matrices.sum(0).numpy()[None]
    assert low < accuracy(everything)[0] < high
    assert metrics.bootstrap(matrices, accuracy, seed=0) == (low, high)


MISTAKES = {
    "shapes": (np.zeros((4, 4), int), np.zeros((4, 5), int), r"\(4, 4\) and the target \(4, 5\)"),
    "one dimension": (np.zeros(4, int), np.zeros(4, int), r"must be \(H, W\)"),
    "a class too many": (np.full((2, 2), 4), np.zeros((2, 2), int), "prediction holds class 4 of"),
    "target too high": (np.zeros((2, 2), int), np.full((2, 2), 7), "target holds class 7 of 4"),
    "negative": (np.full((2, 2), -1), np.zeros((2, 2), int), "prediction holds class -1"),
    "floats": (np.zeros((2, 2)), np.zeros((2, 2), int), "whole numbers"),
    "logits": (np.zeros((1, 3, 2, 2)), np.zeros((1, 2, 2), int), r"\(N, 4, H, W\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake):
    prediction, target, text = MISTAKES[mistake]
    for metric in (metrics.confusion_matrix, metrics.mean_iou, metrics.boundary_f1):
        with pytest.raises(UserError, match=text):
            metric(prediction, target, CLASSES)


def test_the_torchmetrics_form_counts_batches(pair):
    prediction, target = (torch.tensor(each) for each in pair)
    metric = metrics.SegmentationScores(CLASSES, class_names="abcd")
    assert isinstance(metric, torchmetrics.Metric)
    for start in range(3):
        metric.update(prediction[start : start + 1], target[start : start + 1])
    found = metric.compute()
    expected = metrics.scores(*pair, CLASSES)
    assert found["miou"].item() == pytest.approx(expected.miou)
    assert found["pixel_accuracy"].item() == pytest.approx(expected.pixel_accuracy)
    assert [found[f"iou/{name}"].item() for name in "abcd"] == pytest.approx(expected.iou)
    collection = torchmetrics.MetricCollection({"val": metric.clone()})
    assert collection.compute()["miou"] == found["miou"]
    metric.reset()
    metric.update(target.clamp(max=3), target)
    assert metric.compute()["miou"] == 1


def test_the_torchmetrics_form_adds_up_over_processes(pair):
    prediction, target = (torch.tensor(each) for each in pair)
    one, other = metrics.SegmentationScores(CLASSES), metrics.SegmentationScores(CLASSES)
    one.update(prediction[:1], target[:1])
    other.update(prediction[1:], target[1:])
    one._reduce_states({"matrix": other.matrix})  # as torchmetrics merges them
    assert one.matrix.tolist() == metrics.confusion_matrix(*pair, CLASSES).tolist()


def test_names_must_fit():
    with pytest.raises(UserError, match="2 class names for 4 classes"):
        metrics.SegmentationScores(4, class_names=["a", "b"])
