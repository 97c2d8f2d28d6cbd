"""How fast data come, and whether a training step has to wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, count
from statistics import median
from typing import NamedTuple

import cv2

from segkit.data.batch import Batch
from segkit.data.dataset import SegmentationDataset
from segkit.experiment import Experiment
from segkit.training.state import TrainingState
from segkit.training.step import Step

ROUNDS = 3  # each speed is the median of so many, taken in turns
SECONDS = 8.0  # of a round
SAMPLES = 48  # decoded and transformed over and over


class DataSpeed(NamedTuple):
    """Samples a second."""

    decode: float  # reading image and mask, on one core
    augment: float  # transforming decoded samples, on one core
    loader: float  # of batches, with the configured workers and nothing else running
    step: float  # training steps on one batch over and over
    training: float  # steps on what the loader brings


def measure_data(experiment: Experiment) -> DataSpeed:
    """Measure an experiment's data path; nothing is written."""
    loader = experiment.train_loader()
    train_step = Step(TrainingState(experiment, loader.sampler), experiment)
    train_step.begin_epoch(0)
    dataset: SegmentationDataset = experiment.train_set  # type: ignore[assignment]
    indices = range(min(SAMPLES, len(dataset)))
    decoded = [dataset.reader.read(index) for index in indices]
    stream = chain.from_iterable(map(loader.steps, count()))  # epoch after epoch
    first = next(stream)

    def decode() -> int:
        for index in indices:
            dataset.reader.decode(index)
        return len(indices)

    def augment() -> int:
        for index in indices:
            dataset.transform(*decoded[index], 1, index)
        return len(indices)

    def step(batches: list[Batch]) -> int:
        train_step(batches)
        experiment.hardware.synchronize()
        return _images(batches)

    measures: dict[str, Callable[[], float]] = {
        "decode": lambda: _on_one_core(decode),
        "augment": lambda: _on_one_core(augment),
        "loader": lambda: _rate(lambda: _images(next(stream)), SECONDS),
        "step": lambda: _rate(lambda: step(first), SECONDS),
        "training": lambda: _rate(lambda: step(next(stream)), SECONDS),
    }
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]
    return DataSpeed(*(median(one[name] for one in rounds) for name in DataSpeed._fields))


def _images(batches: list[Batch]) -> int:
    return sum(len(batch.names) for batch in batches)


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Return the samples a second of calls that each do as many as they return."""
    work()  # the first call may pay for others
    samples, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        samples += work()
    return samples / spent


def _on_one_core(work: Callable[[], int]) -> float:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _rate(work, SECONDS / 4)
    finally:
        cv2.setNumThreads(threads)
