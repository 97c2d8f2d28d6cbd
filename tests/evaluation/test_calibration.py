"""Confidence against accuracy, by the definition."""

import numpy as np
import pytest
import torch

from segkit.evaluation.calibration import BINS, calibration, calibration_counts


def test_the_error_is_the_mean_gap_between_confidence_and_accuracy():
    rng = np.random.default_rng(0)
    confidence = rng.random(5000).astype(np.float32)
    right = rng.random(5000) < confidence**2
    found = calibration(calibration_counts(torch.from_numpy(confidence), torch.from_numpy(right)))
    error = 0.0
    for b in range(BINS):
        inside = (confidence >= b / BINS) & (confidence < (b + 1) / BINS)
        gap = abs(right[inside].mean() - confidence[inside].astype(np.float64).mean())
        error += inside.mean() * gap
        assert found.accuracy[b] == pytest.approx(right[inside].mean())
        assert found.share[b] == pytest.approx(inside.mean())
    assert found.error == pytest.approx(error, rel=1e-5)


def test_a_sure_and_right_network_has_no_error():
    found = calibration(calibration_counts(torch.ones(10), torch.ones(10, dtype=torch.bool)))
    assert found.error == 0
    assert found.share[-1] == 1
    assert np.isnan(found.accuracy[0])


def test_without_a_pixel_there_is_no_error():
    nothing = calibration_counts(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert np.isnan(calibration(nothing).error)


def test_counts_add_up():
    confidence, right = torch.rand(100), torch.rand(100) < 0.5
    parts = [calibration_counts(confidence[s], right[s]) for s in (slice(40), slice(40, None))]
    np.testing.assert_allclose(sum(parts), calibration_counts(confidence, right))
