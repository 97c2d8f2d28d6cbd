"""What every decoder costs on an encoder, beside a peer's network of that name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segkit.benchmark.peer import PEERS, build_peer, import_peer
from segkit.benchmark.step_speed import plain_step
from segkit.benchmark.timing import count_gflop, race
from segkit.errors import UserError
from segkit.features import Size
from segkit.hardware import Hardware
from segkit.model import create_model
from segkit.registry import find, names

CLASSES = 8
RATE = 1e-3  # of learning


class Cost(NamedTuple):
    """What a network costs."""

    parameters: int
    gmac: float  # of an image
    seconds: float  # of a training step


class DecoderSpeed(NamedTuple):
    """A decoder with its default options, and the peer's in two ways; None where there is none."""

    name: str
    ours: Cost
    peer: Cost | None  # in fp32, as it comes
    peer_alike: Cost | None  # in our precision and memory layout


def measure_decoders(
    encoder: str, size: Size, batch: int, hardware: Hardware, peer: bool
) -> Iterator[DecoderSpeed]:
    """Measure a training step of every decoder that fits an encoder, from random weights.

    Args:
        encoder: registered name.
        size: (H, W) of the images; with a peer, multiples of 32.
        batch: images in a step.
        hardware: device and precision.
        peer: whether to measure segmentation_models.pytorch's network of that name in turns.

    Raises:
        UserError: an unknown encoder, a size that the peer does not take, or no peer.
    """
    if peer and any(side % 32 for side in size):
        raise UserError(f"the peer takes multiples of 32 alone, not {size[0]}x{size[1]}")
    find("encoder", encoder)  # an unknown name fits no decoder
    if peer:
        import_peer()
    images = torch.randn(batch, 3, *size)
    target = torch.randint(0, CLASSES, (batch, *size))
    for name in names("decoder"):
        try:
            model: nn.Module = create_model(name, encoder, num_classes=CLASSES)
        except UserError:
            continue
        networks = {"ours": model}
        if peer:
            networks |= _find_peer(name, encoder, images)
        counted = {key: _count(network, images) for key, network in networks.items()}
        steps = {
            key: plain_step(network.train(), images, target, RATE, hardware, alike=key != "peer")
            for key, network in networks.items()
        }
        seconds = race(steps, hardware)
        costs = {key: Cost(*counted[key], seconds[key]) for key in networks}
        yield DecoderSpeed(name, costs["ours"], costs.get("peer"), costs.get("peer_alike"))


def _find_peer(name: str, encoder: str, images: Tensor) -> dict[str, nn.Module]:
    """Build the peer's network twice; none if it has none on this encoder, or for this size."""
    if name not in PEERS:
        return {}
    keys = "peer", "peer_alike"
    try:
        networks = {key: build_peer(3, CLASSES, name, encoder).eval() for key in keys}
        with torch.no_grad():
            networks["peer"](images)
    # what it raises of encoders it cannot dilate, and of maps that are too small
    except (KeyError, ValueError, NotImplementedError, RuntimeError):
        return {}
    return networks


def _count(network: nn.Module, images: Tensor) -> tuple[int, float]:
    """Count parameters, and 10^9 multiply-accumulates for an image."""
    network.eval()
    with torch.no_grad():
        gflop = count_gflop(lambda: network(images))
    return sum(p.numel() for p in network.parameters()), gflop / 2 / len(images)
