"""The learning-rate range test: the loss while the learning rate rises, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
from torch.optim.lr_scheduler import LambdaLR

from segkit.console import PlainConsole
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.training.listeners.console import ProgressDisplay
from segkit.training.state import TrainingState
from segkit.training.step import NonFinite, Step

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


def find_lr(experiment: Experiment, steps: int = 100) -> RangeTest:
    """Train at learning rates that rise geometrically; nothing is written.

    All is as in training, but for the schedule, and for an encoder that is frozen in the first
    epochs, which is trained from the start. The rates of all parameter groups keep their ratios.

    Smith (2017), Cyclical learning rates for training neural networks, section 3.3.

    Args:
        experiment: its model is trained.
        steps: from one end of the range to the other.
    """
    if steps < MIN_STEPS:
        raise UserError(f"{steps} steps are too few for a range test; take {MIN_STEPS} or more")
    train = experiment.train
    optimizer = train.optimizer
    rates = np.geomspace(*RANGES.get(optimizer.name, RANGES["adamw"]), steps).tolist()
    window = max(2, round(WINDOW * steps))
    losses: list[float] = []
    smoothed: list[float] = []
    diverged = False
    loader = experiment.train_loader()
    state = TrainingState(experiment, loader.sampler)
    factors = [rate / optimizer.lr for rate in [*rates, rates[-1]]]  # one is set after the last
    state.schedule = LambdaLR(state.optimizer, lambda step: factors[step])
    step = Step(state, experiment)
    step.begin_epoch(train.epochs - 1)
    display = ProgressDisplay(PlainConsole())
    display.begin("range test", steps)
    endless = chain.from_iterable(map(loader.steps, count()))  # epoch after epoch
    for batches in islice(endless, steps):
        try:
            loss = step(batches).item()
        except NonFinite:
            loss = math.nan
        if diverged := not math.isfinite(loss):
            break
        losses.append(loss)
        smoothed = running_mean(losses, window)
        if diverged := smoothed[-1] > DIVERGED * min(smoothed[window - 1 :], default=math.inf):
            break
        display.advance()
        if display.should_note:
            display.note(f"lr {rates[len(losses) - 1]:.1e}  loss {loss:.3f}")
    display.bar.stop()
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
    """Return the rate from which on the smoothed loss falls most within a window.

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
