"""The protocol between the training loop and what watches it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from segkit.data.batch import Batch
from segkit.data.epoch_batches import EpochBatches
from segkit.evaluation import Scores
from segkit.experiment import Experiment
from segkit.inference import Predictor
from segkit.training.progress import Row
from segkit.training.signals import StopSignals
from segkit.training.state import TrainingState
from segkit.training.step import Step


class Run(Protocol):
    """What a listener may read of the trainer, and do with it."""

    experiment: Experiment
    state: TrainingState  # model, optimiser, progress
    step: Step
    sampler: EpochBatches
    predictor: Predictor
    signals: StopSignals  # `requested = True` stops the run after the step
    notes: list[str]  # for the log
    resumed_from: Path | None

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""

    def log(self, text: str) -> None:
        """Print a line, and keep it in the log."""

    def collect_loss(self) -> None:
        """Bring the loss of the epoch so far, summed over all processes, into the progress."""


class Listener:
    """Watches a run: override what is needed, nothing here does anything."""

    every_process = False  # True: called in all processes, not in the main one alone

    def on_start(self, trainer: Run) -> None:
        """Before the first step; the state is restored."""

    def on_epoch_start(self, trainer: Run) -> None:
        """Before the first step of an epoch."""

    def on_step(self, trainer: Run, loss: Tensor) -> None:
        """After a step; `loss` is on the device, and reading it waits for the device."""

    def on_validation_start(self, trainer: Run) -> None:
        """Before the validation after an epoch."""

    def on_image(self, trainer: Run) -> None:
        """After an image of the validation."""

    def on_epoch_end(self, trainer: Run, row: Row, scores: Scores | None) -> None:
        """After an epoch and its validation, if there is one; `row` is that of metrics.csv."""

    def on_nonfinite(self, trainer: Run, batches: Sequence[Batch]) -> str | None:
        """Before a loss or gradient that is not finite ends the run; may return a remark."""

    def on_stop(self, trainer: Run) -> None:
        """After a signal has asked the run to stop, between two steps or images."""

    def on_log(self, text: str) -> None:
        """A line for the log."""

    def on_end(self, trainer: Run) -> None:
        """At the end, whatever the reason, an error included."""
