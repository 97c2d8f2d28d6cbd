"""What each contestant costs and brings, and whether a difference is more than chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri, stdtrit

from segkit.benchmark.step_speed import measure_costs
from segkit.comparison.contestants import Contestant
from segkit.data.transforms import output_size
from segkit.errors import UserError
from segkit.evaluation import Results, summarize_evaluation
from segkit.evaluation.intervals import LEVEL, Interval, percentiles
from segkit.evaluation.scores import Shares
from segkit.evaluation.target import check_same_classes, evaluate_target, load_target
from segkit.experiment import Experiment
from segkit.hardware import DeviceName, Hardware
from segkit.model import build_model
from segkit.summary import DEFAULT_SIZE, Summary, summarize

MIN_RUNS = 3  # of a model; from 2, an interval may hold the truth only 80 % of the time


@dataclass(frozen=True)
class Compared:
    """What a contestant costs and brings.

    Args:
        summary: at the size that it trains at.
        seconds: of a training step.
        memory: bytes of a training step at the most.
        runs: the results of each run, on the same images.
    """

    name: str
    summary: Summary
    seconds: float
    memory: int
    runs: list[Results]

    def values(self, headline: str) -> Shares:
        """Return a headline figure of each run."""
        return np.array([run.headlines[headline].value for run in self.runs])

    def mean(self, headline: str) -> float:
        """Return the mean of a headline figure over the runs."""
        return float(self.values(headline).mean())


def compare_models(
    contestants: Sequence[Contestant],
    split: str | None,
    device: DeviceName,
    hardware: Hardware,
    block: int | None = None,
    on_step: Callable[[str], None] = lambda what: None,
    data_root: str | None = None,
) -> list[Compared]:
    """Evaluate all runs on the same images and measure what the contestants cost.

    Args:
        contestants: with their runs.
        split: to evaluate on; None: the validation split.
        device: to evaluate on.
        hardware: to measure training steps on.
        block: images drawn together for intervals; None: as the card suggests.
        on_step: called with a line on what is done next.
        data_root: folder of the data; None: where each contestant says.
    """
    first, *others = contestants
    for other in others:
        check_same_classes(other.card, first.card, other.name, first.name)
    # one for all, also where some checkpoints are older than what the card says now
    foreground = next((c.card.foreground for c in contestants if c.card.foreground), None)
    found: dict[str, list[Results]] = {contestant.name: [] for contestant in contestants}
    names: tuple[str, ...] = ()
    for contestant in contestants:
        for checkpoint in contestant.checkpoints:
            on_step(f"evaluating {checkpoint}")
            target = load_target(checkpoint, split, device, data_root=data_root)
            evaluation = evaluate_target(target)
            names = names or evaluation.names
            if evaluation.names != names:
                raise UserError(
                    f"{contestant.name} and {first.name} are judged on different images, so their "
                    "difference would mean nothing; name one data set in both"
                )
            card = target.dataset.card
            results = summarize_evaluation(
                evaluation, card.class_names, card.sequences, block, foreground=foreground
            )
            found[contestant.name].append(results)
    on_step("measuring training steps")
    experiments = {
        c.name: Experiment.from_config(c.config, hardware, load_weights=False) for c in contestants
    }
    costs = measure_costs(experiments)
    compared = []
    for contestant in contestants:
        model = contestant.config.model
        with torch.device("meta"):
            network = build_model(model, first.card.num_classes, load_weights=False)
        size = output_size(contestant.config.data.train_transforms) or DEFAULT_SIZE
        summary = summarize(network, model.in_channels, size)
        name = contestant.name
        compared.append(Compared(name, summary, *costs[name], found[name]))
    return compared


class Difference(NamedTuple):
    """How much less a contestant's mean is than the best one's.

    Args:
        name: of the contestant.
        value: share of one.
        interval: of 95 %; None for too few images or runs.
        verdict: what the interval says, or what there is too little of, in words.
    """

    name: str
    value: float
    interval: Interval | None
    verdict: str


def best(results: Sequence[Compared], headline: str) -> Compared:
    """Return the result of the highest mean."""
    return max(results, key=lambda result: result.mean(headline))


def differences(results: Sequence[Compared], headline: str, seed: int = 0) -> list[Difference]:
    """Compare all with the one of the highest mean, which is left out.

    Paired: each bootstrap sample draws the same images for all. Runs are drawn too, as another
    seed is another model; `widening` makes up for how few they are. There is no interval from
    fewer than `MIN_BLOCKS` blocks of images or `MIN_RUNS` runs of either model, except that a
    single run of each is compared by images alone: as these two, not as what they are runs of.
    """
    generator = np.random.default_rng(seed)
    first = best(results, headline)
    drawn = {result.name: _samples(result, headline, generator) for result in results}
    enough_images = first.runs[0].headlines[headline].interval is not None
    found = []
    for other in results:
        if other is first:
            continue
        runs = len(first.runs), len(other.runs)
        interval = None
        if not enough_images:
            verdict = "too few images to tell"
        elif runs != (1, 1) and min(runs) < MIN_RUNS:
            verdict = "too few runs to tell"
        else:
            interval = percentiles(drawn[other.name] - drawn[first.name])
            verdict = _verdict(interval) + (" (these two runs alone)" if runs == (1, 1) else "")
        value = other.mean(headline) - first.mean(headline)
        found.append(Difference(other.name, value, interval, verdict))
    return found


def _verdict(interval: Interval) -> str:
    low, high = interval
    return "not distinguishable" if low <= 0 <= high else "worse" if high < 0 else "better"


def _samples(result: Compared, headline: str, generator: np.random.Generator) -> Shares:
    """Return the mean over drawn runs of a figure in each bootstrap sample of the images."""
    samples = np.stack([run.headlines[headline].samples for run in result.runs])  # (runs, samples)
    drawn = generator.integers(len(samples), size=samples.shape)
    mean = samples.mean(0)
    deviation = np.take_along_axis(samples, drawn, axis=0).mean(0) - mean
    return mean + widening(len(samples)) * deviation


def widening(runs: int) -> float:
    """Return how much further from their mean drawn runs must lie for an interval to be of 95 %.

    Drawn runs vary by `(runs - 1) / runs` of their true variance, which is itself a guess from few:
    Student's t for two models of so many runs. Where normally distributed runs vary more than the
    images do, the interval of a difference then holds the truth 94 to 96 % of the time. If the runs
    of one model do not vary at all, it is 80 % for 2 runs, 89 % for 3 and 90 % for 4.
    """
    if runs == 1:
        return 1.0  # it does not deviate
    student = stdtrit(2 * (runs - 1), (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2)
    return float(student * math.sqrt(runs / (runs - 1)))
