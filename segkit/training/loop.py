"""The training loop: epochs of steps, a validation after each, and stopping on demand."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

from segkit.config import Config
from segkit.data import Batch, Card, SegmentationDataset, batches, build_dataset, make_loader
from segkit.data.loader import EpochSampler, Loader, worker_errors
from segkit.data.statistics import resolve_statistics
from segkit.data.survey import survey
from segkit.data.transforms import build_normalize
from segkit.errors import UserError
from segkit.evaluation import evaluate
from segkit.evaluation.pictures import draw_predictions
from segkit.hardware import Hardware
from segkit.training.console import RunConsole, clock
from segkit.training.curves import draw_curves
from segkit.training.history import epoch_line, epoch_row
from segkit.training.losses import cross_entropy
from segkit.training.optim import learning_rate
from segkit.training.run_folder import RunFolder
from segkit.training.state import TrainingState

PICTURES_EVERY_S = 20


class Stopped(Exception):
    """A signal asked the run to stop; the last checkpoint is written."""


class Trainer:
    """A run: data, state and folder wired together, and the loop over them.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: where and how precisely to compute.
        resume: go on from the run folder's last checkpoint.

    Raises:
        UserError: whatever can be found wrong before the first step.
    """

    def __init__(self, config: Config, card: Card, hardware: Hardware, resume: bool) -> None:
        self.folder = RunFolder(config, resume)
        self.config = config = resolve_statistics(config, card)
        self.card = card
        self.hardware = hardware
        self.normalize = build_normalize(config).to(hardware.device)
        self.train_set = build_dataset(config, card, config.data.train_split, augment=True)
        self.val_set = build_dataset(config, card, config.data.val_split, augment=False)
        for dataset in (self.train_set, self.val_set):
            survey(dataset)
        weights = config.train.loss.class_weights
        self.class_weights = (
            None if weights == "none" else torch.tensor(weights, device=hardware.device)
        )
        self.sampler = EpochSampler(len(self.train_set), config.seed)
        self.train_loader = self._loader(self.train_set, self.sampler)
        self.val_loader = self._loader(self.val_set, EpochSampler(len(self.val_set), shuffle=False))
        self.steps_per_epoch = math.ceil(len(self.train_set) / config.data.batch_size)
        self.state = TrainingState(
            config, card, hardware, self.steps_per_epoch, load_weights=not resume
        )
        if resume:
            self.state.restore(self.folder.last)
        self.folder.create(config, hardware)
        self.console = RunConsole(self.folder.path / "train.log")
        self.stop_requested = False
        self.drawn = -math.inf  # when, on the clock that never goes back

    def run(self) -> None:
        """Train to the last epoch, validating after each.

        Raises:
            Stopped: a signal came; what was done is saved.
        """
        with self._stopping_on_signals(), worker_errors():
            while self.state.position.epoch < self.config.train.epochs:
                self._train_epoch()
                self._validate()

    def _train_epoch(self) -> None:
        position = self.state.position
        self.state.model.train()
        self.sampler.epoch = position.epoch
        self.sampler.skip = min(position.step * self.config.data.batch_size, len(self.train_set))
        loss_sum = torch.tensor(position.loss_sum, dtype=torch.float64, device=self.hardware.device)
        title = f"epoch {position.epoch + 1}/{self.config.train.epochs}"
        start, before = time.perf_counter(), position.seconds
        with self.console.progress(title, self.steps_per_epoch, position.step) as ticker:
            if position.step < self.steps_per_epoch:  # not so where validation was interrupted
                for groups in batches(self.train_loader):
                    loss = self.step(groups)
                    loss_sum += loss
                    position.step += 1
                    position.seconds = before + time.perf_counter() - start
                    ticker.advance()
                    if ticker.due:
                        ticker.note(self._progress_note(self._finite(loss)))
                    if self.stop_requested:
                        position.loss_sum = self._finite(loss_sum)
                        self._stop()
        position.loss_sum = self._finite(loss_sum)

    def step(self, groups: list[Batch]) -> Tensor:
        """Take one optimiser step; gives the loss, still on the device."""
        if len(groups) > 1:
            sizes = " and ".join(str(tuple(g.masks.shape[-2:])) for g in groups[:2])
            raise UserError(
                f"training images of one batch differ in size, e.g. {sizes}; end "
                "data.train_transforms with a RandomCrop (pad_if_needed: true) or a Resize"
            )
        state, batch = self.state, groups[0]
        pixels = self.normalize(self.hardware.load(batch.images))
        target = batch.masks.to(self.hardware.device, non_blocking=True).long()
        with self.hardware.autocast():
            logits = state.model(pixels)
        smoothing = self.config.train.loss.label_smoothing
        loss = cross_entropy(logits, target, smoothing, self.class_weights)
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.schedule.step()
        return loss.detach()

    def _progress_note(self, loss: float) -> str:
        position, batch_size = self.state.position, self.config.data.batch_size
        seconds_per_step = position.seconds / position.step
        epochs_left = self.config.train.epochs - position.epoch
        steps_left = epochs_left * self.steps_per_epoch - position.step
        return (
            f"loss {loss:.3f}  lr {learning_rate(self.state.optimizer):.2e}  "
            f"{batch_size / seconds_per_step:.1f} images/s  "
            f"{clock(steps_left * seconds_per_step)} left"
        )

    def _finite(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            position = self.state.position
            raise UserError(
                f"the loss is {value} in epoch {position.epoch + 1} at step {position.step}; lower "
                "train.optimizer.lr or use precision fp32; the checkpoints are those of the last "
                "validation"
            )
        return value

    def _validate(self) -> None:
        position = self.state.position
        with self.console.progress("validation", len(self.val_set)) as ticker:

            def on_batch(images: int) -> None:
                ticker.advance(images)
                if self.stop_requested:
                    self._stop()

            scores = evaluate(
                self.state.model,
                self.val_loader,
                self.normalize,
                self.card.num_classes,
                self.hardware,
                on_batch,
            ).scores
        row = epoch_row(
            position.epoch + 1,
            scores,
            self.card.class_names,
            loss=position.loss_sum / self.steps_per_epoch,
            lr=learning_rate(self.state.optimizer),
            seconds_per_step=position.seconds / self.steps_per_epoch,
            images_per_second=len(self.train_set) / position.seconds,
        )
        improved = scores.miou > position.best_miou
        position.history.append(row)
        position.epoch, position.step = position.epoch + 1, 0
        position.loss_sum, position.seconds = 0.0, 0.0
        if improved:
            position.best_miou = scores.miou
            self.state.save_model(self.folder.best, scores)
        self.state.save(self.folder.last)
        line = epoch_line(row, scores, self.card.class_names, self.config.train.epochs)
        self.console.say(line + ("  best so far" if improved else ""))
        self.folder.write_history(position.history)
        self._draw()

    def _draw(self) -> None:
        """Draw curves and samples, now and then while epochs are short, and in the end."""
        history = self.state.position.history
        finished = len(history) == self.config.train.epochs
        if not finished and time.monotonic() - self.drawn < PICTURES_EVERY_S:
            return
        draw_curves(self.folder.path / "curves.png", history, self.card)
        count = min(self.config.train.samples, len(self.val_set))
        if count:
            draw_predictions(
                self.folder.samples / f"epoch_{len(history):03}.png",
                self.state.model,
                self.val_set,
                [i * len(self.val_set) // count for i in range(count)],
                self.normalize,
                self.hardware,
            )
        self.drawn = time.monotonic()

    def _stop(self) -> None:
        self.state.save(self.folder.last)
        raise Stopped

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """Finish the step at the first Ctrl-C or SIGTERM; a second one ends at once."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt
            self.stop_requested = True

        before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loader(self, dataset: SegmentationDataset, sampler: EpochSampler) -> Loader:
        data = self.config.data
        on_cuda = self.hardware.device.type == "cuda"
        return make_loader(dataset, sampler, data.batch_size, data.workers, pin_memory=on_cuda)
