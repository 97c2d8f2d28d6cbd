"""Torchvision's classification networks as encoders: its layers, its key names, its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.encoders.staged import StagedEncoder, find_stages
from segkit.errors import UserError
from segkit.features import Wants
from segkit.registry import Bounds, register

EVERY_STRIDE = Wants()
FrozenStages = Annotated[int, Bounds(ge=0, le=5)]
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RESNET_LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
GOOGLENET_LAYERS = (
    *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b"),
    *("maxpool3", "inception4a", "inception4b", "inception4c", "inception4d", "inception4e"),
    *("maxpool4", "inception5a", "inception5b"),
)
# how many of `features` are run: EfficientNet's last one belongs to its classifier, as in timm
FEATURES = {
    **{f"efficientnet_b{size}": 8 for size in range(8)},
    "mobilenet_v3_large": 17,
    **{f"convnext_{size}": 8 for size in ("tiny", "small", "base")},
}


def make_network(name: str, in_channels: int, **options: Any) -> Any:
    """Build a network of torchvision's with random weights, for images of any channels."""
    from torchvision.models import get_model  # takes seconds to import

    network = get_model(name, weights=None, **options)
    if in_channels != 3:
        convs: Any = ((path, m) for path, m in network.named_modules() if isinstance(m, nn.Conv2d))
        path, rgb = next(convs)
        shape = rgb.out_channels, rgb.kernel_size, rgb.stride, rgb.padding
        conv = nn.Conv2d(in_channels, *shape, bias=rgb.bias is not None)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        parent, _, child = path.rpartition(".")
        setattr(network.get_submodule(parent), child, conv)
    return network


class RescaledStem(nn.Module):
    """GoogLeNet's first layers, whose weights expect RGB images from -1 to 1.

    Args:
        stem: the layers as torchvision has them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, stem: Any) -> None:
        super().__init__()
        self.conv, self.bn = stem.conv, stem.bn
        statistics = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))  # mean and std
        scale = torch.tensor([std / 0.5 for _, std in statistics]).view(3, 1, 1)
        shift = torch.tensor([(mean - 0.5) / 0.5 for mean, _ in statistics]).view(3, 1, 1)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Undo ImageNet's normalisation, and run the layers."""
        x = x * self.scale + self.shift
        return F.relu(self.bn(self.conv(x)), inplace=True)


def make_googlenet(name: str, in_channels: int) -> Any:
    """Build GoogLeNet, also known as Inception v1, with batch norm as torchvision has it."""
    network = make_network(name, in_channels, init_weights=False)
    if in_channels == 3:
        network.conv1 = RescaledStem(network.conv1)
    return network


def _resnet(name: str) -> Callable[..., StagedEncoder]:
    def build(
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        dilate: Literal[8, 16] | None = None,
        checkpointing: bool = False,
        frozen_stages: FrozenStages = 0,
    ) -> StagedEncoder:
        """Build a ResNet, with the strides of its blocks in their 3x3 convolutions.

        Args:
            dilate: stride that the last stages keep, by dilated convolutions instead of strides;
                for ResNets with bottleneck blocks, 50 and deeper.
            checkpointing: recompute each stage in the backward pass instead of storing its maps.
            frozen_stages: number of first stages whose weights and statistics do not change.

        Source: He et al. 2016, arXiv:1512.03385; Yu and Koltun 2016 (dilation).
        """
        options = {}
        if dilate is not None:
            if name in ("resnet18", "resnet34"):
                raise UserError(
                    f"dilate needs bottleneck blocks, which '{name}' does not have; use resnet50, "
                    "resnet101 or resnet152"
                )
            options["replace_stride_with_dilation"] = [False, dilate == 8, True]
        network = make_network(name, in_channels, **options)
        return StagedEncoder(
            name,
            network,
            find_stages(network, RESNET_LAYERS, in_channels),
            wants,
            in_channels,
            checkpointing=checkpointing,
            frozen_stages=frozen_stages,
        )

    return build


def _factory(
    name: str, make: Callable[[str, int], Any], layers: Sequence[str]
) -> Callable[..., StagedEncoder]:
    def build(
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        checkpointing: bool = False,
        frozen_stages: FrozenStages = 0,
    ) -> StagedEncoder:
        """Build torchvision's network without its classifier.

        Args:
            checkpointing: recompute each stage in the backward pass instead of storing its maps.
            frozen_stages: number of first stages whose weights and statistics do not change.

        Source: Szegedy et al. 2015 (GoogLeNet), Tan and Le 2019 (EfficientNet), Howard et al. 2019
            (MobileNetV3), Liu et al. 2022 (ConvNeXt).
        """
        network = make(name, in_channels)
        return StagedEncoder(
            name,
            network,
            find_stages(network, layers, in_channels),
            wants,
            in_channels,
            checkpointing=checkpointing,
            frozen_stages=frozen_stages,
        )

    return build


for _name in RESNETS:
    register("encoder", _name)(_resnet(_name))
register("encoder", "googlenet")(_factory("googlenet", make_googlenet, GOOGLENET_LAYERS))
for _name, _count in FEATURES.items():
    _layers = [f"features.{number}" for number in range(_count)]
    register("encoder", _name)(_factory(_name, make_network, _layers))
