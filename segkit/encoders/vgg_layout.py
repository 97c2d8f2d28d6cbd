"""The columns of the VGG paper's Table 1, their taps and their layers."""

from __future__ import annotations

from torch import nn

CONVS, POOLS = (tuple(f"{kind}{k}" for k in range(1, 6)) for kind in ("conv", "pool"))
TAPS = tuple(tap for stage in zip(CONVS, POOLS, strict=True) for tap in stage)
CHANNELS = (64, 128, 256, 512, 512)  # of the five stages


KERNELS: dict[str, tuple[tuple[int, ...], ...]] = {  # sizes of the convolutions of each stage
    "vgg11": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A
    "vgg11_lrn": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A-LRN, see `conv_norm_relu`
    "vgg13": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),  # B
    "vgg16_1x1": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),  # C
    "vgg16": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),  # D
    "vgg19": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),  # E
}
NAMES = (*KERNELS, "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")  # *_bn: with batch norm


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, norm: str, lrn: bool
) -> list[nn.Module]:
    """List a convolution, its normalisation and its ReLU, as torchvision numbers them."""
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
