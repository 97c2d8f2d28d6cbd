"""How fast networks and exported files predict, beside each other and a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from segkit.benchmark.peer import build_peer
from segkit.benchmark.timing import count_gflop, measure_memory, peak_convolution, race
from segkit.checkpoint import find_checkpoint, load_checkpoint, restore_config, restore_model
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.features import Size
from segkit.hardware import choose_hardware
from segkit.inference.backends.files import is_exported, open_exported
from segkit.inference.backends.pytorch import TorchBackend
from segkit.model import build_model
from segkit.normalize import Normalize

PEER = "smp, as it comes"
CLASSES = 11  # of the peer's network


class Contestant(NamedTuple):
    """What is timed: from bytes to the class of each pixel."""

    name: str  # for the table
    source: str  # an experiment, a run folder, a checkpoint or an exported file; "" for the peer
    precision: Any = None  # of a network in torch; an exported file has its own


class InferenceSpeed(NamedTuple):
    """What a contestant needs for a batch of images."""

    name: str
    seconds: float
    gflop: float | None  # convolutions and matrix products alone; None for exported files
    memory: int | None  # bytes at the most beyond those before the model was there


def find_contestants(sources: Sequence[str], peer: bool) -> Iterator[Contestant]:
    """List each source, in torch in fp32 and in the precision that `auto` chooses, and the peer."""
    precisions = dict.fromkeys(("fp32", choose_hardware("cpu").precision))
    for source in sources:
        name = Path(source).name
        if is_exported(Path(source)):
            yield Contestant(name, source)
            continue
        for precision in precisions:
            yield Contestant(f"{name}, torch {precision}", source, precision)
    if peer:
        yield Contestant(PEER, "")


def measure_inference(
    contestants: Sequence[Contestant], size: Size, batch: int
) -> tuple[list[InferenceSpeed], float]:
    """Time contestants on the CPU in turns, on random images.

    Args:
        contestants: see `find_contestants`.
        size: (H, W) of the images.
        batch: number of images that go through together.

    Returns:
        Their speeds, and the convolution peak in bf16, forward alone, in GFLOP/s.
    """
    hardware = choose_hardware("cpu", "fp32")
    works = {each.name: make_work(each, size, batch) for each in contestants}
    peak, peak_gflop = peak_convolution(hardware, backward=False)
    times = race({**works, "": peak}, hardware)
    rate = peak_gflop / times.pop("")
    speeds = []
    for each in contestants:
        gflop = None if is_exported(Path(each.source)) else count_gflop(works[each.name])
        memory = measure_memory(make_work, each, size, batch)
        speeds.append(InferenceSpeed(each.name, times[each.name], gflop, memory))
    return speeds, rate


def make_work(contestant: Contestant, size: Size, batch: int) -> Callable[[], object]:
    """Build a function that predicts one batch, from bytes to classes."""
    generator = torch.Generator().manual_seed(0)

    def draw(channels: int) -> torch.Tensor:
        shape = (batch, channels, *size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    if contestant.name == PEER:
        return _peer(draw(3))
    source = Path(contestant.source)
    if is_exported(source):
        file = open_exported(source, "cpu")
        images = draw(file.metadata["input"]["channels"]).permute(0, 2, 3, 1).contiguous()
        held = (images if file.takes_bytes else images / 255).numpy()
        return lambda: file.run(held, "mask")
    model, channels = _build(contestant.source)
    hardware = choose_hardware("cpu", contestant.precision)
    plain = (0.5,) * channels  # which numbers does not matter to the speed
    backend = TorchBackend(hardware.to_device(model), hardware, plain, plain)
    pixels = draw(channels)
    return lambda: backend.logits(pixels).argmax(1).to(torch.uint8)


def _build(source: str) -> tuple[nn.Module, int]:
    """Build the network of a run, a checkpoint or an experiment; return its number of channels."""
    path = Path(source)
    if path.is_dir() or path.suffix == ".pt":
        file = find_checkpoint(path)
        content = load_checkpoint(file)
        channels = restore_config(content, file).model.in_channels
        return restore_model(content, file).eval(), channels
    config = load_config(source, [])
    classes = load_card(config.data.card, config.data.root).num_classes
    return build_model(config.model, classes, load_weights=False), config.model.in_channels


def _peer(pixels: torch.Tensor) -> Callable[[], object]:
    """Predict as segmentation_models.pytorch's documentation leads to."""
    model = build_peer(3, CLASSES).eval()
    normalize = Normalize((0.5,) * 3, (0.5,) * 3)
    height, width = pixels.shape[-2:]  # the peer takes multiples of 32 alone

    def predict() -> object:
        with torch.no_grad():
            padded = F.pad(normalize(pixels), (0, -width % 32, 0, -height % 32))
            return model(padded)[..., :height, :width].argmax(1).to(torch.uint8)

    return predict
