"""Count what a network is made of and costs, on tensors without data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segkit.dry_run import blank_images, is_layer, on_layers, storage_key, without_data
from segkit.errors import UserError
from segkit.features import Size
from segkit.receptive_field import LayerReach, Reach, layer_reaches, sees_all

IMAGES = 2  # of one pixel a map, batch norm has no variance in training
DEFAULT_SIZE = (224, 224)  # of ImageNet, where nothing says which size a model is trained at


@dataclass(frozen=True)
class Layer:
    """One call of a module without children."""

    name: str  # qualified name in the model
    kind: str  # its class, with the kernel size or the factor of upsampling
    shape: tuple[int, ...]  # shape of its output without the batch, usually `(C, H, W)`
    parameters: int  # number of its own; 0 where an earlier call has counted them
    macs: int  # multiply-accumulates for one image
    stride: int | None  # image pixels per pixel of its output; None where the output is not a map
    field: float | None  # receptive field in pixels, infinite for the whole image; None if unknown


@dataclass(frozen=True)
class Costs:
    """What a network is made of and costs in prediction, per image.

    Args:
        size: (H, W) of the image.
        layers: every call of a layer, in running order.
        parameters: number in the whole model.
        macs: multiply-accumulates of all convolutions and matrix products.
        encoder_parameters: number in `model.encoder`; 0 without one.
        encoder_macs: multiply-accumulates in `model.encoder`; 0 without one.
        reach: how far an output pixel sees; None where it sees the whole image or it is unknown.
        reach_unknown: why the receptive field is unknown; empty where it is known.
    """

    size: Size
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    encoder_parameters: int
    encoder_macs: int
    reach: Reach | None
    reach_unknown: str

    @property
    def decoder_parameters(self) -> int:
        """Parameters outside of the encoder."""
        return self.parameters - self.encoder_parameters

    @property
    def decoder_macs(self) -> int:
        """Multiply-accumulates outside of the encoder."""
        return self.macs - self.encoder_macs

    @property
    def field(self) -> float | None:
        """Receptive field of the output; infinite for the whole image, None if unknown."""
        if self.reach is not None:
            return self.reach.field
        return None if self.reach_unknown else math.inf


@dataclass(frozen=True)
class Summary(Costs):
    """What a network is made of and costs, in training too.

    Args:
        activation_bytes: what autograd keeps of one image for the backward pass, in fp32; without
            activation checkpointing, the loss, gradients and workspace.
        activation_bytes_bf16: the same with 2 bytes per float; argmax indices stay 8 bytes each.
        weight_bytes: size of parameters and buffers.
    """

    activation_bytes: int
    activation_bytes_bf16: int
    weight_bytes: int


def summarize(model: nn.Module, in_channels: int, size: Size) -> Summary:
    """Count what a network is made of and costs, without computing anything.

    Args:
        model: such as a `SegmentationModel`; it is not changed.
        in_channels: number of channels of the image.
        size: (H, W) of the image, before the model pads it.

    Raises:
        UserError: a height or width below 1 pixel.
    """
    costs = count_costs(model, in_channels, size)
    floats, others = _kept_for_backward(model, in_channels, size)
    tensors = [*model.parameters(), *model.buffers()]
    return Summary(
        **vars(costs),
        activation_bytes=4 * floats + others,
        activation_bytes_bf16=2 * floats + others,
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors),
    )


def count_costs(model: nn.Module, in_channels: int, size: Size) -> Costs:
    """Count what a network costs in prediction; see `summarize`."""
    if min(size) < 1:
        raise UserError(f"the size {size[0]}x{size[1]} (H x W) must be of 1 pixel or more")
    try:
        reaches, unknown = layer_reaches(model, in_channels), ""
    except UserError as error:
        reaches, unknown = [], "" if sees_all(model) else str(error)
    layers, macs, encoder_macs = _count(model, in_channels, size, reaches[:-1])
    encoder = getattr(model, "encoder", None)
    return Costs(
        size=size,
        layers=tuple(layers),
        parameters=_parameters(model),
        macs=macs,
        encoder_parameters=_parameters(encoder) if isinstance(encoder, nn.Module) else 0,
        encoder_macs=encoder_macs,
        reach=reaches[-1].reach if reaches else None,
        reach_unknown=unknown,
    )


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _count(
    model: nn.Module, in_channels: int, size: Size, reaches: Sequence[LayerReach]
) -> tuple[list[Layer], int, int]:
    """List the layers; return them with the MACs of the model and of its encoder."""
    model, fake = without_data(model)
    model.eval()
    counter = FlopCounterMode(display=False)
    layers: list[Layer] = []
    counted: set[int] = set()
    start = 0

    def before(*_: Any) -> None:
        nonlocal start
        start = counter.get_total_flops()

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        own = [p for p in module.parameters() if id(p) not in counted]
        counted.update(map(id, own))
        seen = reaches[len(layers)] if reaches else None
        assert seen is None or seen.layer == name
        layers.append(
            Layer(
                name=name,
                kind=_kind(module),
                shape=tuple(output.shape[1:]),
                parameters=sum(p.numel() for p in own),
                macs=(counter.get_total_flops() - start) // 2,  # a MAC is two operations
                stride=seen.stride if seen and output.ndim == 4 and seen.reach else None,
                field=seen.field if seen else None,
            )
        )

    for layer in filter(is_layer, model.modules()):
        layer.register_forward_pre_hook(before)
    on_layers(model, record)
    with torch.no_grad(), fake, counter:
        model(blank_images(model, 1, in_channels, size))
    of_encoder = counter.get_flop_counts().get(f"{type(model).__name__}.encoder", {})
    return layers, counter.get_total_flops() // 2, sum(of_encoder.values()) // 2


def _kind(module: nn.Module) -> str:
    """Describe a module by its class and by what distinguishes two of that class."""
    name = type(module).__name__
    kernel = getattr(module, "kernel_size", None)
    if kernel is not None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else (kernel[0], kernel[-1])
        name += f" {height}x{width}"
    dilation = getattr(module, "dilation", 1)
    if dilation not in (1, (1, 1)):
        name += f" /{dilation[0] if isinstance(dilation, tuple) else dilation}"
    mode, factor = getattr(module, "mode", None), getattr(module, "factor", None)
    if isinstance(mode, str):
        name = mode.capitalize() if type(module).__name__ == "Interpolate" else f"{name} {mode}"
    return f"{name} x{factor}" if isinstance(factor, int) else name


def _kept_for_backward(model: nn.Module, in_channels: int, size: Size) -> tuple[int, int]:
    """Count the floats, and the bytes of all else, that autograd keeps per training image."""
    model, fake = without_data(model)
    model.train()
    for module in model.modules():
        if hasattr(module, "checkpointing"):  # what is recomputed could not be counted
            module.checkpointing = False  # type: ignore[assignment]
    weights = {storage_key(t) for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # by storage: a ReLU in place keeps what a norm keeps, too

    def pack(tensor: Tensor) -> Tensor:
        storage = storage_key(tensor)
        if storage not in weights:
            kept[storage] = tensor
        return tensor

    with fake, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(blank_images(model, IMAGES, in_channels, size))
    sizes = [(t, t.untyped_storage().nbytes()) for t in kept.values()]
    floats = sum(held // t.element_size() for t, held in sizes if t.is_floating_point())
    others = sum(held for t, held in sizes if not t.is_floating_point())
    return floats // IMAGES, others // IMAGES
