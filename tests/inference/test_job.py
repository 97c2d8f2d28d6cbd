"""Predicting many files from Python, with no card and no command line."""

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.errors import UserError
from segkit.inference import Predictor
from segkit.inference.inputs import find_sources
from segkit.inference.job import PredictionJob
from segkit.labels import Classes

CLASSES = Classes.numbered(4)


@pytest.fixture
def folder(tmp_path):
    """Three images, one of them broken."""
    rng = np.random.default_rng(0)
    for name in "abc":
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    return tmp_path


def test_files_are_predicted_counted_and_skipped(folder, network, predictor_of):
    predictor = predictor_of(
        network(name="unet", widths=[8, 8, 8, 8]), class_names=CLASSES.names, colors=CLASSES.colors
    )
    out, steps, skipped = folder / "out", [], []
    job = PredictionJob(
        predictor, out, on_progress=lambda *step: steps.append(step), on_skip=skipped.append
    )
    job.run(find_sources([str(folder)], out))
    assert (job.done, job.skipped) == (2, 1)
    assert steps == [(1, 0)] * 3
    assert "b.png" in skipped[0]
    for name in "ac":
        mask = predictor(np.array(Image.open(folder / f"{name}.png"))).mask
        assert (np.array(Image.open(out / f"{name}.png")) == mask.numpy()).all()


def test_classes_are_asked_for(tmp_path, network, predictor_of):
    predictor = predictor_of(network(name="unet", widths=[8, 8, 8, 8]))
    with pytest.raises(UserError, match=r"pass class_names="):
        PredictionJob(predictor, tmp_path)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("expected contiguous memory format"), False),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_told_from_other_errors(
    error, is_memory, folder, network, predictor_of, monkeypatch
):
    def fail(self, *_, **__):
        raise error

    job = PredictionJob(
        predictor_of(
            network(name="unet", widths=[8, 8, 8, 8]),
            class_names=CLASSES.names,
            colors=CLASSES.colors,
        ),
        folder / "out",
    )
    monkeypatch.setattr(Predictor, "__call__", fail)
    sources = find_sources([str(folder / "a.png")], folder / "out")
    if is_memory:
        job.run(sources)
        assert job.skipped == 1
    else:
        with pytest.raises(RuntimeError, match="contiguous"):
            job.run(sources)
