"""The training loop: epochs of steps, a validation after each, and stopping on demand."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType

import torch
from torch import Tensor

from segkit.config import Config
from segkit.data import Batch, Card, SegmentationDataset, batches, build_dataset, make_loader
from segkit.data.loader import EpochBatches, Loader, worker_errors
from segkit.data.statistics import resolve_statistics
from segkit.data.survey import survey
from segkit.data.transforms import build_normalize
from segkit.errors import UserError
from segkit.evaluation import Scores, evaluate
from segkit.evaluation.pictures import draw_predictions
from segkit.hardware import Hardware
from segkit.inference import Predictor
from segkit.processes import ALONE, Processes
from segkit.training.console import RunConsole, clock
from segkit.training.curves import draw_curves
from segkit.training.history import epoch_line, epoch_row
from segkit.training.optim import learning_rate
from segkit.training.run_folder import RunFolder
from segkit.training.state import TrainingState, is_finished
from segkit.training.step import NonFinite, Step, one_size, void_like
from segkit.training.tensorboard import TensorBoard

PICTURES_EVERY_S = 20
OVERFIT_STEPS, OVERFIT_GOAL = 25, 0.95  # steps in an epoch, and the mIoU that ends it
MUCH_WAITING = 0.3  # share of an epoch's time; beyond it, the log has a hint


class Stopped(Exception):
    """A signal asked the run to stop; the last checkpoint is written."""


class Trainer:
    """A run: data, state and folder wired together, and the loop over them.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: where and how precisely to compute.
        processes: that share the run; the first one alone writes and prints.
        resume: go on from the run folder's last checkpoint.
        override: with `resume`, go on with other settings than before.
        overfit: train and judge on so many images, until they are known by heart.

    Raises:
        UserError: whatever can be found wrong before the first step.
    """

    def __init__(
        self,
        config: Config,
        card: Card,
        hardware: Hardware,
        processes: Processes = ALONE,
        *,
        resume: bool = False,
        override: bool = False,
        overfit: int | None = None,
    ) -> None:
        self.folder = RunFolder(config, resume)
        processes.main_first(lambda: _look_at_data(config, card))
        self.config = config = resolve_statistics(config, card)
        self.card = card
        self.hardware = hardware
        self.processes = processes
        self.normalize = build_normalize(config).to(hardware.device)
        self.train_set = build_dataset(config, card, config.data.train_split, augment=True)
        self.val_set = build_dataset(config, card, config.data.val_split, augment=False)
        if overfit:
            steps = OVERFIT_STEPS * config.data.batch_size
            self.train_set.keep(overfit, repeats=-(-steps // overfit))
            self.val_set.keep(overfit)
        self.goal = OVERFIT_GOAL if overfit else math.inf
        self.sampler = self._sampler(self.train_set, config.train.accumulate, shuffle=True)
        self.train_loader = self._loader(self.train_set, self.sampler)
        self.val_loader = self._loader(self.val_set, self._sampler(self.val_set, 1, shuffle=False))
        if len(self.train_set) < self.sampler.step_size:
            raise UserError(
                f"'{config.data.train_split}' has {len(self.train_set)} images, but a step takes "
                f"{self.sampler.step_size}: data.batch_size={config.data.batch_size} x "
                f"train.accumulate={config.train.accumulate} x {processes.count} processes; lower "
                "one of them"
            )
        self.state = TrainingState(
            config, card, hardware, self.sampler, load_weights=not resume, processes=processes
        )
        self.notes: list[str] = []  # for the log, once there is one
        if resume:
            path = self.folder.find_last(self.notes)
            changed = self.state.restore(path, override)
            self.notes += [f"changed  {change}" for change in changed]
        elif config.train.init_from:
            self.notes.append(f"started  from {self.state.borrowed}")
        self.predictor = Predictor(self.state.judged, self.normalize, hardware)
        if processes.is_main:
            self.folder.create(config, hardware, processes)
        processes.gather(None)  # the folder is there, and the checkpoint read
        if resume and processes.is_main and path == self.folder.previous:
            os.replace(path, self.folder.last)  # else the next save keeps the torn one instead
        self.console = RunConsole(self.folder.path / "train.log", processes.is_main)
        self.board = TensorBoard(self.folder.path, config, processes, self.console)
        self.step = Step(self.state, config, hardware, processes, self.normalize)
        self.some_part: Batch  # of this process, from an earlier step
        self.stop_requested = False
        self.drawn = -math.inf  # when, on the clock that never goes back
        self.saved = time.monotonic()

    def run(self) -> None:
        """Train to the last epoch, validating after each.

        Raises:
            Stopped: a signal came; what was done is saved.
        """
        with self._stopping_on_signals(), worker_errors():
            while not self.is_finished:
                self._train_epoch()
                self._validate()

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        position = self.state.position
        return is_finished(position, self.config.train) or position.best_miou > self.goal

    def _train_epoch(self) -> None:
        position, device = self.state.position, self.hardware.device
        self.step.begin_epoch(position.epoch)
        self.sampler.epoch, self.sampler.skip = position.epoch, position.step
        before = position.loss_sum / self.processes.count
        loss_sum = torch.tensor(before, dtype=torch.float64, device=device)
        title = f"epoch {position.epoch + 1}/{self.config.train.epochs}"
        with self.console.progress(title, self.sampler.steps, position.step) as ticker:
            if position.step < self.sampler.steps:  # not so where validation was interrupted
                loader = batches(self.train_loader)
                for _ in range(position.step, self.sampler.steps):
                    start = time.perf_counter()
                    parts = self._next_parts(loader, position.step)
                    position.waited += time.perf_counter() - start
                    loss = self._take_step(parts)
                    loss_sum += loss
                    position.step += 1
                    position.seconds += time.perf_counter() - start
                    ticker.advance()
                    if ticker.due:
                        ticker.note(self._progress_note(loss.item()))
                    if self._must_stop() or self._save_is_due():
                        self._save(loss_sum)
        position.loss_sum = self.processes.sum(loss_sum).item()

    def _next_parts(self, loader: Iterator[list[Batch]], step: int) -> list[Batch]:
        """Read this process' batches of a step, a void one where it has none."""
        parts = [one_size(next(loader)) for _ in range(self.sampler.batches_in(step))]
        if not parts:  # the first step of a run is a full one
            return [void_like(self.some_part)]
        self.some_part = parts[0]
        return parts

    def endless(self) -> Iterator[list[Batch]]:
        """Read this process' batches of step after step, epoch after epoch, as training would."""
        for self.sampler.epoch in count():
            loader = batches(self.train_loader)
            for step in range(self.sampler.steps):
                yield self._next_parts(loader, step)

    def _take_step(self, parts: list[Batch]) -> Tensor:
        try:
            return self.step(parts)
        except NonFinite as error:
            raise self._explain_nonfinite(parts) from error

    def _explain_nonfinite(self, parts: list[Batch]) -> UserError:
        """Keep the batches for inspection, and say what there is to know."""
        position, state = self.state.position, self.state
        names = [name for part in parts for name in part.names]
        facts = {
            "epoch": position.epoch + 1,
            "step": position.step + 1,
            "names": names,
            "lr": learning_rate(state.optimizer),
            "scale": state.scaler.get_scale(),
            "largest_logit": self.step.largest_logit(parts),
        }
        path = self.folder.path / f"nonfinite_{self.processes.rank}.pt"
        content = {"images": [p.images for p in parts], "masks": [p.masks for p in parts]}
        torch.save({**facts, **content}, path)
        return UserError(
            f"loss or gradient are not finite in epoch {facts['epoch']} at step {facts['step']}: "
            f"learning rate {facts['lr']:.2e}, gradient scale {facts['scale']:g}, largest logit "
            f"{facts['largest_logit']:.3g}, samples {', '.join(names)}; lower train.optimizer.lr, "
            "clip by train.clip_norm, use precision fp32, or pass over such steps by "
            f"train.skip_nonfinite; the batch is kept in {path}, checkpoints stay as they were"
        )

    def _progress_note(self, loss: float) -> str:
        position = self.state.position
        seconds_per_step = position.seconds / position.step
        epochs_left = self.config.train.epochs - position.epoch
        steps_left = epochs_left * self.sampler.steps - position.step
        return (
            f"loss {loss:.3f}  lr {learning_rate(self.state.optimizer):.2e}  "
            f"{self.sampler.step_size / seconds_per_step:.1f} images/s  "
            f"{clock(steps_left * seconds_per_step)} left"
        )

    def _validate(self) -> None:
        self.state.share_buffers()
        with self.console.progress("validation", len(self.val_set)) as ticker:

            def on_image() -> None:
                ticker.advance(self.processes.count)
                if self.processes.count == 1 and self.stop_requested:  # else after the last step
                    self._save()

            scores = evaluate(
                self.predictor, self.val_loader, self.card.num_classes, on_image, self.processes
            ).scores
        self._finish_epoch(scores)

    def _finish_epoch(self, scores: Scores) -> None:
        position, steps = self.state.position, self.sampler.steps
        row = epoch_row(
            position.epoch + 1,
            scores,
            self.card.class_names,
            loss=position.loss_sum / steps,
            lr=learning_rate(self.state.optimizer),
            seconds_per_step=position.seconds / steps,
            images_per_second=len(self.train_set) / position.seconds,
            waiting_share=position.waited / position.seconds,
        )
        improved = scores.miou > position.best_miou
        position.history.append(row)
        position.epoch, position.step = position.epoch + 1, 0
        position.loss_sum = position.seconds = position.waited = 0.0
        if improved:
            position.best_miou, position.best_epoch = scores.miou, position.epoch
            if self.processes.is_main:
                self.state.save_model(self.folder.best, scores)
        if self.processes.is_main:  # killed after the last checkpoint, nobody would write it
            self.folder.write_history(position.history)
        every = self.config.checkpoint.every.epochs
        if self.is_finished or (every and position.epoch % every == 0):
            self._write_checkpoint()
        line = epoch_line(row, scores, self.card.class_names, self.config.train.epochs)
        self.console.say(line + ("  best so far" if improved else ""))
        self._hint_at_waiting(row["waiting_share"])
        if self.processes.is_main:
            self._draw()
            self.board.write(row)
        if self._must_stop() and not self.is_finished:
            self._save()

    def _hint_at_waiting(self, share: float) -> None:
        """Say once that the data are too slow; the first epoch warms up."""
        if share > MUCH_WAITING and self.state.position.epoch == 2:
            self.console.say(
                f"    {share:.0%} of the time went into waiting for data: raise data.workers, try "
                "data.cache=ram, or see tools/benchmark.py data"
            )

    def _draw(self) -> None:
        """Draw curves and samples, now and then while epochs are short, and in the end."""
        if not self.is_finished and time.monotonic() - self.drawn < PICTURES_EVERY_S:
            return
        history = self.state.position.history
        draw_curves(self.folder.path / "curves.png", history, self.card)
        shown = min(self.config.train.samples, len(self.val_set))
        if shown:
            path = self.folder.samples / f"epoch_{len(history):03}.png"
            draw_predictions(
                path,
                self.predictor,
                self.val_set,
                [i * len(self.val_set) // shown for i in range(shown)],
            )
            self.board.show(path, len(history))
        self.drawn = time.monotonic()

    def _must_stop(self) -> bool:
        """Tell whether a signal came to any process."""
        if self.processes.count > 1:
            flag = torch.tensor(float(self.stop_requested), device=self.hardware.device)
            self.stop_requested = self.processes.sum(flag).item() > 0
        return self.stop_requested

    def _save_is_due(self) -> bool:
        minutes = self.config.checkpoint.every.minutes
        if minutes is None:
            return False
        due = float(time.monotonic() - self.saved > 60 * minutes and self.processes.is_main)
        return self.processes.sum(torch.tensor(due, device=self.hardware.device)).item() > 0

    def _save(self, loss_sum: Tensor | None = None) -> None:
        """Save where we are, and leave if a signal came."""
        if loss_sum is not None:
            total = self.processes.sum(loss_sum.clone())
            self.state.position.loss_sum = total.item()
        self._write_checkpoint()
        if self.stop_requested:
            raise Stopped

    def _write_checkpoint(self) -> None:
        self.state.save(self.folder.last)
        self.saved = time.monotonic()

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """Finish the step at the first Ctrl-C or SIGTERM; a second one ends at once."""

        asked = 0.0

        def on_signal(number: int, frame: FrameType | None) -> None:
            nonlocal asked
            # torchrun passes a terminal's Ctrl-C on to processes that have had it already
            again = self.stop_requested and time.monotonic() - asked > 2
            if again or (self.stop_requested and self.processes.count == 1):
                raise KeyboardInterrupt
            if not self.stop_requested:
                self.stop_requested, asked = True, time.monotonic()

        before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _sampler(
        self, dataset: SegmentationDataset, accumulate: int, shuffle: bool
    ) -> EpochBatches:
        return EpochBatches(
            len(dataset),
            self.config.data.batch_size,
            seed=self.config.seed,
            shuffle=shuffle,
            rank=self.processes.rank,
            count=self.processes.count,
            accumulate=accumulate,
        )

    def _loader(self, dataset: SegmentationDataset, sampler: EpochBatches) -> Loader:
        on_cuda = self.hardware.device.type == "cuda"
        return make_loader(dataset, sampler, self.config.data.workers, pin_memory=on_cuda)


def _look_at_data(config: Config, card: Card) -> None:
    """Read every mask and what is to be computed of the data, or remember that one has."""
    config = resolve_statistics(config, card)
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "none"})})
    sets = [
        build_dataset(config, card, config.data.train_split, augment=True),
        build_dataset(config, card, config.data.val_split, augment=False),
    ]
    try:
        for dataset in sets:
            survey(dataset)
    except UserError as error:
        command = ["python", "tools/check_data.py", config.data.card]
        command += ["--set", f"root={config.data.root}"] if config.data.root else []
        raise UserError(f"{error}\nall there is to say: {shlex.join(command)}") from error
