"""The columns of the VGG paper's Table 1, their taps and their layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from segkit.blocks import NORMS
from segkit.channels_last import GroupNorm
from segkit.errors import UserError, unknown_name

CONVS, POOLS = (tuple(f"{kind}{k}" for k in range(1, 6)) for kind in ("conv", "pool"))
TAPS = tuple(tap for stage in zip(CONVS, POOLS, strict=True) for tap in stage)
CHANNELS = (64, 128, 256, 512, 512)  # of the five stages


KERNELS: dict[str, tuple[tuple[int, ...], ...]] = {  # sizes of the convolutions of each stage
    "vgg11": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A
    "vgg11_lrn": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A-LRN, see `conv_norm_act`
    "vgg13": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),  # B
    "vgg16_1x1": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),  # C
    "vgg16": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),  # D
    "vgg19": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),  # E
}
NAMES = (*KERNELS, "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")  # *_bn: with batch norm
ActivationName = Literal["relu", "leaky_relu", "gelu", "silu"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
}


def stride_of(tap: str, dilate: int | None) -> int:
    """Return the stride of a tap; with `dilate`, pools beyond that stride do nothing.

    >>> [stride_of(tap, 8) for tap in ("conv1", "pool3", "conv4", "pool4", "conv5")]
    [1, 8, 8, 8, 8]
    """
    stage, is_pool = divmod(TAPS.index(tap), 2)
    stride: int = 2 ** (stage + is_pool)
    return stride if dilate is None else min(stride, dilate)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int,
    norm: str,
    lrn: bool,
    activation: str,
    dilation: int,
) -> list[nn.Module]:
    """List a convolution, its normalisation and its activation, as torchvision numbers them."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation)
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
        layers.append(GroupNorm(max(fitting, default=1), out_channels))
    act = ACTIVATIONS[activation]()
    if lrn:  # shares the activation's slot, so that all later layers keep vgg11's numbers
        # the constants of Krizhevsky et al. 2012; alpha is divided by the window's 5, as in Caffe
        act = nn.Sequential(act, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0))
    return [*layers, act]


def check_options(
    name: str,
    taps: Sequence[str],
    in_channels: int,
    pool: str,
    norm: str,
    width: float,
    frozen_stages: int,
    return_indices: bool,
    activation: str,
    dilate: int | None,
) -> None:
    """Refuse options of a VGG that are out of range or do not go together."""
    if isinstance(taps, str):
        raise UserError(f"taps is a list of names; write ['{taps}'] instead of '{taps}'")
    named = [("encoder", name, NAMES), ("pool", pool, ("max", "avg")), ("norm", norm, NORMS)]
    named.append(("activation", activation, ACTIVATIONS))
    for kind, value, known in [*named, *(("tap", tap, TAPS) for tap in taps)]:
        if value not in known:
            raise unknown_name(kind, value, known)
    if not taps or len(set(taps)) != len(taps):
        raise UserError(f"taps must name at least one map, each one once, but got {list(taps)}")
    if in_channels < 1:
        raise UserError(f"in_channels must be 1 or more, but got {in_channels}")
    if not 0 < width < math.inf:
        raise UserError(f"width must be a finite number above 0, but got {width}")
    if not 0 <= frozen_stages <= len(CHANNELS):
        raise UserError(f"frozen_stages must be 0 to {len(CHANNELS)}, but got {frozen_stages}")
    if return_indices and pool != "max":
        raise UserError(f"return_indices needs pool='max', but got pool='{pool}', with no argmax")
    if dilate not in (None, 8, 16):
        raise UserError(f"dilate must be 8 or 16, or None, but got {dilate}")
    strides = [stride_of(tap, dilate) for tap in taps]
    if dilate is not None and len(set(strides)) < len(strides):
        raise UserError(
            f"with dilate={dilate}, the taps {list(taps)} have strides {strides}; leave out those "
            "that repeat one"
        )
