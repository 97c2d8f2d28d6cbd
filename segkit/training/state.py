"""What a run is at a moment: model, optimiser, schedule, position; saving it and going on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from segkit.checkpoint import load_checkpoint, load_weights, restore_config, save_checkpoint
from segkit.config import Config
from segkit.data import Card
from segkit.errors import UserError
from segkit.evaluation import Scores
from segkit.hardware import Hardware
from segkit.model import build_model
from segkit.training.optim import build_optimizer, build_schedule

# These settings change where a run happens, not what comes out of it.
FREE_ON_RESUME = ("run_dir", "data.root", "data.workers", "data.cache", "train.samples")


@dataclass
class Position:
    """How far a run has come."""

    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # steps done in the epoch after those
    loss_sum: float = 0.0  # over those steps
    seconds: float = 0.0  # that they took
    best_miou: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch


class TrainingState:
    """All that determines the rest of a run.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: to compute on.
        steps_per_epoch: for the schedule.
        load_weights: False where `restore` follows, which then downloads nothing.

    Raises:
        UserError: a model that cannot be built, or weights that cannot be had.
    """

    def __init__(
        self,
        config: Config,
        card: Card,
        hardware: Hardware,
        steps_per_epoch: int,
        load_weights: bool,
    ) -> None:
        self.config = config
        self.card = card
        torch.manual_seed(config.seed)
        self.model = build_model(config.model, card.num_classes, load_weights)
        hardware.place(self.model)
        self.optimizer = build_optimizer(self.model, config.train.optimizer)
        self.schedule = build_schedule(self.optimizer, config.train, steps_per_epoch)
        self.scaler = hardware.scaler()
        self.position = Position()

    def save_model(self, path: Path, scores: Scores | None = None) -> None:
        """Write a checkpoint to predict with."""
        save_checkpoint(path, self._content(scores))

    def save(self, path: Path) -> None:
        """Write a checkpoint to go on from."""
        training = {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_state": torch.get_rng_state(),
            "cuda_random_state": torch.cuda.get_rng_state_all(),  # empty without CUDA
        }
        save_checkpoint(path, {**self._content(None), "training": training})

    def restore(self, path: Path) -> None:
        """Take up a run where its checkpoint left it.

        Raises:
            UserError: no such checkpoint, or one of other settings, classes or another model.
        """
        content = load_checkpoint(path)
        _check_unchanged(restore_config(content, path), self.config, path)
        before = [entry["name"] for entry in content["card"]["classes"]]
        if before != list(self.card.class_names):
            raise UserError(
                f"{path} was trained on the classes {before}, but the card now lists "
                f"{list(self.card.class_names)}; start another run with --set run_dir=DIR"
            )
        if "training" not in content:
            raise UserError(f"{path} holds a model alone; resume from the run's last.pt")
        load_weights(self.model, content["model"], path)
        training = content["training"]
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.scaler.load_state_dict(training["scaler"])
        torch.set_rng_state(training["random_state"])
        torch.cuda.set_rng_state_all(training["cuda_random_state"][: torch.cuda.device_count()])
        self.position = Position(**training["position"])

    def _content(self, scores: Scores | None) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(),
            "card": self.card.model_dump(),
            "model": self.model.state_dict(),
            "epoch": self.position.epoch,
            "scores": asdict(scores) if scores else None,
        }


def _check_unchanged(old: Config, new: Config, path: Path) -> None:
    """Refuse to go on with other settings, which would be neither the old run nor a new one."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    changed = [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in FREE_ON_RESUME
    ]
    if changed:
        raise UserError(
            f"{path} was trained with other settings ({'; '.join(changed)}); resume with those, or "
            "start another run with --set run_dir=DIR"
        )


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
