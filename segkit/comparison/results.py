"""What each contestant costs and brings, and whether a difference is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from segkit.comparison.contestants import Contestant
from segkit.data import make_loader
from segkit.data.loader import EpochBatches
from segkit.errors import UserError
from segkit.evaluation import Findings, evaluate, findings_of
from segkit.evaluation.intervals import Interval, percentiles
from segkit.evaluation.metrics import Shares
from segkit.evaluation.subject import check_same_classes, load_subject
from segkit.hardware import DeviceName, Hardware
from segkit.model import build_model
from segkit.summary import Summary, summarize, training_size
from segkit.training.benchmark_step import measure_costs

DEFAULT_SIZE = (224, 224)  # for MACs, where no crop or resize says what training sees


@dataclass(frozen=True)
class Result:
    """What a contestant costs and brings.

    Args:
        name: of the contestant.
        summary: parameters, MACs and receptive field, at the size that it trains at.
        seconds: of a training step.
        memory: bytes of a training step at the most.
        runs: what was found of each run, on the same images.
    """

    name: str
    summary: Summary
    seconds: float
    memory: int
    runs: list[Findings]

    def values(self, headline: str) -> Shares:
        """Give a headline figure of each run."""
        return np.array([run.headlines[headline].value for run in self.runs])

    def mean(self, headline: str) -> float:
        """Give the mean of a headline figure over the runs."""
        return float(self.values(headline).mean())

    def class_iou(self) -> Shares:
        """Give the IoU of each class in each run, `(runs, num_classes)`."""
        return np.array([run.scores.iou for run in self.runs])


def judge(
    contestants: Sequence[Contestant],
    split: str | None,
    device: DeviceName,
    hardware: Hardware,
    block: int | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[Result]:
    """Evaluate all runs on the same images and measure what the contestants cost.

    Args:
        contestants: with their runs.
        split: to judge on; None: the validation split.
        device: to evaluate on.
        hardware: to measure training steps on.
        block: images drawn together for intervals; None: as the card suggests.
        on_step: told what is done next.

    Raises:
        UserError: other classes or other images.
    """
    first = contestants[0]
    for other in contestants[1:]:
        check_same_classes(other.card, first.card, other.name, first.name)
    found: dict[str, list[Findings]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for contestant in contestants:
        found[contestant.name] = []
        for checkpoint in contestant.checkpoints:
            on_step(f"evaluating {checkpoint}")
            subject = load_subject(checkpoint, split, device)
            sampler = EpochBatches(
                len(subject.dataset), subject.config.data.batch_size, shuffle=False
            )
            evaluation = evaluate(
                subject.predictor,
                make_loader(subject.dataset, sampler, subject.config.data.workers),
                first.card.num_classes,
                boundaries=True,
                calibration=True,
            )
            names[contestant.name] = evaluation.names
            if evaluation.names != names[first.name]:
                raise UserError(
                    f"{contestant.name} and {first.name} are judged on different images, so their "
                    "difference would mean nothing; name one data set in both"
                )
            findings = findings_of(evaluation, subject.dataset.card, block)
            found[contestant.name].append(findings)
    on_step("measuring training steps")
    costs = measure_costs({c.name: (c.config, c.card) for c in contestants}, hardware)
    results = []
    for contestant in contestants:
        model = contestant.config.model
        with torch.device("meta"):
            network = build_model(model, first.card.num_classes, load_weights=False)
        size = training_size(contestant.config) or DEFAULT_SIZE
        summary = summarize(network, model.in_channels, size)
        name = contestant.name
        results.append(Result(name, summary, *costs[name], found[name]))
    return results


class Difference(NamedTuple):
    """How a contestant compares with the best one.

    Args:
        name: of the contestant.
        value: its mean less the best one's.
        interval: of 95 %, over images and runs; None for too few images.
    """

    name: str
    value: float
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """Say what the interval says."""
        if self.interval is None:
            return "too few images to tell"
        low, high = self.interval
        return "not distinguishable" if low <= 0 <= high else "worse" if high < 0 else "better"


def best(results: Sequence[Result], headline: str) -> Result:
    """Give the result of the highest mean."""
    return max(results, key=lambda result: result.mean(headline))


def differences(results: Sequence[Result], headline: str, seed: int = 0) -> list[Difference]:
    """Compare all with the one of the highest mean, which is left out.

    Paired: each bootstrap sample draws the same images for all. Runs are drawn too, as another
    seed is another model; of a single run nothing is known of that, and the interval is too narrow.

    Args:
        results: judged on the same images.
        headline: which figure.
        seed: of the draws of runs.
    """
    generator = np.random.default_rng(seed)
    first = best(results, headline)
    drawn = {result.name: _samples(result, headline, generator) for result in results}
    enough = first.runs[0].headlines[headline].interval is not None
    return [
        Difference(
            other.name,
            other.mean(headline) - first.mean(headline),
            percentiles(drawn[other.name] - drawn[first.name]) if enough else None,
        )
        for other in results
        if other is not first
    ]


def _samples(result: Result, headline: str, generator: np.random.Generator) -> Shares:
    """Give the mean over drawn runs of a figure in each bootstrap sample of the images."""
    samples = np.stack([run.headlines[headline].samples for run in result.runs])  # (runs, samples)
    drawn = generator.integers(len(samples), size=samples.shape)
    means: Shares = np.take_along_axis(samples, drawn, axis=0).mean(0)
    return means
