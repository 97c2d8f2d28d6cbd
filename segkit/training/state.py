"""What a run is at a moment: model, optimiser, schedule, position; saving it and going on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segkit.checkpoint import (
    PREVIOUS,
    borrow_weights,
    find_checkpoint,
    load_checkpoint,
    load_weights,
    restore_config,
    save_checkpoint,
)
from segkit.config import Config
from segkit.config.schema import TrainConfig
from segkit.data import Card
from segkit.data.loader import EpochBatches
from segkit.errors import UserError
from segkit.evaluation import Scores
from segkit.hardware import Hardware
from segkit.model import build_model
from segkit.processes import ALONE, Processes
from segkit.training.optim import build_optimizer, build_schedule

Tensors = tuple[Tensor, ...] | list[Tensor]

# These settings change where a run happens, not what comes out of it.
FREE_ON_RESUME = (
    "run_dir",
    "data.root",
    "data.workers",
    "data.cache",
    "train.samples",
    "train.tensorboard",
    "checkpoint",
)


@dataclass
class Position:
    """How far a run has come."""

    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # steps done in the epoch after those
    loss_sum: float = 0.0  # over those steps
    seconds: float = 0.0  # that they took
    waited: float = 0.0  # seconds of these that were spent waiting for data
    best_miou: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch


def is_finished(position: Position, train: TrainConfig) -> bool:
    """Tell whether the last epoch is done, or none was better for `train.patience` epochs."""
    return position.epoch >= min(
        train.epochs, position.best_epoch + (train.patience or train.epochs)
    )


class TrainingState:
    """All that determines the rest of a run.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: to compute on.
        sampler: of the training set; its steps are those of the schedule.
        load_weights: False where `restore` follows, which then downloads nothing.
        processes: that share the run.

    Raises:
        UserError: a model that cannot be built, or weights that cannot be had.
    """

    def __init__(
        self,
        config: Config,
        card: Card,
        hardware: Hardware,
        sampler: EpochBatches,
        load_weights: bool,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.card = card
        self.sampler = sampler
        self.processes = processes
        torch.manual_seed(config.seed)
        self.model = build_model(config.model, card.num_classes, load_weights)
        if load_weights and config.train.init_from:
            self.borrowed = borrow_weights(
                self.model, find_checkpoint(Path(config.train.init_from))
            )
        if processes.count > 1 and hardware.device.type == "cuda":  # torch has none for CPUs
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        hardware.place(self.model)
        self.average = None
        if config.train.ema:
            mean = _running_mean(config.train.ema)
            self.average = AveragedModel(self.model, multi_avg_fn=mean)
        self.optimizer = build_optimizer(self.model, config.train.optimizer)
        self.schedule = build_schedule(self.optimizer, config.train, sampler.steps)
        self.scaler = hardware.scaler()
        self.position = Position()
        torch.manual_seed(config.seed + processes.rank)  # dropout differs between processes

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and kept: the running average, if there is one."""
        return self.model if self.average is None else self.average.module

    def update_average(self) -> None:
        """Take the weights into the running average."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def share_buffers(self) -> None:
        """Give all processes the first one's batch norm statistics, before they are used."""
        self.processes.share(list(self.model.buffers()))
        if self.average is not None:
            self.processes.share(list(self.average.buffers()))

    def save_model(self, path: Path, scores: Scores | None = None) -> None:
        """Write a checkpoint to predict with."""
        save_checkpoint(path, self._content(self.judged, scores))

    def save(self, path: Path) -> None:
        """Write a checkpoint to go on from, and keep the one before; all processes take part."""
        self.share_buffers()
        random_states = self.processes.gather(_random_states())
        if not self.processes.is_main:
            return
        training = {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random_states": random_states,  # one a process
            "step_size": self.sampler.step_size,
        }
        content = {**self._content(self.model, None), "training": training}
        save_checkpoint(path, content, previous=path.with_name(PREVIOUS))

    def restore(self, path: Path, override: bool = False) -> list[str]:
        """Take up a run where its checkpoint left it.

        Args:
            path: of the checkpoint.
            override: allow other settings.

        Returns:
            The settings that have changed, as sentences.

        Raises:
            UserError: no such checkpoint, or one of other settings, classes or another model.
        """
        content = load_checkpoint(path)
        if "training" not in content:
            raise UserError(f"{path} holds a model alone; resume from the run's last.pt")
        changed = changes(restore_config(content, path), self.config)
        if changed and not override:
            raise UserError(
                f"{path} was trained with other settings ({'; '.join(changed)}); resume with "
                "those, add --override to go on with the new ones, or start another run with "
                "--set run_dir=DIR"
            )
        before = [entry["name"] for entry in content["card"]["classes"]]
        if before != list(self.card.class_names):
            raise UserError(
                f"{path} was trained on the classes {before}, but the card now lists "
                f"{list(self.card.class_names)}; start another run with --set run_dir=DIR"
            )
        load_weights(self.model, content["model"], path)
        training = content["training"]
        if not self._restore_optimizer(training, changed=bool(changed)):
            changed.append("the optimiser starts anew")
        self.scaler.load_state_dict(training["scaler"])
        if self.average is not None and training["average"] is not None:
            self.average.load_state_dict(training["average"])
        states, rank = training["random_states"], self.processes.rank
        if rank < len(states):
            _set_random_states(states[rank])
        self.position = Position(**training["position"])
        before_size, size = training["step_size"], self.sampler.step_size
        if before_size != size:  # another number of processes; some samples may come twice
            changed.append(f"images in a step: {before_size} -> {size}")
            done = self.position.step * before_size // size
            self.position.loss_sum *= done / max(self.position.step, 1)
            self.position.step = done
            self.schedule.last_epoch = self.position.epoch * self.sampler.steps + done
        return changed

    def _restore_optimizer(self, training: dict[str, Any], changed: bool) -> bool:
        """Restore optimiser and schedule, with their settings as they are now.

        Returns:
            Whether the optimiser is the one it was; else it keeps its fresh state.
        """
        settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]
        fits = _shape(training["optimizer"]) == _shape(self.optimizer.state_dict())
        if fits:
            self.optimizer.load_state_dict(training["optimizer"])
        rates = self.schedule.base_lrs
        self.schedule.load_state_dict(training["schedule"])
        if changed:
            self.schedule.base_lrs = rates
            [factor] = {f(self.schedule.last_epoch) for f in self.schedule.lr_lambdas}
            for group, own, rate in zip(self.optimizer.param_groups, settings, rates, strict=True):
                group.update(own, lr=rate * factor)
        return fits

    def _content(self, model: nn.Module, scores: Scores | None) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(),
            "card": self.card.model_dump(),
            "model": model.state_dict(),
            "epoch": self.position.epoch,
            "scores": asdict(scores) if scores else None,
        }


def _running_mean(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Average weights by `decay`; by less at the start, which would else count for long."""

    def update(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        kept = min(decay, (1 + float(steps)) / (10 + float(steps)))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return update


def _shape(optimizer: dict[str, Any]) -> list[Any]:
    """Give what must agree for one optimiser's state to serve another: options and weights."""
    return [(sorted(group), group["params"]) for group in optimizer["param_groups"]]


def _random_states() -> dict[str, Any]:
    kind, numbers, place, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),  # empty without CUDA
        "python": random.getstate(),
        "numpy": (kind, numbers.tolist(), place, has_gauss, gauss),  # type: ignore[union-attr]
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])


def changes(old: Config, new: Config) -> list[str]:
    """List the settings that differ, as `key: before -> after`, but for those that may."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(FREE_ON_RESUME)
    ]


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
