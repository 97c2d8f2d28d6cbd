"""LeNet-5's two stages: the smallest encoder, and the one to read first."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Size, Wants, check_images
from segkit.registry import Bounds, register

CHANNELS = (6, 16)  # of the two stages
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
EVERY_STRIDE = Wants()


@register("encoder", "lenet")
class LeNetEncoder(nn.Module):
    """Two 5x5 convolutions, each followed by an activation and a 2x2 pool.

    The convolutions are padded, so that they keep the size.

    Shape: `(N, in_channels, H, W)` to a `Pyramid` of maps `(N, C, H // s, W // s)`, at strides 1
        and 2 before the pools, 2 and 4 after them.

    Args:
        wants: what a decoder asks for.
        in_channels: channels of the images.
        activation: `tanh` as published, or `relu`.
        pool: `avg` as published, or `max`, which max-unpooling needs.
        frozen_stages: number of first stages whose weights do not change.

    Source: LeCun et al. 1998.
    """

    def __init__(
        self,
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        activation: Literal["tanh", "relu"] = "tanh",
        pool: Literal["avg", "max"] = "avg",
        frozen_stages: Annotated[int, Bounds(ge=0, le=2)] = 0,
    ) -> None:
        super().__init__()
        if wants.indices and pool != "max":
            raise UserError("max-unpooling needs the indices of max pools; set pool: max for lenet")
        self.in_channels, self.wants, self.pool = in_channels, wants, pool
        first = 1 if wants.place == "before_pool" else 2  # stride of the finest map
        chosen = wants.choose([first, 2 * first])
        self.stride = chosen[-1]
        self.specs = tuple(
            FeatureSpec(f"stage{number}", CHANNELS[number - 1], first * number, depth=1)
            for number in (1, 2)
            if first * number in chosen
        )
        self.stages = nn.ModuleList()
        before = in_channels
        for channels in CHANNELS[: self.stride // first]:
            conv = nn.Conv2d(before, channels, kernel_size=5, padding=2)
            self.stages.append(nn.Sequential(conv, ACTIVATIONS[activation]()))
            before = channels
        self.stages[:frozen_stages].requires_grad_(False)

    def forward(self, x: Tensor) -> Pyramid:
        """Return the maps that are wanted."""
        check_images(x, self.in_channels, self.stride)
        after_pool, stride = self.wants.place == "after_pool", 1
        strides = [spec.stride for spec in self.specs]
        maps: list[Tensor] = []
        sizes: list[Size] = []
        indices: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)  # N 6 H W, then N 16 H/2 W/2
            if not after_pool and stride in strides:
                maps.append(x)
            if stride == self.stride:
                break
            sizes.append((x.shape[-2], x.shape[-1]))
            x, stride = self._pool(x, indices), 2 * stride
            if after_pool and stride in strides:
                maps.append(x)
        return Pyramid(maps, sizes, indices if self.wants.indices else None)

    def _pool(self, x: Tensor, indices: list[Tensor]) -> Tensor:
        """Halve the resolution, and note where the largest values were."""
        if self.pool == "avg":
            return F.avg_pool2d(x, 2)
        pooled: Any = F.max_pool2d(x, 2, return_indices=True)
        indices.append(pooled[1])
        return pooled[0]
