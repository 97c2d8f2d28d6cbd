"""The run folder: checkpoints, history and settings of a run; it never overwrites another run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import segkit
from segkit.checkpoint import BEST, LAST, PREVIOUS, load_checkpoint
from segkit.config import dump_config
from segkit.config.load import RUN_CONFIG
from segkit.config.run import ENVIRONMENT, HISTORY
from segkit.config.schema import Every
from segkit.consistency import package_versions
from segkit.errors import UserError
from segkit.evaluation import Scores
from segkit.experiment import Experiment
from segkit.files import move, remove_leftovers, write_file
from segkit.invocation import again
from segkit.registry import imported
from segkit.tables import as_csv
from segkit.training.listeners.base import Listener, Run
from segkit.training.progress import Row

# These differ between equal runs, so metrics.csv has none of them.
TIMINGS = ("seconds", "seconds_per_step", "images_per_second", "waiting_share")


class RunFolder(Listener):
    """Writes checkpoints, `metrics.csv`, `metrics.jsonl`, `config.yaml` and `env.json`.

    Args:
        path: of the folder.
        resume: whether it should hold a run already.

    Raises:
        UserError: the folder holds a run that is not to be resumed, holds none that could be, or
            cannot be written to.
    """

    every_process = True  # all take part in a checkpoint

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path)
        self.last = self.path / "checkpoints" / LAST
        self.previous = self.path / "checkpoints" / PREVIOUS
        self.best = self.path / "checkpoints" / BEST
        self.saved = time.monotonic()
        self.has_checkpoint = exists = holds_run(self.path)
        if exists and not resume:
            command = again("train", str(self.path), "--resume")
            raise UserError(
                f"{self.path} already holds a run; go on with it by {command}, or start another "
                "with --set run_dir=DIR"
            )
        if resume and not exists:
            raise UserError(
                f"nothing to resume: there is no {self.last}; name the experiment's YAML file and "
                "leave out --resume"
            )
        existing = next(
            p for p in [self.path, *Path(os.path.realpath(self.path)).parents] if p.exists()
        )
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise self._unwritable(f"{existing} is not a folder one may write to")

    def find_last(self) -> tuple[Path, list[str]]:
        """Return the last checkpoint that is whole, and a warning if that is the one before."""
        try:
            load_checkpoint(self.last)
        except UserError as error:
            if not self.previous.exists():
                raise
            return self.previous, [f"WARNING: {error}; going on from {self.previous} instead"]
        return self.last, []

    def on_start(self, trainer: Run) -> None:
        """Make the folder and write the config and the environment into it."""
        experiment = trainer.experiment
        if experiment.processes.is_main:
            try:
                (self.path / "samples").mkdir(parents=True, exist_ok=True)
                self.last.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise self._unwritable(str(error)) from error
            for folder in (self.path, self.last.parent):
                remove_leftovers(folder)
            if trainer.resumed_from == self.previous:
                # otherwise the next save would keep the damaged one instead
                move(self.previous, self.last)
            self._write_settings(experiment)
            if trainer.resumed_from is not None and trainer.state.progress.history:
                # a process killed after the last checkpoint did not come to it
                self._write_tables(trainer)
        experiment.processes.barrier()

    def on_step(self, trainer: Run, loss: Tensor) -> None:
        """Write a checkpoint every so many minutes, if that is asked for."""
        if trainer.step.agreed.save:
            self._save(trainer)
        minutes = _every(trainer.experiment).minutes
        if minutes is not None and time.monotonic() - self.saved > 60 * minutes:
            trainer.step.agreement.save = True

    def on_validation_start(self, trainer: Run) -> None:
        """Write the first checkpoint: an image too large for the memory may end the process."""
        # the folder is not asked, as all processes take part, and one may have written it by now
        if not self.has_checkpoint:
            self._save(trainer)

    def on_epoch_end(self, trainer: Run, row: Row, scores: Scores | None) -> None:
        """Keep the best model, the history, and a checkpoint to resume from."""
        progress = trainer.state.progress
        is_best = scores is not None and progress.best_epoch == progress.epoch
        if is_best and trainer.experiment.processes.is_main:
            trainer.state.save_model(self.best, scores)
        epochs = _every(trainer.experiment).epochs
        if trainer.is_finished or (epochs and progress.epoch % epochs == 0):
            self._save(trainer)
        self._write_tables(trainer)

    def on_stop(self, trainer: Run) -> None:
        """Write a checkpoint to resume from."""
        self._save(trainer)

    def _save(self, trainer: Run) -> None:
        trainer.collect_loss()
        trainer.state.save(self.last)
        self.saved = time.monotonic()
        self.has_checkpoint = True

    def _write_tables(self, trainer: Run) -> None:
        """Write the history; the run goes on without, as a spreadsheet may have a file open."""
        if not trainer.experiment.processes.is_main:
            return
        try:
            if not (self.path / ENVIRONMENT).exists():  # somebody has moved the folder away
                self._write_settings(trainer.experiment)
            self.write_history(trainer.state.progress.history)
        except UserError as error:
            trainer.log(f"WARNING: {error}; it is written again after the next epoch")

    def _write_settings(self, experiment: Experiment) -> None:
        if experiment.config is not None:
            write_file(self.path / RUN_CONFIG, dump_config(experiment.config))
        facts = environment(experiment)
        write_file(self.path / ENVIRONMENT, json.dumps(facts, indent=2) + "\n")

    def write_history(self, history: Sequence[Row]) -> None:
        """Write one row an epoch, whole each time, so that a resumed run leaves no double rows."""
        write_file(self.path / HISTORY, "".join(json.dumps(row) + "\n" for row in history))
        longest = max(history, key=len)  # an epoch without validation has no scores
        columns = [key for key in longest if key not in TIMINGS]
        table = as_csv(columns, ([row.get(key) for key in columns] for row in history), "nan")
        write_file(self.path / "metrics.csv", table)

    def _unwritable(self, reason: str) -> UserError:
        return UserError(
            f"cannot make the run folder {self.path}: {reason}; name another with --set run_dir=DIR"
        )


def holds_run(path: str | Path) -> bool:
    """Return whether a folder has a checkpoint to resume from."""
    folder = Path(path) / "checkpoints"
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def _every(experiment: Experiment) -> Every:
    return Every(epochs=1) if experiment.config is None else experiment.config.checkpoint.every


def environment(experiment: Experiment) -> dict[str, Any]:
    """Describe what a run's outcome may depend on besides its config."""
    statistics = experiment.statistics
    return {
        "command": sys.argv,
        "host": platform.node(),
        "pid": os.getpid(),
        "imports": list(imported()),
        "settings": experiment.settings if experiment.config is None else None,
        "statistics": None if statistics is None else statistics._asdict(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "device": str(experiment.hardware),
        "threads": torch.get_num_threads(),
        "processes": experiment.processes.count,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Return the commit of segkit's own checkout, with + for uncommitted changes."""
    checkout = Path(segkit.__file__).parents[1]
    if not (checkout / ".git").exists():  # an installed package may lie within another checkout
        return None
    try:
        git = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--dirty=+"]
        done = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
