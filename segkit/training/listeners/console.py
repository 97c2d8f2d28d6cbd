"""What a run prints: lines to the terminal and train.log, and progress."""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress
from torch import Tensor

from segkit.console import PlainColumn, PlainConsole, printable
from segkit.data.statistics import statistics_lines
from segkit.evaluation import Scores
from segkit.evaluation.scores import percent
from segkit.files import append_line
from segkit.optim import learning_rate
from segkit.training.listeners.base import Listener, Run
from segkit.training.progress import Row
from segkit.units import clock, speed

PLAIN_EVERY_S = 20  # between two progress lines where there is no terminal
MUCH_WAITING = 0.3  # share of an epoch's time; beyond it, the log has a hint


class ProgressDisplay:
    """A progress bar on a terminal, and a line now and then elsewhere."""

    def __init__(self, console: PlainConsole) -> None:
        columns = (PlainColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *columns,
            PlainColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", note="")
        self.last_note = 0.0

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Show the progress of something."""
        self.bar.stop()
        self.bar.reset(self.task, total=total, completed=done, description=title, note="")
        self.bar.start()
        self.last_note = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        self.bar.update(self.task, advance=steps)

    @property
    def should_note(self) -> bool:
        """Whether a note would be shown now; making one may cost a wait for the device."""
        return time.monotonic() - self.last_note >= (PLAIN_EVERY_S if self.bar.disable else 0.5)

    def note(self, text: str) -> str | None:
        """Show a text beside the bar; where there is no bar, return a line to print."""
        self.last_note = time.monotonic()
        self.bar.update(self.task, note=text)
        task = self.bar.tasks[0]
        done = f"{task.completed:.0f}/{task.total:.0f}"
        return f"{task.description}  {done}  {text}" if self.bar.disable else None


class ConsoleLog(Listener):
    """Prints to the terminal and, if there is one, appends to a log file."""

    def __init__(self, log: Path | None = None) -> None:
        self.file = log
        self.console = PlainConsole()
        self.display = ProgressDisplay(self.console)
        self.steps_done = 0.0  # when, by the monotonic clock
        self.validation_s = 0.0  # what came between the steps of two epochs, the last time

    def on_log(self, text: str) -> None:
        """Print a line and keep it."""
        self.console.print(text)
        if self.file is not None:
            append_line(self.file, printable(text))

    def on_start(self, trainer: Run) -> None:
        """Print what is trained, on what, and where."""
        for line in describe(trainer, None if self.file is None else self.file.parent):
            self.on_log(line)

    def on_epoch_start(self, trainer: Run) -> None:
        """Show the progress of the epoch."""
        progress = trainer.state.progress
        if self.steps_done:
            self.validation_s = time.monotonic() - self.steps_done
            self.steps_done = 0.0
        title = f"epoch {progress.epoch + 1}/{trainer.experiment.train.epochs}"
        self.display.begin(title, trainer.sampler.steps, progress.step)

    def on_step(self, trainer: Run, loss: Tensor) -> None:
        """Count the step, and note loss, speed and the time left now and then."""
        self.display.advance()
        if self.display.should_note:
            line = self.display.note(_step_note(trainer, loss.item(), self.validation_s))
            if line:
                self.on_log(line)

    def on_validation_start(self, trainer: Run) -> None:
        """Show the progress of the validation."""
        self.steps_done = time.monotonic()
        self.display.begin("validation", len(trainer.experiment.val_set))  # type: ignore[arg-type]

    def on_image(self, trainer: Run) -> None:
        """Count the image, and those of the other processes."""
        self.display.advance(trainer.experiment.processes.count)

    def on_epoch_end(self, trainer: Run, row: Row, scores: Scores | None) -> None:
        """Print the scores of the epoch."""
        self.display.bar.stop()
        experiment, progress = trainer.experiment, trainer.state.progress
        line = _epoch_line(row, scores, experiment.classes.names, experiment.train.epochs)
        best = scores is not None and progress.best_epoch == progress.epoch
        self.on_log(line + ("  best so far" if best else ""))
        if row["waiting_share"] > MUCH_WAITING and row["epoch"] == 2:  # the first one warms up
            self.on_log(
                f"    {row['waiting_share']:.0%} of the time went into waiting for data: raise "
                "data.workers, try data.cache=ram, or see segkit benchmark data"
            )

    def on_end(self, trainer: Run) -> None:
        """Remove the bar."""
        self.display.bar.stop()


def describe(trainer: Run, folder: Path | None) -> list[str]:
    """Write what is trained, on what data and device, and how far it is, a line each."""
    experiment, progress = trainer.experiment, trainer.state.progress
    config, card, train = experiment.config, experiment.card, experiment.train
    parameters = sum(p.numel() for p in experiment.model.parameters())
    name = type(experiment.model).__name__
    if config is not None:
        name = f"{config.model.decoder.name} on {config.model.encoder.name}"
    counts = f"{len(experiment.train_set)} train"  # type: ignore[arg-type]
    if config is not None and config.data.repeat > 1:
        counts += f" (each image {config.data.repeat} times)"
    if experiment.val_set is not None:
        counts += f", {len(experiment.val_set)} val"  # type: ignore[arg-type]
    data = f"{card.name}: " if card else ""
    computed: list[str] = []
    if config is not None and experiment.statistics is not None:
        computed = statistics_lines(config, experiment.statistics, experiment.classes.names)
    count = experiment.processes.count
    shared = "" if count == 1 else f", in {count} processes"
    where = f"{folder}, " if folder else ""
    return [
        f"model    {name}, {parameters:,} parameters",
        f"data     {data}{counts} images; {trainer.sampler.step_size} in a step",
        *computed,
        f"device   {experiment.hardware}{shared}",
        f"run      {where}{progress.epoch} of {train.epochs} epochs done",
        *trainer.notes,
    ]


def _step_note(trainer: Run, loss: float, validation_s: float) -> str:
    progress, sampler = trainer.state.progress, trainer.sampler
    experiment, train = trainer.experiment, trainer.experiment.train
    seconds_per_step = progress.seconds / progress.step
    steps_left = (train.epochs - progress.epoch) * sampler.steps - progress.step
    every = train.validate_every
    validations_left = -(-train.epochs // every) - progress.epoch // every
    left = clock(steps_left * seconds_per_step + validations_left * validation_s)
    may_end_early = train.patience is not None or experiment.goal < 1
    return (
        f"loss {loss:.3f}  lr {learning_rate(trainer.state.optimizer):.2e}  "
        f"{speed(sampler.step_size / seconds_per_step)}  "
        f"{'at most ' if may_end_early else ''}{left} left"
    )


def _epoch_line(row: Row, scores: Scores | None, names: tuple[str, ...], epochs: int) -> str:
    line = (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}  {speed(row['images_per_second'])}"
    )
    if scores is None:
        return line
    line += f"  val loss {row['val_loss']:.3f}"
    per_class = "  ".join(f"{n} {percent(iou)}" for n, iou in zip(names, scores.iou, strict=True))
    return (
        f"{line}  pixel accuracy {percent(scores.pixel_accuracy)} %  "
        f"mean accuracy {percent(scores.mean_accuracy)} %  {scores.miou_line()}\n"
        f"    IoU: {per_class}"
    )
