"""The same scores as the Cityscapes benchmark's own script, from the same label files."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.card import load_card
from segkit.data.label_map import LabelMap
from segkit.evaluation.images import count
from segkit.evaluation.scores import scores_of
from segkit.inference import Prediction

benchmark = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
CARD = Path(__file__).parents[2] / "datasets" / "cityscapes.yaml"


def test_scores_equal_those_of_the_benchmark(tmp_path):
    card = load_card(CARD)
    labels = LabelMap(card)
    rng = np.random.default_rng(0)
    options = SimpleNamespace(
        evalLabels=list(range(34)), evalInstLevelScore=False, evalPixelAccuracy=False
    )
    theirs = np.zeros((34, 34), np.int64)
    ours = torch.zeros(card.num_classes, card.num_classes, dtype=torch.int64)
    for number in range(3):
        raw = rng.integers(0, 32, (40, 60)).astype(np.uint8)  # not all classes, and much void
        truth_file, prediction_file = (tmp_path / f"{kind}_{number}.png" for kind in "tp")
        Image.fromarray(raw).save(truth_file)
        truth = labels.read(truth_file)
        guess = rng.integers(0, 15, truth.shape).astype(np.uint8)
        right = (rng.random(truth.shape) < 0.7) & (truth < card.num_classes)
        prediction = np.where(right, truth, guess)
        Image.fromarray(labels.to_raw(prediction).astype(np.uint8)).save(prediction_file)
        benchmark.evaluatePair(str(prediction_file), str(truth_file), theirs, None, {}, options)
        counted = count(
            "", Prediction(torch.from_numpy(prediction)), torch.from_numpy(truth), card.num_classes
        )
        ours += counted.matrix[:-1]
    scores = scores_of(ours)
    helpers = importlib.import_module("cityscapesscripts.helpers.labels")
    expected = [
        benchmark.getIouScoreForLabel(helpers.name2label[name].id, theirs, options)
        for name in card.class_names
    ]
    np.testing.assert_allclose(scores.iou, expected, rtol=1e-12)
    assert np.isnan(expected).any()  # classes that are nowhere
    assert scores.miou == pytest.approx(np.nanmean(expected), rel=1e-12)
