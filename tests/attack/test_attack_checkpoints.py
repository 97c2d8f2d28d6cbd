"""Changed checkpoints, to predict with, to start from and to go on with."""

import contextlib
import pickle

import numpy as np
import pytest
import torch
from corpus_tensors import save_mutated
from memory import peak_kb

from segkit.checkpoint import borrow_weights, restore_model
from segkit.config import load_config
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.inference import Predictor
from segkit.training.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
UNWRITABLE = (RuntimeError, pickle.PicklingError, ValueError, RecursionError, TypeError)
TINY = {"train.epochs": 1, "train.ema": 0.5, "train.samples": 0, "model.encoder.width": 0.03}


@pytest.fixture
def config(tiny_config):
    return load_config(tiny_config(TINY))


@pytest.fixture
def last(config, tmp_path):
    """The checkpoint of a training in the middle of its last epoch."""
    Trainer(Experiment.from_config(config), tmp_path / "run").fit()
    return tmp_path / "run" / "checkpoints" / "last.pt"


def test_changed_checkpoints_predict_and_lend_weights(last, tmp_path, rounds, count):
    content = torch.load(last, weights_only=True)
    model, path = restore_model(content, last), tmp_path / "case.pt"
    known = set(tmp_path.rglob("*")) | {path}
    before = peak_kb()
    done = 0
    for case in range(200 * rounds):
        try:
            save_mutated(content, case, path)
        except UNWRITABLE:
            continue
        with contextlib.suppress(UserError):
            Predictor.load(path, "cpu")(np.zeros((40, 48, 3), np.uint8))
        with contextlib.suppress(UserError):
            borrow_weights(model, path)
        done += 1
    assert set(tmp_path.rglob("*")) <= known
    assert peak_kb() - before < 1_500_000  # kB
    count("checkpoints", done)


def test_changed_checkpoints_go_on(last, config, tmp_path, rounds, count):
    content = torch.load(last, weights_only=True)
    content["training"]["position"] |= {"epoch": 0, "step": 2, "seconds": 1.0, "history": []}
    (last.parent / "previous.pt").unlink(missing_ok=True)
    done = 0
    for case in range(60 * rounds):
        with contextlib.suppress(*UNWRITABLE):
            save_mutated(content, 10_000 + case, last)
            done += 1
        with contextlib.suppress(UserError):
            Trainer(Experiment.from_config(config), tmp_path / "run", resume=True).fit()
        (last.parent / "previous.pt").unlink(missing_ok=True)
    count("checkpoints to go on with", done)
