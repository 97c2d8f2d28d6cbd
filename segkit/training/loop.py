"""The training loop: epochs of steps, validation, checkpoints; stopping and going on."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch

from segkit.checkpoint import load_checkpoint, load_weights, restore_config, save_checkpoint
from segkit.config import Config
from segkit.data import Card, SegmentationDataset, batches, make_loader
from segkit.data.loader import Batch, EpochSampler
from segkit.data.transforms import Normalize
from segkit.errors import UserError
from segkit.evaluation import evaluate
from segkit.evaluation.metrics import Scores, percent
from segkit.evaluation.pictures import draw_predictions
from segkit.hardware import Hardware
from segkit.model import build_model
from segkit.training.console import RunConsole, Ticker, clock
from segkit.training.curves import draw_curves
from segkit.training.losses import cross_entropy
from segkit.training.optim import build_optimizer, build_schedule, learning_rate
from segkit.training.resume import check_unchanged
from segkit.training.run_folder import Row, RunFolder


class Stopped(Exception):
    """A signal asked the run to stop; the last checkpoint is written."""


@dataclass
class Position:
    """How far a run has come: all of its state that is not in a torch object."""

    epoch: int = 0  # epochs finished, validation included
    step: int = 0  # steps done in the epoch after those
    loss_sum: float = 0.0  # over those steps
    best_miou: float = -1.0
    history: list[Row] = field(default_factory=list)  # one row an epoch


class Trainer:
    """Everything a run needs, wired together; `run` is the story.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: where and how precisely to compute.
        resume: go on from the run folder's last checkpoint.

    Raises:
        UserError: whatever can be found wrong before the first step.
    """

    def __init__(self, config: Config, card: Card, hardware: Hardware, resume: bool) -> None:
        self.config = config
        self.card = card
        self.hardware = hardware
        data = config.data
        if not len(data.mean) == len(data.std) == config.model.in_channels:
            raise UserError(
                f"data.mean and data.std have {len(data.mean)} and {len(data.std)} numbers, but "
                f"model.in_channels is {config.model.in_channels}; give one a channel"
            )
        self.normalize = Normalize(data.mean, data.std).to(hardware.device)
        self.train_set = self._dataset("train")
        self.val_set = self._dataset("val")
        for dataset in (self.train_set, self.val_set):
            dataset.check()
        self.sampler = EpochSampler(len(self.train_set), config.seed)
        self.train_loader = self._loader(self.train_set, self.sampler)
        self.val_loader = self._loader(self.val_set, EpochSampler(len(self.val_set), shuffle=False))
        self.steps_per_epoch = math.ceil(len(self.train_set) / data.batch_size)

        torch.manual_seed(config.seed)
        # a checkpoint brings its weights, so a resumed run downloads nothing
        self.model = build_model(config.model, card.num_classes, load_weights=not resume)
        hardware.place(self.model)
        self.optimizer = build_optimizer(self.model, config.train.optimizer)
        self.schedule = build_schedule(self.optimizer, config.train, self.steps_per_epoch)
        self.scaler = hardware.scaler()
        self.position = Position()
        self.folder = RunFolder(config, resume)
        if resume:
            self._restore()
        self.folder.write_settings(config, hardware)
        self.console = RunConsole(self.folder.path / "train.log")
        self.stop_requested = False

    def run(self) -> None:
        """Train to the last epoch, validating after each.

        Raises:
            Stopped: a signal came; what was done is saved.
        """
        with self._stopping_on_signals():
            while self.position.epoch < self.config.train.epochs:
                start = time.perf_counter()
                self._train_epoch()
                trained = time.perf_counter() - start
                self._validate(trained)

    def _train_epoch(self) -> None:
        position, train = self.position, self.config.train
        self.model.train()
        self.sampler.epoch = position.epoch
        self.sampler.skip = min(position.step * self.config.data.batch_size, len(self.train_set))
        loss_sum = torch.tensor(position.loss_sum, dtype=torch.float64, device=self.hardware.device)
        title = f"epoch {position.epoch + 1}/{train.epochs}"
        start, images = time.perf_counter(), 0
        with self.console.progress(title, self.steps_per_epoch, position.step) as ticker:
            if position.step == self.steps_per_epoch:
                return  # stopped during validation
            for groups in batches(self.train_loader):
                loss = self._step(groups)
                loss_sum += loss
                images += len(groups[0].names)
                position.step += 1
                ticker.advance()
                if ticker.due or self.stop_requested:
                    speed = images / (time.perf_counter() - start)
                    self._report(ticker, self._finite(loss), speed)
                if self.stop_requested:
                    break
        position.loss_sum = self._finite(loss_sum)
        if self.stop_requested:
            self._stop()

    def _step(self, groups: list[Batch]) -> torch.Tensor:
        """Take one optimiser step; gives the loss, still on the device."""
        if len(groups) > 1:
            sizes = " and ".join(str(tuple(g.masks.shape[-2:])) for g in groups[:2])
            raise UserError(
                f"training images of one batch differ in size, e.g. {sizes}; end "
                "data.train_transforms with a RandomCrop (pad_if_needed: true) or a Resize"
            )
        images, masks, _ = groups[0]
        pixels = self.normalize(self.hardware.load(images))
        target = masks.to(self.hardware.device, non_blocking=True).long()
        with self.hardware.autocast():
            logits = self.model(pixels)
        loss = cross_entropy(logits, target, self.config.train.loss.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.detach()

    def _report(self, ticker: Ticker, loss: float, images_per_second: float) -> None:
        position = self.position
        steps_left = (
            self.config.train.epochs - position.epoch
        ) * self.steps_per_epoch - position.step
        seconds_left = steps_left * self.config.data.batch_size / images_per_second
        ticker.note(
            f"loss {loss:.3f}  lr {learning_rate(self.optimizer):.2e}  "
            f"{images_per_second:.1f} images/s  {clock(seconds_left)} left"
        )

    def _finite(self, loss: torch.Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise UserError(
                f"the loss is {value} in epoch {self.position.epoch + 1} at step "
                f"{self.position.step}; lower train.optimizer.lr or use precision fp32; "
                "checkpoints are as they were after the last validation"
            )
        return value

    def _validate(self, trained_seconds: float) -> None:
        position = self.position
        with self.console.progress("validation", len(self.val_set)) as ticker:

            def on_batch(images: int) -> None:
                ticker.advance(images)
                if self.stop_requested:
                    self._stop()

            found = evaluate(
                self.model,
                self.val_loader,
                self.normalize,
                self.card.num_classes,
                self.hardware,
                on_batch,
            )
        scores = found.scores
        row = {
            "epoch": position.epoch + 1,
            "loss": position.loss_sum / self.steps_per_epoch,
            "lr": learning_rate(self.optimizer),
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "miou": scores.miou,
            "classes_present": scores.classes_present,
            **{f"iou/{n}": iou for n, iou in zip(self.card.class_names, scores.iou, strict=True)},
            "seconds": trained_seconds,
            "images_per_second": len(self.train_set) / trained_seconds,
        }
        improved = scores.miou > position.best_miou
        position.history.append(row)
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
        if improved:
            position.best_miou = scores.miou
            save_checkpoint(self.folder.best, self._content(asdict(scores)))
        self._save_last()
        self._tell_epoch(row, scores, improved)
        self._draw(improved)

    def _tell_epoch(self, row: Row, scores: Scores, improved: bool) -> None:
        classes = "  ".join(
            f"{name} {percent(iou)}"
            for name, iou in zip(self.card.class_names, scores.iou, strict=True)
        )
        self.console.say(
            f"epoch {row['epoch']}/{self.config.train.epochs}  loss {row['loss']:.3f}  "
            f"pixel accuracy {percent(scores.pixel_accuracy)} %  "
            f"mean accuracy {percent(scores.mean_accuracy)} %  {scores.miou_line()}"
            f"{'  best so far' if improved else ''}  "
            f"{row['images_per_second']:.1f} images/s\n    IoU: {classes}"
        )

    def _draw(self, improved: bool) -> None:
        self.folder.write_history(self.position.history)
        draw_curves(self.folder.path / "curves.png", self.position.history, self.card)
        count = min(self.config.train.samples, len(self.val_set))
        if improved and count:
            spread = [i * len(self.val_set) // count for i in range(count)]
            path = self.folder.samples / f"epoch_{self.position.epoch:03}.png"
            draw_predictions(path, self.model, self.val_set, spread, self.normalize, self.hardware)

    # -- saving and going on ------------------------------------------------------------------

    def _content(self, scores: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(),
            "card": self.card.model_dump(),
            "model": self.model.state_dict(),
            "epoch": self.position.epoch,
            "scores": scores,
        }

    def _save_last(self) -> None:
        training = {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_state": torch.get_rng_state(),
        }
        save_checkpoint(self.folder.last, {**self._content(), "training": training})

    def _restore(self) -> None:
        path = self.folder.last
        content = load_checkpoint(path)
        check_unchanged(restore_config(content, path), self.config, path)
        if content["card"]["classes"] != self.card.model_dump()["classes"]:
            raise UserError(f"{path} was trained on other classes than the card now lists")
        load_weights(self.model, content["model"], path)
        training = content["training"]
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.scaler.load_state_dict(training["scaler"])
        torch.set_rng_state(training["random_state"])
        self.position = Position(**training["position"])

    def _stop(self) -> None:
        self._save_last()
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

    def _dataset(self, split: str) -> SegmentationDataset:
        data = self.config.data
        kind = "train_transforms" if split == "train" else "eval_transforms"
        return SegmentationDataset(
            self.card,
            split,
            getattr(data, kind),
            channels=self.config.model.in_channels,
            mean=data.mean,
            seed=self.config.seed,
            where=f"data.{kind}",
        )

    def _loader(self, dataset: SegmentationDataset, sampler: EpochSampler) -> Any:
        data = self.config.data
        on_cuda = self.hardware.device.type == "cuda"
        return make_loader(dataset, sampler, data.batch_size, data.workers, pin_memory=on_cuda)
