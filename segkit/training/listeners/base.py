"""The protocol between the training loop and what watches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from segkit.data.loader import Batch
from segkit.evaluation import Scores
from segkit.training.progress import Row

if TYPE_CHECKING:
    from segkit.training.trainer import Trainer


class Listener:
    """Watches a run. Override what is needed; nothing here does anything.

    The trainer may be read at any time: `trainer.experiment`, `trainer.state` (model, optimiser,
    progress), `trainer.predictor`, and `trainer.log(text)`.

    Attributes:
        every_process: False, and a listener is called in the main process alone.
    """

    every_process = False

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step; the state is restored."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch."""

    def on_step(self, trainer: Trainer, loss: Tensor) -> None:
        """After a step; `loss` is on the device, and reading it waits for the device."""

    def on_validation_start(self, trainer: Trainer) -> None:
        """Before the validation after an epoch."""

    def on_image(self, trainer: Trainer) -> None:
        """After an image of the validation."""

    def on_epoch_end(self, trainer: Trainer, row: Row, scores: Scores | None) -> None:
        """After an epoch and its validation, if there is one; `row` is that of metrics.csv."""

    def on_nonfinite(self, trainer: Trainer, batches: Sequence[Batch]) -> str | None:
        """Before a loss or gradient that is not finite ends the run; may return a remark."""

    def on_stop(self, trainer: Trainer) -> None:
        """After a signal has asked the run to stop, between two steps or images."""

    def on_log(self, text: str) -> None:
        """A line for the log."""

    def on_end(self, trainer: Trainer) -> None:
        """At the end, whatever the reason, an error included."""
