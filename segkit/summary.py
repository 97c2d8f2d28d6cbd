"""What a network is made of and costs: layers, parameters, MACs, receptive field, memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segkit.config.schema import Config
from segkit.errors import UserError
from segkit.features import Size
from segkit.receptive_field import LayerReach, Reach, layer_reaches
from segkit.receptive_field.follow import blank_images, is_shown, on_leaves, without_data

IMAGES = 2  # of one pixel a map, batch norm has no variance in training
# the albumentations that end in a given size, and that people train with
SIZED = ("RandomCrop", "CenterCrop", "Resize", "RandomResizedCrop", "CropNonEmptyMaskIfExists")


@dataclass(frozen=True)
class Layer:
    """One call of a module without children.

    Args:
        name: in the model.
        kind: its class, with the kernel size or the factor.
        shape: of its output without the batch, usually `(C, H, W)`.
        parameters: of its own; 0 where an earlier call has counted them.
        macs: multiply-accumulates for one image.
        stride: image pixels per pixel of its output; None where that is no map.
        field: receptive field in pixels, infinite for the whole image; None if not to be told.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    stride: int | None
    field: float | None


@dataclass(frozen=True)
class Summary:
    """What a network is made of and costs, per image.

    Args:
        size: (H, W) of the image.
        layers: in running order.
        parameters: of the whole model.
        macs: multiply-accumulates of convolutions and matrix products.
        encoder_parameters: of `model.encoder`; 0 without one.
        encoder_macs: of `model.encoder`; 0 without one.
        reach: how far a pixel of the output sees; None where it is the whole image or not told.
        reach_unknown: why the receptive field could not be told; empty where it is.
        activation_bytes: what autograd keeps of one image for the backward pass, in fp32; without
            activation checkpointing, the loss, gradients and workspace.
        activation_bytes_bf16: the same with 2 bytes a float; argmax indices stay 8 bytes each.
        weight_bytes: parameters and buffers.
    """

    size: Size
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    encoder_parameters: int
    encoder_macs: int
    reach: Reach | None
    reach_unknown: str
    activation_bytes: int
    activation_bytes_bf16: int
    weight_bytes: int

    @property
    def decoder_parameters(self) -> int:
        """All that are not the encoder's."""
        return self.parameters - self.encoder_parameters

    @property
    def decoder_macs(self) -> int:
        """All that are not the encoder's."""
        return self.macs - self.encoder_macs

    @property
    def field(self) -> float | None:
        """Receptive field of the output; infinite for the whole image, None if not to be told."""
        if self.reach is not None:
            return self.reach.field
        return None if self.reach_unknown else math.inf


def summarize(model: nn.Module, in_channels: int, size: Size) -> Summary:
    """Tell what a network is made of and costs, without running it.

    Args:
        model: such as a `SegmentationModel`; it is left as it is.
        in_channels: of the image.
        size: (H, W) of the image, before the model pads it.

    Raises:
        UserError: a size below 1 pixel.
    """
    if min(size) < 1:
        raise UserError(f"the size {size[0]}x{size[1]} (H x W) must be of 1 pixel or more")
    try:
        reaches, unknown = layer_reaches(model, in_channels), ""
    except UserError as error:
        reaches, unknown = [], str(error)
    layers, macs, encoder_macs = _count(model, in_channels, size, reaches[:-1])
    encoder = getattr(model, "encoder", None)
    floats, others = _kept_for_backward(model, in_channels, size)
    tensors = [*model.parameters(), *model.buffers()]
    return Summary(
        size=size,
        layers=tuple(layers),
        parameters=_parameters(model),
        macs=macs,
        encoder_parameters=_parameters(encoder) if isinstance(encoder, nn.Module) else 0,
        encoder_macs=encoder_macs,
        reach=reaches[-1].reach if reaches else None,
        reach_unknown=unknown,
        activation_bytes=4 * floats + others,
        activation_bytes_bf16=2 * floats + others,
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors),
    )


def training_size(config: Config) -> Size | None:
    """Look up the size that training images end in, as the last crop or resize has it.

    None where no transform of the list says; those inside `OneOf` and the like are not looked at.
    """
    for transform in reversed(config.data.train_transforms):
        for name, options in transform.items():
            options = options or {}
            size = options.get("size", (options.get("height"), options.get("width")))
            if name in SIZED and isinstance(size, Sequence) and len(size) == 2:
                height, width = size
                if isinstance(height, int) and isinstance(width, int):
                    return height, width
    return None


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _count(
    model: nn.Module, in_channels: int, size: Size, reaches: Sequence[LayerReach]
) -> tuple[list[Layer], int, int]:
    """List the layers; give them with the MACs of the model and of its encoder."""
    model, fake = without_data(model)
    model.eval()
    counter = FlopCounterMode(display=False)
    layers: list[Layer] = []
    counted: set[int] = set()
    starts: dict[nn.Module, int] = {}
    encoder_macs = 0

    def start(module: nn.Module, _: Any) -> None:
        starts[module] = counter.get_total_flops()

    def macs_since_start(module: nn.Module) -> int:
        return (counter.get_total_flops() - starts[module]) // 2  # a MAC is two operations

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
                macs=macs_since_start(module),
                stride=seen.stride if seen and output.ndim == 4 and seen.reach else None,
                field=seen.field if seen else None,
            )
        )

    def end_encoder(module: nn.Module, *_: Any) -> None:
        nonlocal encoder_macs
        encoder_macs += macs_since_start(module)

    encoder = getattr(model, "encoder", None)
    for module in model.modules():
        if module is encoder or is_shown(module):
            module.register_forward_pre_hook(start)
    if isinstance(encoder, nn.Module):
        encoder.register_forward_hook(end_encoder)
    on_leaves(model, record)
    with torch.no_grad(), fake, counter:
        model(blank_images(model, 1, in_channels, size))
    return layers, counter.get_total_flops() // 2, encoder_macs


def _kind(module: nn.Module) -> str:
    """Name a module's class, and what tells two of a class apart."""
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
    """Count floats, and bytes of all else, that autograd keeps of an image in training."""
    model, fake = without_data(model)
    model.train()
    for module in model.modules():
        if hasattr(module, "checkpointing"):
            # what is recomputed could not be counted
            module.checkpointing = False  # type: ignore[assignment]
    weights = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # by storage: a ReLU in place keeps what a norm keeps, too

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor
        return tensor

    with fake, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(blank_images(model, IMAGES, in_channels, size))
        del output
    floats = others = 0
    for tensor in kept.values():
        held = tensor.untyped_storage().nbytes()
        if tensor.is_floating_point():
            floats += held // tensor.element_size()
        else:
            others += held
    return floats // IMAGES, others // IMAGES
