"""The VGG family as encoders: configurations A to E, with torchvision's layer numbers and keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint, noop_context_fn

from segkit.errors import UserError, unknown_name
from segkit.features import FeatureSpec, Pyramid

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages
TAPS = tuple(f"{kind}{stage}" for stage in range(1, 6) for kind in ("conv", "pool"))
POOLS = ("max", "avg")
NORMS = ("none", "batch", "group")


@dataclass(frozen=True)
class Layout:
    """One column of the paper's Table 1.

    Args:
        kernels: kernel size of every convolution, one tuple a stage.
        lrn: local response normalisation after the first convolution.
    """

    kernels: tuple[tuple[int, ...], ...]
    lrn: bool = False


LAYOUTS: dict[str, Layout] = {
    "vgg11": Layout(((3,), (3,), (3, 3), (3, 3), (3, 3))),  # A
    "vgg11_lrn": Layout(((3,), (3,), (3, 3), (3, 3), (3, 3)), lrn=True),  # A-LRN
    "vgg13": Layout(((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))),  # B
    "vgg16_1x1": Layout(((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))),  # C
    "vgg16": Layout(((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))),  # D
    "vgg19": Layout(((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))),  # E
}


_StageMaps = tuple[Tensor | None, Tensor | None, Tensor | None]  # convK, poolK, indices


class _Stage(NamedTuple):
    """Where a stage lies in `features`, and which of its maps were asked for."""

    layers: range
    pool: int | None  # None in the last stage when nothing below it was asked for
    keep_conv: bool
    keep_pool: bool


class VGGEncoder(nn.Module):
    """VGG without its classifier, returning the maps of the taps asked for.

    `convK` is the output of the last ReLU before pool K (stride 2^(K-1)), `poolK` that of pool K
    (stride 2^K). Nothing behind the deepest tap is built. `features` has torchvision's layer
    numbers and key names, so torchvision's weight files fit as they are.

    Shape: `(N, in_channels, H, W)` with H, W >= `stride` to a `Pyramid`; the map of a tap of
        stride s is `(N, C, H // s, W // s)`. `sizes` has one (H, W) per executed pool.

    Args:
        layout: a value of `LAYOUTS`.
        taps: names of the maps to return, in any order; they come finest first.
        in_channels: channels of the input, 1 or more.
        pool: `max` as in the paper, or `avg`.
        norm: normalisation between convolution and ReLU.
        width: factor on all channel counts; weight files fit only at 1.
        checkpointing: recompute each stage in the backward pass instead of storing its maps.
        frozen_stages: the first k stages get no gradient and keep their batch norm statistics.
        return_indices: also return the argmax indices of the max pools.

    Attributes:
        specs: one `FeatureSpec` a tap, finest first.
        stride: of the deepest tap.
        depths: convolutions of each stage that was built.

    Raises:
        UserError: an option out of range; an input of other channels or smaller than `stride`.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", 2014, https://arxiv.org/abs/1409.1556, Table 1.

    >>> import torch
    >>> encoder = VGGEncoder(LAYOUTS["vgg16"], taps=["conv5", "pool3"], width=1 / 8)
    >>> [(spec.name, spec.channels, spec.stride) for spec in encoder.specs]
    [('pool3', 32, 8), ('conv5', 64, 16)]
    >>> pyramid = encoder(torch.zeros(1, 3, 50, 64))
    >>> [tuple(m.shape) for m in pyramid.maps]
    [(1, 32, 6, 8), (1, 64, 3, 4)]
    >>> pyramid.sizes
    [(50, 64), (25, 32), (12, 16), (6, 8)]
    """

    def __init__(
        self,
        layout: Layout,
        taps: Sequence[str] = ("conv1", "conv2", "conv3", "conv4", "conv5"),
        *,
        in_channels: int = 3,
        pool: Literal["max", "avg"] = "max",
        norm: Literal["none", "batch", "group"] = "none",
        width: float = 1.0,
        checkpointing: bool = False,
        frozen_stages: int = 0,
        return_indices: bool = False,
    ) -> None:
        super().__init__()
        wanted = _order_taps(taps)
        _check_options(in_channels, pool, norm, width, frozen_stages, return_indices)
        self.in_channels = in_channels
        self.checkpointing = checkpointing
        self.frozen_stages = frozen_stages
        self.return_indices = return_indices

        layers: list[nn.Module] = []
        specs: list[FeatureSpec] = []
        stages: list[_Stage] = []
        before = in_channels
        for index, (base, kernels) in enumerate(zip(CHANNELS, layout.kernels, strict=True)):
            conv, pooled = f"conv{index + 1}", f"pool{index + 1}"
            channels = max(1, round(base * width))
            start = len(layers)
            for kernel in kernels:
                layers += _conv_norm_relu(before, channels, kernel, norm, layout.lrn and not layers)
                before = channels
            end = len(layers)
            if conv in wanted:
                specs.append(FeatureSpec(conv, channels, 2**index))
            if pooled in wanted:
                specs.append(FeatureSpec(pooled, channels, 2 ** (index + 1)))
            has_pool = wanted[-1] != conv
            if has_pool:
                layers.append(_pool(pool, return_indices))
            position = end if has_pool else None
            stages.append(_Stage(range(start, end), position, conv in wanted, pooled in wanted))
            if wanted[-1] in (conv, pooled):
                break

        self.features = nn.Sequential(*layers)
        self.specs = tuple(specs)
        self.stride = specs[-1].stride
        self.depths = tuple(len(kernels) for kernels in layout.kernels[: len(stages)])
        self._stages = tuple(stages)
        _initialise(self.features)
        for layer in self._frozen_layers():
            layer.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network as far as the deepest tap; see the class for shapes and errors."""
        self._check_input(x)
        pyramid = Pyramid([], [], [] if self.return_indices else None)
        for stage in self._stages:
            if stage.pool is not None:
                pyramid.sizes.append((x.shape[-2], x.shape[-1]))
            conv, pooled, indices = self._run(stage, x)  # (N, C, H, W), (N, C, H // 2, W // 2)
            if conv is not None:
                pyramid.maps.append(conv)
            if pooled is not None and stage.keep_pool:
                pyramid.maps.append(pooled)
            if indices is not None and pyramid.indices is not None:
                pyramid.indices.append(indices)
            if pooled is not None:
                x = pooled
        return pyramid

    def train(self, mode: bool = True) -> VGGEncoder:
        """Set training mode, except for the frozen stages, whose statistics must not move."""
        super().train(mode)
        for layer in self._frozen_layers():
            layer.eval()
        return self

    def _run(self, stage: _Stage, x: Tensor) -> _StageMaps:
        """Run one stage, storing or later recomputing what lies inside it."""
        if not (self.checkpointing and is_grad_enabled()):
            return self._run_layers(stage, x)
        inside = [self.features[i] for i in stage.layers]
        batch_norms = [layer for layer in inside if isinstance(layer, _BatchNorm)]
        # torch.compile knows no context_fn but the default, so ours comes only where it is needed
        contexts = partial(_recomputation, batch_norms) if batch_norms else noop_context_fn
        return checkpoint(
            self._run_layers,
            stage,
            x,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in a stage draws random numbers
            context_fn=contexts,
        )

    def _run_layers(self, stage: _Stage, x: Tensor) -> _StageMaps:
        for i in stage.layers:
            x = self.features[i](x)
        conv = x if stage.keep_conv else None
        if stage.pool is None:
            return conv, None, None
        pooled = self.features[stage.pool](x)
        return (conv, *pooled) if self.return_indices else (conv, pooled, None)

    def _frozen_layers(self) -> list[nn.Module]:
        frozen = self._stages[: self.frozen_stages]
        return [self.features[i] for stage in frozen for i in stage.layers]

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise UserError(
                f"the encoder was built with in_channels={self.in_channels} and takes a tensor "
                f"(N, {self.in_channels}, H, W), but got one of shape {tuple(x.shape)}; "
                "change in_channels or the input"
            )
        height, width = x.shape[-2:]
        if height < self.stride or width < self.stride:
            raise UserError(
                f"an input of {height}x{width} (H x W) is smaller than the encoder's stride of "
                f"{self.stride}; pad it, or ask for shallower taps than {self.specs[-1].name}"
            )


def _order_taps(taps: Sequence[str]) -> list[str]:
    """Check the names and put them in the order of the network."""
    if isinstance(taps, str):
        raise UserError(f"taps is a list of names; write ['{taps}'] instead of '{taps}'")
    for tap in taps:
        if tap not in TAPS:
            raise unknown_name("tap", tap, TAPS)
    if not taps or len(set(taps)) != len(taps):
        raise UserError(f"taps must name at least one map, each one once, but got {list(taps)}")
    return sorted(taps, key=TAPS.index)


def _check_options(
    in_channels: int, pool: str, norm: str, width: float, frozen_stages: int, return_indices: bool
) -> None:
    if in_channels < 1:
        raise UserError(f"in_channels must be 1 or more, but got {in_channels}")
    if pool not in POOLS:
        raise unknown_name("pool", pool, POOLS)
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if not 0 < width < math.inf:
        raise UserError(f"width must be a finite number above 0, but got {width}")
    if not 0 <= frozen_stages <= len(CHANNELS):
        raise UserError(f"frozen_stages must be 0 to {len(CHANNELS)}, but got {frozen_stages}")
    if return_indices and pool != "max":
        raise UserError(
            f"return_indices=True needs pool='max', but got pool='{pool}', which has no argmax; "
            "change the pool or choose a decoder that needs no indices"
        )


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, norm: str, lrn: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size=kernel, padding=kernel // 2)
    ]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(out_channels))
    elif norm == "group":
        # at most 32 groups as in Wu and He 2018, of two channels or more: one channel at one
        # pixel has no variance
        fitting = [g for g in range(2, 33) if out_channels % g == 0 and out_channels > g]
        layers.append(nn.GroupNorm(max(fitting, default=1), out_channels))
    relu: nn.Module = nn.ReLU(inplace=True)
    if lrn:  # shares the ReLU's slot, so that the numbers of all later layers stay vgg11's
        relu = nn.Sequential(relu, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0))
    return [*layers, relu]


def _pool(pool: str, return_indices: bool) -> nn.Module:
    # floor mode: the last odd row and column are dropped, as torchvision does
    return (
        nn.MaxPool2d(2, 2, return_indices=return_indices) if pool == "max" else nn.AvgPool2d(2, 2)
    )


def _initialise(features: nn.Module) -> None:
    """Draw the convolutions as torchvision does; the norms start at 1 and 0 by themselves."""
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _recomputation(
    layers: list[_BatchNorm],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Give the contexts of `checkpoint`: nothing for the forward pass, and for the recomputation
    one in which batch norms count into copies of their statistics, which are then thrown away.

    Switching `track_running_stats` off would not do: batch norm would then save two tensors less
    for the backward pass than the first time, which `checkpoint` refuses.
    """
    return nullcontext(), _throwaway_buffers(layers)


@contextmanager
def _throwaway_buffers(layers: list[_BatchNorm]) -> Iterator[None]:
    kept = [dict(layer._buffers) for layer in layers]
    for layer, buffers in zip(layers, kept, strict=True):
        copies = {name: None if b is None else b.clone() for name, b in buffers.items()}
        layer._buffers.update(copies)
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)


VGG_ENCODERS: dict[str, Callable[..., VGGEncoder]] = {
    **{name: partial(VGGEncoder, layout) for name, layout in LAYOUTS.items()},
    **{
        f"{name}_bn": partial(VGGEncoder, LAYOUTS[name], norm="batch")
        for name in ("vgg11", "vgg13", "vgg16", "vgg19")
    },
}
