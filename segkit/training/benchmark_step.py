"""How fast a training step is, beside the machine's convolution peak and a peer's step."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segkit.config import Config, parse_config
from segkit.data import Card, batches
from segkit.data.labels import IGNORE_INDEX
from segkit.data.loader import worker_errors
from segkit.errors import UserError
from segkit.hardware import Hardware
from segkit.training.benchmark import without_weights
from segkit.training.loop import Trainer
from segkit.training.step import one_size

ROUNDS = 5  # each figure is the median of so many, taken in turns
SECONDS = 3.0  # of a round
PEAK = (8, 256, 64, 64)  # of the input of the convolution that stands for the peak


class StepSpeed(NamedTuple):
    """What a contestant needs.

    Args:
        name: of the contestant.
        seconds: for a step.
        images: a second.
        gflop: in a step, convolutions and matrix products alone.
        share: of the convolution peak in bf16, as measured beside it.
        memory: bytes at the most beyond those before the model was there.
    """

    name: str
    seconds: float
    images: float
    gflop: float
    share: float
    memory: int


def measure_step(
    config: Config, card: Card, hardware: Hardware, peer: str | None
) -> tuple[list[StepSpeed], float]:
    """Measure training steps on one batch; leaves nothing behind.

    Args:
        config: the experiment.
        card: of its data set.
        hardware: to compute on.
        peer: `smp` for segmentation_models.pytorch's Unet('vgg16') beside ours.

    Returns:
        The contestants, ours first, and the convolution peak in GFLOP/s.

    Raises:
        UserError: whatever training would refuse, or the peer is not installed.
    """
    names = ["segkit"] + (["smp, as it comes", "smp, our precision and layout"] if peer else [])
    steps = {name: _contestant(name, config, card, hardware) for name in names}
    peak, peak_gflop = _peak_convolution(hardware)
    times = race({**steps, "": peak}, hardware)
    rate = peak_gflop / times.pop("")
    speeds = []
    for name, work in steps.items():
        seconds, gflop = times[name], _gflop(work)
        memory = _in_another_process(name, config, card, hardware)
        images = config.data.batch_size / seconds
        speeds.append(StepSpeed(name, seconds, images, gflop, gflop / seconds / rate, memory))
    return speeds, rate


def measure_costs(
    experiments: Mapping[str, tuple[Config, Card]], hardware: Hardware
) -> dict[str, tuple[float, int]]:
    """Measure seconds and bytes of a training step of several experiments, in turns.

    Raises:
        UserError: whatever training would refuse.
    """
    steps = {
        name: _contestant("segkit", config, card, hardware)
        for name, (config, card) in experiments.items()
    }
    times = race(steps, hardware)
    steps.clear()  # leave the memory to those who come
    return {
        name: (times[name], _in_another_process("segkit", config, card, hardware))
        for name, (config, card) in experiments.items()
    }


def race(works: Mapping[str, Callable[[], object]], hardware: Hardware) -> dict[str, float]:
    """Time calls in turns, so that what slows the machine meets all; gives medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(_seconds(work, hardware))
    return {name: median(each) for name, each in times.items()}


def _contestant(name: str, config: Config, card: Card, hardware: Hardware) -> Callable[[], object]:
    """Build a function that takes one training step."""
    with tempfile.TemporaryDirectory() as folder, worker_errors():
        data = config.data.model_copy(update={"workers": 0})
        changes = {"data": data, "run_dir": f"{folder}/run"}
        trainer = Trainer(without_weights(config).model_copy(update=changes), card, hardware)
        batch = one_size(next(batches(trainer.train_loader)))
    trainer.step.begin_epoch(0)
    if name == "segkit":
        return lambda: trainer.step([batch])
    pixels = trainer.normalize(batch.images.to(hardware.device))
    target = batch.masks.to(hardware.device).long()
    rate = config.train.optimizer.lr
    return _peer(pixels, target, card.num_classes, rate, hardware, fair="our" in name)


def _peer(
    pixels: Tensor, target: Tensor, num_classes: int, rate: float, hardware: Hardware, fair: bool
) -> Callable[[], object]:
    """Build the step that segmentation_models.pytorch's documentation leads to."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError("--peer smp needs the peer; pip install 'segkit[bench]'") from error
    channels = pixels.shape[1]
    model: nn.Module = smp.Unet(
        "vgg16", encoder_weights=None, in_channels=channels, classes=num_classes
    )
    model = hardware.place(model) if fair else model.to(hardware.device)
    pixels = hardware.load(pixels) if fair else pixels.contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    side = -torch.tensor(pixels.shape[-2:]) % 32  # the peer takes multiples of 32 alone
    pixels = F.pad(pixels, (0, int(side[1]), 0, int(side[0])))
    target = F.pad(target, (0, int(side[1]), 0, int(side[0])), value=IGNORE_INDEX)

    def step() -> object:
        optimizer.zero_grad()
        with hardware.autocast() if fair else nullcontext():
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), target, ignore_index=IGNORE_INDEX)
        loss.backward()
        return optimizer.step()

    return step


def _peak_convolution(hardware: Hardware) -> tuple[Callable[[], object], float]:
    """Build a large 3x3 convolution in bf16, forward and backward, and count its GFLOP."""
    layer = nn.Conv2d(PEAK[1], PEAK[1], 3, padding=1, bias=False).bfloat16()
    hardware.place(layer)
    x = hardware.load(torch.randn(PEAK)).bfloat16().requires_grad_()
    gradient = torch.randn_like(x)

    def work() -> None:
        x.grad = layer.weight.grad = None
        layer(x).backward(gradient)

    return work, _gflop(work)


def _gflop(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e9


def _seconds(work: Callable[[], object], hardware: Hardware) -> float:
    """Time a call, as the mean over a few seconds."""
    work()  # the first call may pay for others
    _wait(hardware)
    calls, start = 0, time.perf_counter()
    while True:
        work()
        _wait(hardware)
        calls += 1
        if (spent := time.perf_counter() - start) > SECONDS:
            return spent / calls


def _wait(hardware: Hardware) -> None:
    if hardware.device.type == "cuda":
        torch.cuda.synchronize()


def _in_another_process(name: str, config: Config, card: Card, hardware: Hardware) -> int:
    """Measure the memory of three steps where nothing has been allocated before."""
    context: Any = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        plain = config.model_dump(), card.model_dump()
        return int(pool.apply(_memory, (name, *plain, hardware)))


def _memory(name: str, config: dict[str, Any], card: dict[str, Any], hardware: Hardware) -> int:
    before = _resident()
    experiment = parse_config(config, "the experiment")
    step = _contestant(name, experiment, Card.model_validate(card), hardware)
    for _ in range(3):
        step()
    if hardware.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return _resident() - before


def _resident() -> int:
    """Give the most bytes this process ever held."""
    try:  # Linux: getrusage's figure would be the parent's, where that is larger
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
