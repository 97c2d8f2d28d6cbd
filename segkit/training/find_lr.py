"""The learning-rate range test: the loss while the learning rate rises, and what follows."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.optim.lr_scheduler import LambdaLR

from segkit.config import Config
from segkit.data import Card
from segkit.data.loader import worker_errors
from segkit.errors import UserError
from segkit.hardware import Hardware
from segkit.training.loop import Trainer
from segkit.training.step import NonFinite

RANGES = {"sgd": (1e-5, 10.0), "adam": (1e-6, 1.0), "adamw": (1e-6, 1.0)}
MIN_STEPS = 10
WINDOW = 0.1  # of the steps: the reach of the running mean, and of a slope
DIVERGED = 4.0  # times the best smoothed loss
FALL = 0.1  # of the loss at the start; to fall by less may be noise


class RangeTest(NamedTuple):
    """What a range test has found."""

    rates: list[float]  # as in `train.optimizer.lr`, one a step, until the loss diverged
    losses: list[float]  # of these steps
    smoothed: list[float]  # their running mean
    suggestion: float | None  # one of the rates; None where the loss does not fall
    diverged: bool  # or else came to the end of the range


def find_lr(config: Config, card: Card, hardware: Hardware, steps: int = 100) -> RangeTest:
    """Train at learning rates that rise geometrically; leaves nothing behind.

    All is as in training, but for the schedule, and for an encoder that is frozen in the first
    epochs, which is trained from the start. The rates of all parameter groups keep their ratios.

    Smith (2017), Cyclical learning rates for training neural networks, section 3.3.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: to compute on.
        steps: from one end of the range to the other.

    Raises:
        UserError: too few steps, or whatever training would refuse.
    """
    if steps < MIN_STEPS:
        raise UserError(f"{steps} steps are too few for a range test; take {MIN_STEPS} or more")
    optimizer = config.train.optimizer
    rates = np.geomspace(*RANGES[optimizer.name], steps).tolist()
    window = max(2, round(WINDOW * steps))
    losses: list[float] = []
    smoothed: list[float] = []
    diverged = False
    with tempfile.TemporaryDirectory() as folder, worker_errors():
        train = config.train.model_copy(update={"tensorboard": False})
        config = config.model_copy(update={"train": train, "run_dir": f"{folder}/run"})
        trainer = Trainer(config, card, hardware)
        factors = [rate / optimizer.lr for rate in [*rates, rates[-1]]]  # one is set after the last
        trainer.state.schedule = LambdaLR(trainer.state.optimizer, lambda step: factors[step])
        trainer.step.begin_epoch(config.train.epochs - 1)
        stream = trainer.endless()
        with trainer.console.progress("range test", steps) as ticker:
            while len(losses) < steps and not diverged:
                try:
                    loss = trainer.step(next(stream)).item()
                except NonFinite:
                    loss = math.nan
                if diverged := not math.isfinite(loss):
                    break
                losses.append(loss)
                smoothed = running_mean(losses, window)
                diverged = smoothed[-1] > DIVERGED * min(smoothed[window - 1 :], default=math.inf)
                ticker.advance()
                if ticker.due:
                    ticker.note(f"lr {rates[len(losses) - 1]:.1e}  loss {loss:.3f}")
    rates = rates[: len(losses)]
    return RangeTest(rates, losses, smoothed, suggest(rates, smoothed, window), diverged)


def running_mean(losses: Sequence[float], window: int) -> list[float]:
    """Average exponentially, by a decay of 1 - 1 / window, corrected for the start at zero."""
    decay, mean, means = 1 - 1 / window, 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = decay * mean + (1 - decay) * loss
        means.append(mean / (1 - decay**step))
    return means


def suggest(rates: Sequence[float], smoothed: Sequence[float], window: int) -> float | None:
    """Give the rate from which on the smoothed loss falls most within a window.

    That is its steepest descent over the logarithm of the rate, as fastai's `steep` and
    Lightning's `lr_find` take it, but not between two steps, of which chance decides; and the
    beginning of the descent, since a running mean is late.

    Returns:
        None where the smoothed loss does not fall by `FALL` of what it is after a window.
    """
    known = np.array(smoothed[window - 1 :])
    if len(known) == 0 or known.min() >= (1 - FALL) * known[0]:
        return None
    lowest = int(known.argmin())
    reach = min(window, lowest)
    falls = known[: lowest + 1 - reach] - known[reach : lowest + 1]
    return rates[window - 1 + int(falls.argmax())]


def draw_range_test(path: Path, test: RangeTest, configured: float, title: str) -> None:
    """Draw the losses over the learning rate."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.semilogx(test.rates, test.losses, color="tab:blue", alpha=0.35, label="loss")
    axis.semilogx(test.rates, test.smoothed, color="tab:blue", label="smoothed")
    if test.suggestion:
        axis.axvline(test.suggestion, color="tab:red", label=f"suggested: {test.suggestion:.1e}")
    axis.axvline(configured, color="0.4", linestyle="--", label=f"configured: {configured:.1e}")
    if test.losses:  # what diverges may leave the picture
        lowest = int(np.argmin(test.smoothed))
        axis.set_ylim(0, 1.2 * max(test.losses[: lowest + 1]))
    axis.set(title=title, xlabel="learning rate", ylabel="loss")
    axis.grid(alpha=0.3)
    axis.legend(edgecolor="none")
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
