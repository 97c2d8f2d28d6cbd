"""Training state: model, running average, optimiser, schedule and progress; saved and restored."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segkit.checkpoint import (
    PREVIOUS,
    load_checkpoint,
    load_weights,
    restore_classes,
    restore_settings,
    restore_training,
    save_checkpoint,
)
from segkit.data.epoch_batches import EpochBatches
from segkit.errors import UserError
from segkit.evaluation import Scores
from segkit.experiment import Experiment
from segkit.optim import build_optimizer, build_schedule
from segkit.registry import imported
from segkit.training.optimizer_state import fits, load_optimizer
from segkit.training.progress import Progress, changes

Tensors = tuple[Tensor, ...] | list[Tensor]


class TrainingState:
    """All that determines the rest of a run."""

    def __init__(self, experiment: Experiment, sampler: EpochBatches) -> None:
        self.experiment = experiment
        self.sampler = sampler
        self.processes = experiment.processes
        train, hardware = experiment.train, experiment.hardware
        self.model = experiment.model
        if self.processes.count > 1 and hardware.device.type == "cuda":  # torch has none for CPUs
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        hardware.to_device(self.model)
        self.average = None
        if train.ema:
            # batch norm statistics belong to the weights that made them: they are averaged as well
            self.average = AveragedModel(self.model, use_buffers=True)
            self.average.multi_avg_fn = _running_mean(train.ema, self.average.n_averaged)
        self.optimizer = build_optimizer(self.model, train.optimizer.model_dump())
        self.schedule = build_schedule(
            self.optimizer, train.schedule.model_dump(), train.epochs, sampler.steps
        )
        self.scaler = hardware.scaler()
        self.progress = Progress()
        # dropout differs between processes
        torch.manual_seed(experiment.seed + self.processes.rank)

    @property
    def eval_model(self) -> nn.Module:
        """The model that is evaluated and kept: the running average, if there is one."""
        return self.model if self.average is None else self.average.module

    def update_average(self) -> None:
        """Take weights and batch norm statistics into the running average."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def broadcast_buffers(self) -> None:
        """Send the first process's batch norm statistics to all, before they are used."""
        self.processes.broadcast(list(self.model.buffers()))
        if self.average is not None:
            # its own buffer, a count that is equal in all processes, stays on the CPU
            self.processes.broadcast(list(self.average.module.buffers()))

    def save_model(self, path: Path, scores: Scores | None = None) -> None:
        """Write a checkpoint to predict with."""
        save_checkpoint(path, self._content(self.eval_model, scores))

    def save(self, path: Path) -> None:
        """Write a checkpoint to resume from, and keep the one before; all processes take part."""
        self.broadcast_buffers()
        random_states = self.processes.all_gather(_random_states())
        if not self.processes.is_main:
            return
        training = {
            "position": asdict(self.progress),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random_states": random_states,  # one a process
            "rounding": self._rounding(),
            "step_size": self.sampler.step_size,
            "length": self.sampler.length,
        }
        content = {**self._content(self.model, None), "training": training}
        save_checkpoint(path, content, previous=path.with_name(PREVIOUS))

    def restore(self, path: Path, override: bool = False) -> list[str]:
        """Resume a run from its checkpoint, and return the settings that have changed.

        Raises:
            UserError: no such checkpoint, or one of another model, other classes or, unless
                `override`, other settings.
        """
        content = load_checkpoint(path)
        training = restore_training(content, path)
        changed = changes(restore_settings(content, path), self.experiment.settings)
        length = training.get("length", self.sampler.length)
        if length != self.sampler.length:  # for example without the --overfit that it began with
            changed.append(f"training images: {length} -> {self.sampler.length}")
        if changed and not override:
            raise UserError(
                f"{path} was trained with other settings ({'; '.join(changed)}); resume the run "
                f"folder, {path.parent.parent}, to keep those, add --override to go on with the "
                "new ones, or start another run with --set run_dir=DIR"
            )
        names, now = restore_classes(content), list(self.experiment.classes.names)
        if names != now:
            raise UserError(
                f"{path} was trained on the classes {names}, but now there are {now}; start "
                "another run with --set run_dir=DIR"
            )
        load_weights(self.model, content["model"], path)
        if not self._restore_optimizer(training, path, changed=bool(changed)):
            changed.append("the optimiser starts anew")
        for key, value in self._rounding().items():
            before = training.get("rounding", {}).get(key, value)
            if before != value:
                changed.append(f"{key}: {before} -> {value}")
        if self.scaler.is_enabled() and training["scaler"]:  # else it starts as a fresh one
            self.scaler.load_state_dict(training["scaler"])
        if self.average is not None and training["average"] is not None:
            load_weights(self.average, training["average"], path)
        states, rank = training["random_states"], self.processes.rank
        if rank < len(states):
            try:
                _set_random_states(states[rank])
            except (ValueError, TypeError, RuntimeError) as error:
                raise UserError(f"{path} is damaged: its random states, {error}") from error
        self.progress = Progress(**training["position"])
        before_size, size = training["step_size"], self.sampler.step_size
        if self.progress.step > -(-self.sampler.length // before_size):
            raise UserError(f"{path} is damaged: it has done more steps than an epoch has")
        if before_size != size:  # another number of processes; some samples may come twice
            changed.append(f"images in a step: {before_size} -> {size}")
            done = self.progress.step * before_size // size
            self.progress.loss_sum *= done / max(self.progress.step, 1)
            self.progress.step = done
            self.schedule.last_epoch = self.progress.epoch * self.sampler.steps + done
        return changed

    def _rounding(self) -> dict[str, Any]:
        """Return what the last bits depend on, and the machine may choose."""
        hardware = self.experiment.hardware
        return {
            "device": hardware.device.type,
            "precision": hardware.precision,
            "threads": torch.get_num_threads() if hardware.device.type == "cpu" else None,
        }

    def _restore_optimizer(self, training: dict[str, Any], path: Path, changed: bool) -> bool:
        """Restore optimiser and schedule, with their settings as they are now.

        False where the optimiser is another one, which then keeps its fresh state.
        """
        is_same = fits(training, self.optimizer)
        if is_same:
            load_optimizer(self.optimizer, training["optimizer"], path)
        rates, groups = self.schedule.base_lrs, self.optimizer.param_groups
        self.schedule.load_state_dict(training["schedule"])
        if changed:
            self.schedule.base_lrs = rates
            [factor] = {f(self.schedule.last_epoch) for f in self.schedule.lr_lambdas}
            for group, rate in zip(groups, rates, strict=True):
                group.update(lr=rate * factor, initial_lr=rate)
        elif not len(groups) == len(self.schedule.base_lrs) == len(self.schedule.get_last_lr()):
            raise UserError(f"{path} is damaged: its schedule is of another optimizer")
        return is_same

    def _content(self, model: nn.Module, scores: Scores | None) -> dict[str, Any]:
        experiment = self.experiment
        config, card, statistics = experiment.config, experiment.card, experiment.statistics
        return {
            "config": None if config is None else config.model_dump(),
            "card": None if card is None else card.model_dump(),
            "statistics": None if statistics is None else statistics._asdict(),
            "settings": experiment.settings if config is None else None,
            "classes": experiment.classes._asdict(),
            "imports": list(imported()),
            "model": model.state_dict(),
            "epoch": self.progress.epoch,
            "scores": scores.as_dict() if scores else None,
        }


def _running_mean(decay: float, steps: Tensor) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Average tensors by `decay`, and by less at the start, which would count for too long.

    Whole numbers, such as batch norm's count of batches, are copied.

    Args:
        decay: share that is kept in each step.
        steps: taken so far, on the CPU, where reading it waits for nothing.
    """

    def update(averaged: Tensors, current: Tensors, _: Tensor | int) -> None:
        if not averaged[0].is_floating_point():  # a call has tensors of one type
            torch._foreach_copy_(averaged, current)
            return
        kept = min(decay, (1 + steps.item()) / (10 + steps.item()))
        torch._foreach_lerp_(averaged, current, 1 - kept)

    return update


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
