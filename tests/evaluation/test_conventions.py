"""What other toolkits would print, each rule written out anew from labels."""

import numpy as np
import pytest
import torch

from segkit.evaluation.conventions import conventions

CLASSES, VOID = 4, 255


@pytest.fixture
def labels():
    """Images of truth and prediction; class 3 is nowhere, class 2 predicted in some images."""
    rng = np.random.default_rng(1)
    truths = [rng.choice([0, 1, VOID], (6, 7), p=[0.5, 0.4, 0.1]) for _ in range(5)]
    truths[2][:] = 0
    predictions = [rng.choice([0, 1, 2], (6, 7), p=[0.5, 0.45, 0.05]) for _ in truths]
    for prediction in predictions[1:3]:
        prediction[prediction == 2] = 0
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
    per_image, pairs = [], []
    for a, b in zip(truths, predictions, strict=True):
        a, b = a[a != VOID], b[a != VOID]
        image = [x for c in range(CLASSES) if (x := iou(a, b, c)) is not None]
        per_image.append(np.mean(image))
        pairs += image
    hits = (t == p).sum()
    hits_with_void = (truth == prediction).sum()
    assert len(there) == 3
    assert found["segkit"] == pytest.approx(np.mean(there))
    assert found["SegNet's script"] == pytest.approx(sum(there) / CLASSES)
    assert found["ultralytics"] == pytest.approx(np.mean(there[:2]))
    assert found["torchmetrics' function mean_iou"] == pytest.approx(np.mean(per_image))
    assert found["torchmetrics' class MeanIoU (1.9)"] == pytest.approx(np.mean(pairs))
    assert found["segmentation_models.pytorch's notebooks"] == pytest.approx(
        hits / (2 * len(t) - hits)
    )
    assert found["segmentation_models.pytorch's CamVid notebook"] == pytest.approx(
        hits_with_void / (2 * len(truth) - hits_with_void)
    )


def test_torchmetrics_agrees_where_nothing_is_void(labels):
    from torchmetrics.functional.segmentation import mean_iou
    from torchmetrics.segmentation import MeanIoU

    truths, predictions = labels
    truths = [np.where(truth == VOID, 0, truth) for truth in truths]
    found = {c.used_by: c.value for c in conventions(matrices(truths, predictions))}
    pair = torch.tensor(np.array(predictions)), torch.tensor(np.array(truths))
    metric = MeanIoU(CLASSES, input_format="index")
    metric.update(*pair)
    by_class = metric.compute().item()
    by_function = mean_iou(*pair, CLASSES, input_format="index").mean().item()
    assert abs(by_class - by_function) > 0.001
    assert found["torchmetrics' class MeanIoU (1.9)"] == pytest.approx(by_class, rel=1e-5)
    assert found["torchmetrics' function mean_iou, averaged"] == pytest.approx(
        by_function, rel=1e-5
    )


def test_nothing_to_judge_is_nan():
    values = [c.value for c in conventions(torch.zeros(2, CLASSES + 1, CLASSES))]
    assert np.isnan([v for i, v in enumerate(values) if i != 1]).all()
