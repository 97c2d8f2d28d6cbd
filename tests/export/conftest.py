"""A run of a few steps on the tiny set, to export."""

import pytest

from segkit.config import load_config
from segkit.experiment import Experiment
from segkit.training.trainer import Trainer


@pytest.fixture
def run_dir(tiny_config, tmp_path):
    """Train the tiny network a little, so that it predicts more than one class."""
    config = load_config(tiny_config({"train.epochs": 8}))
    Trainer(Experiment.from_config(config), tmp_path / "run").fit()
    return tmp_path / "run"
