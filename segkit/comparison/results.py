"""What each contestant costs and brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segkit.benchmark.step_speed import measure_costs
from segkit.comparison.contestants import Contestant
from segkit.data.transforms import output_size
from segkit.errors import UserError
from segkit.evaluation import Results, summarize_evaluation
from segkit.evaluation.scores import Shares
from segkit.evaluation.target import check_same_classes, evaluate_target, load_target
from segkit.experiment import Experiment
from segkit.hardware import DeviceName, Hardware
from segkit.model import build_model
from segkit.summary import DEFAULT_SIZE, Summary, summarize


@dataclass(frozen=True)
class Compared:
    """What a contestant costs and brings.

    Args:
        summary: at the size that it trains at.
        seconds: of a training step.
        memory: bytes of a training step at the most; None where the system does not tell.
        runs: the results of each run, on the same images.
    """

    name: str
    summary: Summary
    seconds: float
    memory: int | None
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
