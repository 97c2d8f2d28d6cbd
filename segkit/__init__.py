"""Semantic segmentation in PyTorch, with the decoder as the variable.

A model, and a training of it on any data set of `(image, mask)`:

    model = segkit.create_model("unet", encoder="vgg16", weights="imagenet", num_classes=5)
    experiment = segkit.Experiment(model, train_set, val_set, loss="cross_entropy_dice",
                                   optimizer={"name": "adamw", "lr": 3e-4}, epochs=3)
    segkit.Trainer(experiment, "runs/mine").fit()

The same from a YAML file, as the command line does it:

    experiment = segkit.Experiment.from_config(segkit.load_config("unet_vgg16"))

Scores with intervals, of any model on any loader of `(images, masks)`:

    scores = segkit.evaluate(model, loader, num_classes=5)
    print(scores.miou, scores.interval("miou"), scores.table())

Masks, from a run folder or from a model:

    mask = segkit.Predictor.load("runs/unet_vgg16")(image).mask
    mask = segkit.Predictor(model, mean=mean, std=std)(image).mask

What an encoder sees in images, as vectors whose scalar product is the images' similarity:

    descriptors = segkit.describe(model.encoder, images)

Also here: `segkit.metrics`, on plain arrays and as a `torchmetrics.Metric`; `segkit.register`, for
encoders, decoders, losses and more of your own; `segkit.Listener`, for what watches a training.
`segkit.decoders`, `segkit.encoders` and `segkit.losses` need torch and nothing else.

Everything is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkit import metrics as metrics
    from segkit.config import load_config as load_config
    from segkit.descriptors import describe as describe
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
    "describe": "segkit.descriptors",
    "evaluate": "segkit.evaluation",
    "load_config": "segkit.config",
    "metrics": "segkit.metrics",
    "register": "segkit.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segkit' has no attribute '{name}'")
    if _HOMES[name] == f"segkit.{name}":  # a module
        return import_module(_HOMES[name])
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
