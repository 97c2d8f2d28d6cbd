"""How fast data come, and whether a training step has to wait for them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import cv2
import torch

from segkit.config import Config
from segkit.data import Batch, Card
from segkit.data.loader import worker_errors
from segkit.hardware import Hardware
from segkit.training.loop import Trainer

ROUNDS = 3  # each speed is the median of so many, taken in turns
SECONDS = 8.0  # of a round
SAMPLES = 48  # decoded and transformed over and over


class DataSpeed(NamedTuple):
    """Samples a second.

    Args:
        decode: reading image and mask, on one core.
        augment: transforming decoded samples, on one core.
        loader: of batches, with the configured workers and nothing else running.
        step: training steps on one batch over and over.
        training: steps on what the loader brings.
    """

    decode: float
    augment: float
    loader: float
    step: float
    training: float


def measure_data(config: Config, card: Card, hardware: Hardware) -> DataSpeed:
    """Measure an experiment's data path; leaves nothing behind.

    Raises:
        UserError: whatever training would refuse.
    """
    with tempfile.TemporaryDirectory() as folder, worker_errors():
        config = without_weights(config).model_copy(update={"run_dir": f"{folder}/run"})
        trainer = Trainer(config, card, hardware)
        trainer.step.begin_epoch(0)
        dataset = trainer.train_set
        indices = range(min(SAMPLES, len(dataset)))
        decoded = [dataset.read(index) for index in indices]
        stream = trainer.endless()
        first = next(stream)

        def decode() -> int:
            for index in indices:
                dataset.decode(index)
            return len(indices)

        def augment() -> int:
            for index in indices:
                dataset.transform(*decoded[index], 1, index)
            return len(indices)

        def step(parts: list[Batch]) -> int:
            trainer.step(parts)
            if hardware.device.type == "cuda":
                torch.cuda.synchronize()
            return _images(parts)

        measures: dict[str, Callable[[], float]] = {
            "decode": lambda: _on_one_core(decode),
            "augment": lambda: _on_one_core(augment),
            "loader": lambda: _rate(lambda: _images(next(stream)), SECONDS),
            "step": lambda: _rate(lambda: step(first), SECONDS),
            "training": lambda: _rate(lambda: step(next(stream)), SECONDS),
        }
        rounds = [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]
    return DataSpeed(*(median(one[name] for one in rounds) for name in DataSpeed._fields))


def without_weights(config: Config) -> Config:
    """Leave pretrained weights out: a step is as fast without, and nothing is downloaded."""
    encoder = config.model.encoder.model_copy(update={"weights": None})
    model = config.model.model_copy(update={"encoder": encoder})
    return config.model_copy(update={"model": model})


def _images(parts: list[Batch]) -> int:
    return sum(len(part.names) for part in parts)


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Give the samples a second of calls that each do as many as they return."""
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
