"""What other toolkits would print, each rule written out anew from labels."""

import numpy as np
import pytest
import torch

from segkit.evaluation.conventions import conventions

CLASSES, VOID = 4, 255


@pytest.fixture
def labels():
    """Images of truth and prediction; class 3 is nowhere, class 2 only predicted."""
    rng = np.random.default_rng(1)
    truths = [rng.choice([0, 1, VOID], (6, 7), p=[0.5, 0.4, 0.1]) for _ in range(5)]
    truths[2][:] = 0
    predictions = [rng.choice([0, 1, 2], (6, 7), p=[0.5, 0.45, 0.05]) for _ in truths]
    return truths, predictions


def matrices(truths, predictions):
    found = np.zeros((len(truths), CLASSES + 1, CLASSES), np.int64)
    for matrix, truth, prediction in zip(found, truths, predictions, strict=True):
        np.add.at(matrix, (np.where(truth == VOID, CLASSES, truth), prediction), 1)
    return torch.from_numpy(found)


def iou(truth, prediction, label):
    union = ((truth == label) | (prediction == label)).sum()
    return ((truth == label) & (prediction == label)).sum() / union if union else None


def test_each_rule_by_its_definition(labels):
    truths, predictions = labels
    found = {c.used_by.split(",")[0]: c.value for c in conventions(matrices(truths, predictions))}
    truth, prediction = (np.concatenate([x.ravel() for x in xs]) for xs in labels)
    t, p = truth[truth != VOID], prediction[truth != VOID]
    ious = [iou(t, p, c) for c in range(CLASSES)]
    there = [x for x in ious if x is not None]
    per_image = []
    for a, b in zip(truths, predictions, strict=True):
        a, b = a[a != VOID], b[a != VOID]
        image = [iou(a, b, c) for c in range(CLASSES)]
        per_image.append(np.mean([x for x in image if x is not None]))
    hits = (t == p).sum()
    hits_with_void = (truth == prediction).sum()
    assert len(there) == 3
    assert found["segkit"] == pytest.approx(np.mean(there))
    assert found["SegNet's script"] == pytest.approx(sum(there) / CLASSES)
    assert found["ultralytics"] == pytest.approx(np.mean(there[:2]))
    assert found["torchmetrics' MeanIoU"] == pytest.approx(np.mean(per_image))
    assert found["segmentation_models.pytorch's notebooks"] == pytest.approx(
        hits / (2 * len(t) - hits)
    )
    assert found["segmentation_models.pytorch's CamVid notebook"] == pytest.approx(
        hits_with_void / (2 * len(truth) - hits_with_void)
    )


def test_torchmetrics_agrees_where_nothing_is_void(labels):
    from torchmetrics.segmentation import MeanIoU

    truths, predictions = labels
    truths = [np.where(truth == VOID, 0, truth) for truth in truths]
    found = {c.used_by: c.value for c in conventions(matrices(truths, predictions))}
    metric = MeanIoU(CLASSES, input_format="index")
    metric.update(torch.tensor(np.array(predictions)), torch.tensor(np.array(truths)))
    assert found["torchmetrics' MeanIoU"] == pytest.approx(metric.compute().item(), rel=1e-5)


def test_nothing_to_judge_is_nan():
    values = [c.value for c in conventions(torch.zeros(2, CLASSES + 1, CLASSES))]
    assert np.isnan([v for i, v in enumerate(values) if i != 1]).all()
