"""Semantic segmentation in PyTorch, with the decoder as the variable.

    experiment = segkit.Experiment.from_config(segkit.load_config("configs/unet_vgg16.yaml"))
    segkit.Trainer(experiment, "runs/unet").fit()
    mask = segkit.Predictor.load("runs/unet")(image).mask

Everything here is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit.config import load_config as load_config
    from segkit.evaluation.evaluate import evaluate as evaluate
    from segkit.experiment import Experiment as Experiment
    from segkit.inference import Predictor as Predictor
    from segkit.model import create_model as create_model
    from segkit.registry import register as register
    from segkit.training.listeners import Listener as Listener
    from segkit.training.trainer import Trainer as Trainer

__version__ = "0.1.0"

_HOMES = {
    "Experiment": "segkit.experiment",
    "Listener": "segkit.training.listeners",
    "Predictor": "segkit.inference",
    "Trainer": "segkit.training.trainer",
    "create_model": "segkit.model",
    "evaluate": "segkit.evaluation",
    "load_config": "segkit.config",
    "register": "segkit.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segkit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
