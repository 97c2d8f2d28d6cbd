"""The range test: its rule against NumPy on known curves, and what it does to a training."""

import math

import numpy as np
import pytest
import torch

from segkit.benchmark import lr_range as range_test
from segkit.benchmark.lr_range import find_lr, running_mean, suggest
from segkit.config import load_config
from segkit.data.epoch_batches import EpochBatches
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware
from segkit.training.state import TrainingState
from segkit.training.step import NonFinite, Step

SGD = {"name": "sgd", "lr": 0.1}


# The rule


def curve(rates, middle, bottom=0.3, width=0.4, blow_up=None):
    """A loss that falls from 1 to `bottom` around the rate `middle`, and explodes later."""
    decades = np.log10(rates / middle)
    losses = bottom + (1 - bottom) / (1 + np.exp(decades / width * 4))
    if blow_up:
        losses = losses + np.exp(4 * np.log(rates / blow_up))
    return losses


@pytest.mark.parametrize("window", [2, 3, 10])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_running_mean_weighs_by_age(count, window):
    losses = np.random.default_rng(count).uniform(0, 3, count)
    weights = (1 - 1 / window) ** np.subtract.outer(np.arange(count), np.arange(count))
    weights = np.tril(weights)
    expected = (weights @ losses) / weights.sum(axis=1)
    np.testing.assert_allclose(running_mean(losses, window), expected, rtol=1e-12)


@pytest.mark.parametrize("window", [4, 10, 20])
@pytest.mark.parametrize("middle", [1e-4, 1e-3, 1e-2])
def test_the_suggestion_is_where_the_steepest_descent_begins(middle, window):
    rates = np.geomspace(1e-6, 1, 121)  # twenty steps a decade
    smoothed = curve(rates, middle, blow_up=0.5)
    # the curve is symmetric around its middle, so the best window is, too
    expected = middle * 10 ** (-window / 2 / 20)
    found = suggest(rates.tolist(), smoothed.tolist(), window)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_suggestion_agrees_with_a_plain_search(seed):
    rng = np.random.default_rng(seed)
    rates = np.geomspace(1e-5, 10, int(rng.integers(12, 80)))
    window = int(rng.integers(2, 6))
    smoothed = curve(rates, 10 ** rng.uniform(-3, 0)) + rng.normal(0, 0.02, len(rates))
    lowest = min(range(window - 1, len(rates)), key=lambda i: smoothed[i])
    falls = {
        smoothed[i] - smoothed[i + window]: rates[i] for i in range(window - 1, lowest - window + 1)
    }
    assert suggest(rates.tolist(), smoothed.tolist(), window) == falls[max(falls)]


def test_one_lucky_batch_does_not_move_it_far():
    rates = np.geomspace(1e-6, 1, 100)
    losses = curve(rates, 1e-2, width=2)
    calm = suggest(rates.tolist(), running_mean(losses, 10), 10)
    losses[30] *= 0.5  # among rates that hardly change anything
    assert 0.5 < suggest(rates.tolist(), running_mean(losses, 10), 10) / calm < 2


def test_a_rise_after_the_minimum_is_not_searched():
    rates = np.geomspace(1e-6, 1, 60)
    smoothed = np.concatenate([np.linspace(1, 0.5, 30), np.full(15, 4.0), np.linspace(4, 1, 15)])
    assert suggest(rates.tolist(), smoothed.tolist(), 6) <= rates[29]


@pytest.mark.parametrize(
    "smoothed",
    [
        [],
        [1.0],
        [1.0] * 50,
        list(np.linspace(1, 5, 50)),
        list(np.linspace(1, 0.91, 50)),
        [9.0, 5.0, *[1.0] * 48],  # falls only before it is known where the loss starts
        [0.0] * 50,
    ],
    ids=["none", "one", "flat", "rising", "by 9 %", "at once", "zero"],
)
def test_without_a_fall_there_is_no_suggestion(smoothed):
    rates = np.geomspace(1e-6, 1, 50).tolist()
    assert suggest(rates, smoothed, 5) is None


def test_a_fall_of_more_than_a_tenth_is_enough():
    rates = np.geomspace(1e-6, 1, 50).tolist()
    known = [*[1.0] * 20, *np.linspace(1, 0.89, 30)]
    assert suggest(rates, known, 5) in rates[15:]
    assert suggest(rates, [1, 1, 1, 1, 1, 0.8, *[2.0] * 44], 5) == rates[4]  # in a single step


# The test


def run(path, *settings, steps=10):
    config = load_config(path, list(settings))
    hardware = choose_hardware("cpu", config.precision)
    return find_lr(Experiment.from_config(config, hardware), steps)


@pytest.fixture
def steps_taken(monkeypatch):
    """Note learning rates by group, file names and the encoder's state of each step; take it."""
    taken = []
    call = Step.__call__

    def noting(self, parts):
        groups = self.state.optimizer.param_groups
        frozen = not any(p.requires_grad for p in self.state.model.encoder.parameters())
        names = [part.names for part in parts]
        taken.append(([group["lr"] for group in groups], names, frozen))
        return call(self, parts)

    monkeypatch.setattr(Step, "__call__", noting)
    return taken


@pytest.mark.parametrize(
    ("optimizer", "low", "high"),
    [
        ({"name": "adamw", "lr": 3e-3, "encoder_lr_factor": 0.1}, 1e-6, 1),
        ({**SGD, "encoder_lr_factor": 3.0}, 1e-5, 10),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_rise_geometrically_over_trainings_batches(
    optimizer, low, high, accumulate, tiny_config, steps_taken
):
    path = tiny_config(
        {
            "train.optimizer": optimizer,
            "train.accumulate": accumulate,
            "train.schedule": {"name": "onecycle"},  # to be ignored
            "train.freeze_encoder_epochs": 1,
        }
    )
    test = run(path, steps=12)
    assert len(steps_taken) == 12
    assert len(test.losses) == len(test.smoothed) == len(test.rates)
    expected = [low * (high / low) ** (step / 11) for step in range(12)]
    np.testing.assert_allclose(test.rates, expected[: len(test.rates)])

    groups = steps_taken[0][0]
    assert len(groups) == 4  # encoder and rest, with and without decay
    factors = {1.0, optimizer["encoder_lr_factor"]}
    for rate, (by_group, _, frozen) in zip(expected, steps_taken, strict=True):
        assert {round(float(lr / rate), 9) for lr in by_group} == factors
        assert not frozen

    # in the order of training's first epochs
    sampler = EpochBatches(6, 2, seed=0, accumulate=accumulate)
    names = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        batches = iter(sampler)
        for step in range(sampler.steps):
            keys = [next(batches) for _ in range(sampler.batches_in(step))]
            names.append([[f"train_{index}" for _, index in batch] for batch in keys])
    assert [step[1] for step in steps_taken] == names[:12]
    assert max(len(parts) for parts in names) == accumulate


@pytest.fixture
def scripted(monkeypatch):
    """Have the steps give these losses; None is a step that was refused."""

    def script(losses):
        remaining = iter(losses)

        def call(self, parts):
            loss = next(remaining)
            self.state.schedule.step()
            if loss is None:
                raise NonFinite([], torch.tensor(float("nan")))
            return torch.tensor(loss)

        monkeypatch.setattr(Step, "__call__", call)

    return script


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_it_stops_where_the_loss_is_far_above_the_best(tiny_config, scripted):
    rng = np.random.default_rng(0)
    losses = [*np.linspace(2, 0.5, 40), *(0.5 * 1.08 ** np.arange(60))] * rng.uniform(0.9, 1.1, 100)
    scripted(losses.tolist())
    test = run(tiny_config(), steps=100)
    mean = np.array([np.average(losses[: n + 1], weights=0.9 ** np.arange(n, -1, -1))
                     for n in range(100)])  # fmt: skip
    best = np.minimum.accumulate(mean[9:])
    stop = 9 + int(np.argmax(mean[9:] > 4 * best))
    assert 45 < stop < 99
    assert test.diverged
    assert len(test.losses) == stop + 1
    np.testing.assert_allclose(test.smoothed, mean[: stop + 1], rtol=1e-5)
    assert test.suggestion in test.rates[9:40]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
@pytest.mark.parametrize("end", [None, math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(end, tiny_config, scripted):
    scripted([2.0, 2.0, 1.5, 1.2, 1.0, end])
    test = run(tiny_config())
    assert test.losses == pytest.approx([2.0, 2.0, 1.5, 1.2, 1.0])
    assert test.diverged
    assert test.suggestion == test.rates[1]  # smoothed: 2, 2, 1.71, 1.44, 1.21
    scripted([end])
    assert run(tiny_config()) == ([], [], [], None, True)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_the_first_losses_do_not_end_it(tiny_config, scripted):
    scripted([0.0, 2.0, *[2.0] * 98])  # as of an image without a valid pixel
    test = run(tiny_config(), steps=100)
    assert (len(test.losses), test.diverged, test.suggestion) == (100, False, None)


@pytest.mark.parametrize("steps", [-1, 0, 9])
def test_few_steps_are_refused_at_once(steps, tiny_config, monkeypatch):
    monkeypatch.setattr(range_test, "TrainingState", None)
    with pytest.raises(UserError, match=f"{steps} steps are too few .* take 10 or more"):
        run(tiny_config(), steps=steps)


def final_loss(path, folder, lr, steps=20):
    """The loss at the end of a short training at a learning rate; inf where there is none."""
    config = load_config(path, [f"train.optimizer.lr={lr}", f"run_dir={folder}"])
    hardware = choose_hardware("cpu", config.precision)
    experiment = Experiment.from_config(config, hardware)
    loader = experiment.train_loader()
    step = Step(TrainingState(experiment, loader.sampler), experiment)
    step.begin_epoch(0)
    losses = []
    try:
        while len(losses) < steps:
            losses += [step([batch]).item() for batch in loader]
    except NonFinite:
        return math.inf
    return float(np.mean(losses[-6:]))


@pytest.mark.parametrize(
    ("optimizer", "far_above"),
    [
        ({"name": "adamw", "lr": 3e-3}, 100),
        pytest.param(SGD, 1000, marks=pytest.mark.slow),  # it learns rectangles at 2.0, too
    ],
    ids=["adamw", "sgd"],
)
def test_the_suggestion_trains_better_than_far_off(optimizer, far_above, tiny_config, tmp_path):
    settings = {
        "train.optimizer": optimizer,
        "model.encoder": {"name": "vgg11", "width": 0.125},  # batch norm would bear any rate
        "model.decoder": {"name": "unet", "widths": [8, 8, 8, 8], "norm": "group"},
    }
    path = tiny_config(settings)
    suggestion = run(path, steps=60).suggestion
    low, good, high = (
        final_loss(path, tmp_path / f"run_{factor}", suggestion * factor)
        for factor in (0.01, 1, far_above)
    )
    assert good < 0.5 * low
    assert good < 0.5 * high
