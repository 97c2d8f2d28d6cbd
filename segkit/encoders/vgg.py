"""The VGG family as encoders: configurations A to E, with torchvision's layer numbers and keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segkit.blocks import NORMS, NormName
from segkit.encoders.recompute import recomputed
from segkit.errors import UserError, unknown_name
from segkit.features import FeatureSpec, Pyramid, Size

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages
TAPS = tuple(f"{kind}{stage}" for stage in range(1, 6) for kind in ("conv", "pool"))


@dataclass(frozen=True)
class Layout:
    """One column of the paper's Table 1.

    Args:
        kernels: kernel size of every convolution, one tuple a stage.
        lrn: local response normalisation after the first ReLU.
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
        norm: NormName = "none",
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

        layers: list[nn.Module] = []
        specs: list[FeatureSpec] = []
        starts: list[int] = []  # first layer of each stage
        self._tapped: list[int] = []  # layers whose outputs are asked for
        channels = in_channels
        deepest = TAPS.index(wanted[-1])
        for step, name in enumerate(TAPS[: deepest + 1]):  # conv1, pool1, conv2, ...
            stage, is_pool = divmod(step, 2)
            if is_pool:  # floor mode: the last odd row and column are dropped
                max_pool = nn.MaxPool2d(2, 2, return_indices=return_indices)
                layers.append(max_pool if pool == "max" else nn.AvgPool2d(2, 2))
            else:
                starts.append(len(layers))
                before, channels = channels, max(1, round(CHANNELS[stage] * width))
                for kernel in layout.kernels[stage]:
                    lrn = layout.lrn and not layers
                    layers += _conv_norm_relu(before, channels, kernel, norm, lrn)
                    before = channels
            if name in wanted:
                specs.append(FeatureSpec(name, channels, 2 ** (stage + is_pool)))
                self._tapped.append(len(layers) - 1)

        self.features = nn.Sequential(*layers)
        self.specs = tuple(specs)
        self.stride = specs[-1].stride
        self.depths = tuple(len(kernels) for kernels in layout.kernels[: len(starts)])
        self._stages = [range(*ends) for ends in pairwise([*starts, len(layers)])]
        self._pools = (deepest + 1) // 2
        self._return_indices = return_indices
        for layer in self._frozen_layers():
            layer.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network as far as the deepest tap; see the class for shapes and errors."""
        self._check_input(x)
        maps: list[Tensor] = []
        sizes: list[Size] = []
        indices: list[Tensor] = []
        run = self._run_recomputed if self.checkpointing and is_grad_enabled() else self._run
        for number, stage in enumerate(self._stages):
            if number < self._pools:
                sizes.append((x.shape[-2], x.shape[-1]))
            new_maps, new_indices, x = run(stage, x)  # x (N, C, H, W) to (N, C', H // 2, W // 2)
            maps += new_maps
            indices += new_indices
        return Pyramid(maps, sizes, indices if self._return_indices else None)

    def train(self, mode: bool = True) -> VGGEncoder:
        """Set training mode, except for the frozen stages, whose statistics must not move."""
        super().train(mode)
        for layer in self._frozen_layers():
            layer.eval()
        return self

    def _run(self, stage: range, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run the layers of one stage; return the tapped maps, its pool's indices, and the end."""
        maps: list[Tensor] = []
        indices: list[Tensor] = []
        for i in stage:
            x = self.features[i](x)
            if isinstance(x, tuple):
                x, argmax = x
                indices.append(argmax)
            if i in self._tapped:
                maps.append(x)
        return maps, indices, x

    def _run_recomputed(self, stage: range, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run one stage, storing nothing inside it: the backward pass computes that again."""
        norms = [self.features[i] for i in stage if isinstance(self.features[i], _BatchNorm)]
        return recomputed(self._run, norms, stage, x)

    def _frozen_layers(self) -> list[nn.Module]:
        return [self.features[i] for stage in self._stages[: self.frozen_stages] for i in stage]

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise UserError(
                f"the encoder was built with in_channels={self.in_channels}, but got an input of "
                f"shape {tuple(x.shape)}, read as (N, C, H, W); change in_channels or the input"
            )
        height, width = x.shape[-2:]
        if height < self.stride or width < self.stride:
            raise UserError(
                f"an input of {height}x{width} (H x W) is smaller than the encoder's stride of "
                f"{self.stride}; pad it, or ask for shallower taps than {self.specs[-1].name}"
            )


def _order_taps(taps: Sequence[str]) -> list[str]:
    if isinstance(taps, str):
        raise UserError(f"taps is a list of names; write ['{taps}'] instead of '{taps}'")
    unknown = [tap for tap in taps if tap not in TAPS]
    if unknown:
        raise unknown_name("tap", unknown[0], TAPS)
    if not taps or len(set(taps)) != len(taps):
        raise UserError(f"taps must name at least one map, each one once, but got {list(taps)}")
    return sorted(taps, key=TAPS.index)


def _check_options(
    in_channels: int, pool: str, norm: str, width: float, frozen_stages: int, return_indices: bool
) -> None:
    if in_channels < 1:
        raise UserError(f"in_channels must be 1 or more, but got {in_channels}")
    if pool not in ("max", "avg"):
        raise unknown_name("pool", pool, ("max", "avg"))
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if not 0 < width < math.inf:
        raise UserError(f"width must be a finite number above 0, but got {width}")
    if not 0 <= frozen_stages <= len(CHANNELS):
        raise UserError(f"frozen_stages must be 0 to {len(CHANNELS)}, but got {frozen_stages}")
    if return_indices and pool != "max":
        raise UserError(f"return_indices needs pool='max', but got pool='{pool}', with no argmax")


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, norm: str, lrn: bool
) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=kernel, padding=kernel // 2)
    assert conv.bias is not None
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision
    nn.init.zeros_(conv.bias)
    layers: list[nn.Module] = [conv]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(out_channels))
    elif norm == "group":
        # at most 32 groups as in Wu and He 2018, of two channels or more: one channel at one
        # pixel has no variance
        fitting = [g for g in range(2, 33) if out_channels % g == 0 and out_channels > g]
        layers.append(nn.GroupNorm(max(fitting, default=1), out_channels))
    relu: nn.Module = nn.ReLU(inplace=True)
    if lrn:  # shares the ReLU's slot, so that all later layers keep vgg11's numbers
        # the constants of Krizhevsky et al. 2012; alpha is divided by the window's 5, as in Caffe
        relu = nn.Sequential(relu, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0))
    return [*layers, relu]


VGG_ENCODERS: dict[str, Callable[..., VGGEncoder]] = {
    name: partial(VGGEncoder, layout) for name, layout in LAYOUTS.items()
}
for _name in ("vgg11", "vgg13", "vgg16", "vgg19"):
    VGG_ENCODERS[f"{_name}_bn"] = partial(VGGEncoder, LAYOUTS[_name], norm="batch")
