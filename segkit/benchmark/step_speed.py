"""How fast a training step is, beside the machine's convolution peak and a peer's step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.benchmark.peer import build_peer
from segkit.benchmark.timing import count_gflop, measure_memory, peak_convolution, race
from segkit.config import parse_config
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.hardware import Hardware
from segkit.labels import IGNORE_INDEX
from segkit.model import logits_of
from segkit.training.state import TrainingState
from segkit.training.step import Step


class StepSpeed(NamedTuple):
    """What a contestant needs."""

    name: str  # of the contestant
    seconds: float  # for a step
    images: float  # a second
    gflop: float  # in a step, convolutions and matrix products alone
    share: float  # of the convolution peak in bf16, as measured beside it
    memory: int | None  # bytes at the most beyond those before the model was there


def measure_step(experiment: Experiment, peer: str | None) -> tuple[list[StepSpeed], float]:
    """Measure training steps on one batch; nothing is written.

    Args:
        experiment: built from a config; a step is as fast without pretrained weights.
        peer: `smp` for segmentation_models.pytorch's Unet('vgg16') beside ours.

    Returns:
        The contestants, ours first, and the convolution peak in GFLOP/s.
    """
    names = ["segkit"] + (["smp, as it comes", "smp, our precision and layout"] if peer else [])
    hardware = experiment.hardware
    steps = {name: _contestant(name, experiment) for name in names}
    peak, peak_gflop = peak_convolution(hardware)
    times = race({**steps, "": peak}, hardware)
    rate = peak_gflop / times.pop("")
    speeds = []
    for name, work in steps.items():
        seconds, gflop = times[name], count_gflop(work)
        memory = _in_another_process(name, experiment)
        images = experiment.batch_size / seconds
        speeds.append(StepSpeed(name, seconds, images, gflop, gflop / seconds / rate, memory))
    return speeds, rate


def measure_costs(experiments: Mapping[str, Experiment]) -> dict[str, tuple[float, int | None]]:
    """Measure seconds and bytes of a training step of several experiments, in turns."""
    steps = {name: _contestant("segkit", each) for name, each in experiments.items()}
    times = race(steps, next(iter(experiments.values())).hardware)
    return {
        name: (times[name], _in_another_process("segkit", each))
        for name, each in experiments.items()
    }


def _contestant(name: str, experiment: Experiment) -> Callable[[], object]:
    """Build a function that takes one training step."""
    loader = experiment.train_loader(workers=0)
    batches = next(loader.steps(epoch=0))
    step = Step(TrainingState(experiment, loader.sampler), experiment)
    step.begin_epoch(0)
    hardware = experiment.hardware
    if name == "segkit":
        return lambda: step(batches[:1])
    pixels = batches[0].images.to(hardware.device)
    pixels = pixels if experiment.normalize is None else experiment.normalize(pixels)
    target = batches[0].masks.to(hardware.device).long()
    rate = experiment.train.optimizer.lr
    return _peer(pixels, target, experiment.num_classes, rate, hardware, fair="our" in name)


def _peer(
    pixels: Tensor, target: Tensor, num_classes: int, rate: float, hardware: Hardware, fair: bool
) -> Callable[[], object]:
    """Build the step that segmentation_models.pytorch's documentation leads to."""
    model = build_peer(pixels.shape[1], num_classes)
    side = -torch.tensor(pixels.shape[-2:]) % 32  # the peer takes multiples of 32 alone
    pixels = F.pad(pixels, (0, int(side[1]), 0, int(side[0])))
    target = F.pad(target, (0, int(side[1]), 0, int(side[0])), value=IGNORE_INDEX)
    return plain_step(model, pixels, target, rate, hardware, fair)


def plain_step(
    model: nn.Module, pixels: Tensor, target: Tensor, rate: float, hardware: Hardware, alike: bool
) -> Callable[[], object]:
    """Build a step by cross-entropy and AdamW, of a network from any toolkit.

    Args:
        model: from images to logits, in training mode.
        pixels: normalised images.
        target: class indices.
        rate: of learning.
        hardware: device and precision.
        alike: in our precision and memory layout, and not in fp32 as a network comes.
    """
    model = hardware.to_device(model) if alike else model.to(hardware.device)
    pixels = hardware.load(pixels) if alike else pixels.to(hardware.device).contiguous()
    target = target.to(hardware.device)
    optimizer = torch.optim.AdamW(model.parameters(), rate)

    def step() -> object:
        optimizer.zero_grad()
        with hardware.autocast() if alike else nullcontext():
            logits = logits_of(model(pixels))
        loss = F.cross_entropy(logits.float(), target, ignore_index=IGNORE_INDEX)
        loss.backward()
        return optimizer.step()

    return step


def _in_another_process(name: str, experiment: Experiment) -> int | None:
    """Measure the memory of three steps where nothing has been allocated before."""
    if experiment.config is None:
        raise UserError("another process measures the memory, for which it needs a config")
    config = experiment.config.model_dump()
    return measure_memory(_rebuild, name, config, experiment.hardware)


def _rebuild(name: str, config: dict[str, Any], hardware: Hardware) -> Callable[[], object]:
    parsed = parse_config(config, "the experiment")
    return _contestant(name, Experiment.from_config(parsed, hardware, load_weights=False))
