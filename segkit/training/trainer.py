"""The training loop: epochs of steps, a validation after each, and stopping on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from segkit.config.flatten import flatten
from segkit.data.batch import Batch
from segkit.errors import UserError
from segkit.evaluation import Evaluation, evaluate_images
from segkit.experiment import Experiment
from segkit.inference import Predictor
from segkit.optim import learning_rate
from segkit.training.determinism import deterministic
from segkit.training.listeners import Listener, RunFolder, default_listeners
from segkit.training.listeners.nonfinite import explain_nonfinite
from segkit.training.progress import Row, epoch_row
from segkit.training.shortage import explain_shortage
from segkit.training.signals import StopSignals
from segkit.training.state import TrainingState
from segkit.training.step import NonFinite, Step

T = TypeVar("T")


class Trainer:
    """Trains an experiment; all that watches it is a `Listener`.

    Args:
        experiment: the run.
        folder: where to keep it; None writes nothing.
        listeners: beside those that print and fill the folder.
        resume: go on from the folder's last checkpoint.
        override: with `resume`, go on with other settings than before.

    Raises:
        UserError: too few images for a step, a folder in use, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: str | Path | RunFolder | None = None,
        listeners: Sequence[Listener] = (),
        *,
        resume: bool = False,
        override: bool = False,
    ) -> None:
        self.folder = RunFolder(folder, resume) if isinstance(folder, (str, Path)) else folder
        self.experiment = experiment
        self.train_loader = experiment.train_loader()
        self.val_loader = experiment.val_loader()
        self.loaders = [one for one in (self.train_loader, self.val_loader) if one is not None]
        for loader in self.loaders:
            loader.tell = self._tell_once
        self.sampler = self.train_loader.sampler
        experiment.processes.require_equal(self._facts)
        self.state = TrainingState(experiment, self.sampler)
        self.notes = list(experiment.notes)  # for the log
        self.resumed_from: Path | None = None
        if resume:
            if self.folder is None:
                raise UserError("resume needs the folder of the run")
            self.resumed_from, warnings = self.folder.find_last()
            changed = self.state.restore(self.resumed_from, override)
            self.notes += warnings + [f"changed  {change}" for change in changed]
        self.step = Step(self.state, experiment)
        self.predictor = Predictor(
            self.state.eval_model,
            hardware=experiment.hardware,
            mean=experiment.mean,
            std=experiment.std,
        )
        self.listeners = [*default_listeners(self.folder, experiment), *listeners]
        self.loss_sum: Tensor | None = None  # of the epoch's steps in this process
        self.signals = StopSignals(shared=experiment.processes.count > 1)
        self.stopped = False  # by a signal
        self._told: set[str] = set()
        self._told_of_tiles = False

    def _facts(self) -> dict[str, Any]:
        """Return what must be the same in all processes, whatever the experiment was made from."""
        experiment = self.experiment
        parameters = experiment.model.named_parameters()
        return {
            "the number of training images": self.sampler.length,
            "the classes": experiment.classes.names,
            "the parameters of the model": [(name, tuple(p.shape)) for name, p in parameters],
            **flatten(experiment.settings),
        }

    def fit(self) -> list[Row]:
        """Train to the last epoch, validating after each.

        Returns:
            The history, a row an epoch; `stopped` says whether a signal ended it early.
        """
        try:
            self._notify("on_start")
            with self.signals, deterministic(self.experiment.train.deterministic):
                while not self.is_finished:
                    self._train_epoch()
                    self._finish_epoch(self._validate())
        except _Stopped:
            self.stopped = True
        finally:
            self._notify("on_end")
            for loader in self.loaders:
                loader.close()
        return self.state.progress.history

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        progress, train = self.state.progress, self.experiment.train
        done = progress.is_finished(train.epochs, train.patience)
        return done or progress.best_miou > self.experiment.goal

    def log(self, text: str) -> None:
        """Print a line, and keep it in the log."""
        self._notify("on_log", text)

    def _tell_once(self, text: str) -> None:
        """Log what both loaders may have to say."""
        if text not in self._told:
            self._told.add(text)
            self.log(text)

    def collect_loss(self) -> None:
        """Bring the loss of the epoch so far, summed over all processes, into the progress."""
        if self.loss_sum is not None:
            self._explained(self.step.settle)
            total = self.experiment.processes.all_reduce(self.loss_sum.clone())
            self.state.progress.loss_sum = total.item()

    def _train_epoch(self) -> None:
        progress, hardware = self.state.progress, self.experiment.hardware
        self.step.begin_epoch(progress.epoch)
        before = progress.loss_sum / self.experiment.processes.count
        self.loss_sum = torch.tensor(before, dtype=hardware.widest_float, device=hardware.device)
        self._notify("on_epoch_start")
        start = time.perf_counter()
        for batches in self.train_loader.steps(progress.epoch, progress.step):
            progress.waited += time.perf_counter() - start
            # with other processes, a signal that comes from here on waits for the next step
            self.step.agreement.stop = self.signals.requested
            loss = self._take_step(batches)
            self.loss_sum += loss
            progress.step += 1
            progress.seconds += time.perf_counter() - start
            self._notify("on_step", loss)
            alone = self.experiment.processes.count == 1
            self._stop_if(self.signals.requested if alone else self.step.agreed.stop)
            start = time.perf_counter()
        self.collect_loss()
        self.loss_sum = None

    def _take_step(self, batches: Sequence[Batch]) -> Tensor:
        try:
            return self._explained(self.step, batches)
        except torch.cuda.OutOfMemoryError as error:
            raise explain_shortage(self.step, batches) from error

    def _explained(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call a method of the step; tell what is known where a step was not finite."""
        try:
            return work(*arguments)
        except NonFinite as error:
            remarks = self._notify("on_nonfinite", error.batches)
            raise explain_nonfinite(self.step, error, remarks) from error

    def _validate(self) -> Evaluation | None:
        epoch, train = self.state.progress.epoch + 1, self.experiment.train
        due = epoch % train.validate_every == 0 or epoch == train.epochs
        if self.val_loader is None or not due:
            return None
        self.state.broadcast_buffers()
        self._notify("on_validation_start")
        processes = self.experiment.processes

        def on_image() -> None:
            self._notify("on_image")
            if processes.count == 1:  # else after the last image, all at once
                self._stop_if_asked()

        evaluation = evaluate_images(
            self.predictor,
            self.val_loader,
            self.experiment.num_classes,
            on_image,
            processes,
            loss=self.experiment.loss,
        )
        if evaluation.tiled is not None and not self._told_of_tiles:
            self._told_of_tiles = True
            self.log(f"validation in exact tiles, as '{evaluation.tiled}' does not fit into memory")
        return evaluation

    def _finish_epoch(self, evaluation: Evaluation | None) -> None:
        progress = self.state.progress
        lr = learning_rate(self.state.optimizer)
        row = epoch_row(progress, self.sampler, lr, evaluation, self.experiment.classes.names)
        progress.history.append(row)
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.loss_sum = progress.seconds = progress.waited = 0.0
        scores = None if evaluation is None else evaluation.scores
        if scores is not None and scores.miou > progress.best_miou:
            progress.best_miou, progress.best_epoch = scores.miou, progress.epoch
        self._notify("on_epoch_end", row, scores)
        if not self.is_finished:
            self._stop_if_asked()

    def _notify(self, event: str, *arguments: Any) -> list[Any]:
        """Call all listeners and return what they have to say."""
        main = self.experiment.processes.is_main
        about = () if event == "on_log" else (self,)
        called = [one for one in self.listeners if main or one.every_process]
        answers = [getattr(listener, event)(*about, *arguments) for listener in called]
        return [answer for answer in answers if answer is not None]

    def _stop_if_asked(self) -> None:
        """End the run if a signal came to any process; all take part."""
        self._stop_if(any(self.experiment.processes.all_gather(self.signals.requested)))

    def _stop_if(self, asked: bool) -> None:
        if asked:
            self._notify("on_stop")
            raise _Stopped


class _Stopped(Exception):
    """Leaves the loop; what was done is saved."""
