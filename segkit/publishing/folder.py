"""Write a model as a folder: weights, description, page and picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

import segkit
from segkit.checkpoint import FORMAT, restore_statistics
from segkit.drawing.predictions import draw_predictions
from segkit.evaluation.images import predict_samples, spread
from segkit.evaluation.target import EvaluationTarget
from segkit.files import check_folder, write_file
from segkit.model_folder import (
    DESCRIPTION,
    WEIGHTS,
    Description,
    public_card,
    without_private_paths,
)

PAGE, PICTURE = "README.md", "prediction.png"
SHOWN = 3  # images in the picture


def write_model_folder(folder: Path, target: EvaluationTarget, page: str) -> None:
    """Write a model, and a picture of what it predicts for a few images.

    Args:
        folder: made if needed; a model there is overwritten.
        target: the model and its images.
        page: the text of README.md.
    """
    check_folder(folder)
    write_file(folder / WEIGHTS, save(_apart(target.content["model"])))
    write_file(folder / DESCRIPTION, describe(target).model_dump_json(indent=2) + "\n")
    write_file(folder / PAGE, page)
    chosen = spread(len(target.dataset), SHOWN)
    rows = list(predict_samples(target.predictor, target.dataset, chosen))
    draw_predictions(folder / PICTURE, rows, target.card.legend)


def describe(target: EvaluationTarget) -> Description:
    """Return all that a checkpoint holds but weights and training, without private paths."""
    content, config, card = target.content, target.config, target.predictor.card
    assert card is not None  # without one, no checkpoint becomes a target
    described: dict[str, Any] = {
        "format": FORMAT,
        "segkit": segkit.__version__,
        "config": without_private_paths(config.model_dump(mode="json")),
        "card": public_card(card),
        "statistics": restore_statistics(content, config),
        "classes": card.legend,
        "imports": without_private_paths(list(content.get("imports", ()))),
        "epoch": content["epoch"],
        "scores": content["scores"],
    }
    return Description.model_validate(described)


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that may share memory, which safetensors cannot hold."""
    return {
        key: value.clone(memory_format=torch.contiguous_format) for key, value in weights.items()
    }
