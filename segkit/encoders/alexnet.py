"""AlexNet as an encoder: torchvision's layers, brought onto the image's grid."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segkit.encoders.staged import Stage, StagedEncoder
from segkit.encoders.torchvision_networks import EVERY_STRIDE, FrozenStages, make_network
from segkit.features import Wants
from segkit.registry import register

STAGES = (
    Stage(("features.0", "features.1"), 64, 4),
    Stage(("features.2", "features.3", "features.4"), 192, 8),
    Stage(tuple(f"features.{number}" for number in range(5, 12)), 256, 16),
    Stage(("features.12",), 256, 32),
)
# The pools have no padding, so that the cells drift from the image's grid, at stride 32 by half of
# their side. With these margins of zeros, and the first cells left out, it is 0.4 at the most.
BEFORE, AFTER = 12, 19  # pixels above and to the left, below and to the right
LEFT_OUT = {4: 3, 8: 1, 16: 0, 32: 0}  # cells, by stride


@register("encoder", "alexnet")
class AlexNetEncoder(StagedEncoder):
    """AlexNet, at strides 4 to 32.

    The maps are those of torchvision's network on the image with margins, cropped.

    Args:
        checkpointing: recompute each stage in the backward pass instead of storing its maps.
        frozen_stages: number of first stages whose weights and statistics do not change.

    Source: Krizhevsky 2014, arXiv:1404.5997.
    """

    def __init__(
        self,
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        checkpointing: bool = False,
        frozen_stages: FrozenStages = 0,
    ) -> None:
        super().__init__(
            "alexnet",
            make_network("alexnet", in_channels),
            STAGES,
            wants,
            in_channels,
            checkpointing=checkpointing,
            frozen_stages=frozen_stages,
        )

    def maps_of(self, x: Tensor) -> dict[int, Tensor]:
        """Run the network with margins, and crop its maps to the image's grid."""
        height, width = x.shape[-2:]
        maps = super().maps_of(F.pad(x, (BEFORE, AFTER, BEFORE, AFTER)))
        for stride, found in maps.items():
            first = LEFT_OUT[stride]
            rows, columns = first + height // stride, first + width // stride
            maps[stride] = found[..., first:rows, first:columns]
        return maps
