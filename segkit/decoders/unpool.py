"""SegNet's decoder: the encoder's mirror image, climbing by un-pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from segkit.blocks import NormName
from segkit.decoders.base import Decoder
from segkit.decoders.climber import UpStep
from segkit.errors import UserError, unknown_name
from segkit.features import FeatureSpec, Sizes, Tensors, Wants, size_at, strides_above
from segkit.registry import register
from segkit.upsample import BedOfNails, MaxUnpool


@register("decoder", "unpool")
class UnpoolDecoder(Decoder):
    """Undo each pool of the encoder, and after it the convolutions before that pool, mirrored.

    Only the coarsest map is read; the channels of the finer ones determine the widths of the
    mirrored stages. With `mode="max"` every step needs the indices of the pool it undoes.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; the maps are pooled ones, of
            strides 2, 4, 8, ... for max-unpooling.
        mode: `max` puts values back where the pool found them, `bed_of_nails` into the corner.
        kernel_size: of the max pools, 2 or 3.
        depths: number of convolutions of each stage to mirror, finest first; None means two each
            here, and the encoder's own in a model built by `segkit.model`.
        norm: normalisation after each convolution.

    Source: Badrinarayanan et al. 2017. A 1x1 head follows the last mirrored stage, as in the other
    decoders; SegNet's last convolution is its own head.

    >>> import torch
    >>> decoder = UnpoolDecoder([8, 16], [2, 4], num_classes=3, mode="bed_of_nails")
    >>> decoder([torch.rand(2, 8, 10, 12), torch.rand(2, 16, 5, 6)]).shape
    torch.Size([2, 3, 20, 24])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        mode: Literal["max", "bed_of_nails"] = "max",
        kernel_size: Literal[2, 3] = 2,
        depths: Sequence[int] | None = None,
        norm: NormName = "batch",
    ) -> None:
        super().__init__(in_channels, strides)
        self.step_strides = strides_above(strides[-1])
        if mode not in ("max", "bed_of_nails"):
            raise unknown_name("mode", mode, ("max", "bed_of_nails"))
        self.mode = mode
        depths = [2] * len(self.step_strides) if depths is None else list(depths)
        if len(depths) != len(self.step_strides) or min(depths, default=1) < 1:
            raise UserError(
                f"depths={depths} must hold a positive number of convolutions for each of the "
                f"{len(self.step_strides)} stages to mirror"
            )
        channels_at = dict(zip(strides, in_channels, strict=True))
        self.steps = nn.ModuleList()
        channels = in_channels[-1]
        for stride, depth in zip(self.step_strides, reversed(depths), strict=True):
            width = channels_at.get(stride, channels)  # the last convolution narrows to the next
            up = MaxUnpool(kernel_size) if mode == "max" else BedOfNails()
            self.steps.append(UpStep(up, [channels] * depth + [width], norm))
            channels = width
        self.head = nn.Conv2d(channels, num_classes, 1)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the map after each pool, and for the indices that undo it."""
        return Wants(place="after_pool", indices=options.get("mode", "max") == "max")

    @staticmethod
    def options_from(specs: Sequence[FeatureSpec]) -> dict[str, list[int]]:
        """Mirror the encoder: as many convolutions as the stage before each pool has."""
        depths = {spec.stride: spec.depth for spec in specs}
        return {"depths": [depths.get(2 * s) or 2 for s in reversed(strides_above(max(depths)))]}

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        undo: list[Tensor | None] = [None] * len(self.steps)
        if self.mode == "max":
            undo = list(indices or ())
            if len(undo) != len(self.steps):
                raise UserError(
                    f"max-unpooling undoes {len(self.steps)} pools and needs the indices of each, "
                    f"finest first, but got {len(undo)}; build the encoder with "
                    "Wants(indices=True) or the decoder with mode='bed_of_nails'"
                )
        x = maps.pop()  # N C H/32 W/32 on VGG
        for stride, step, index in zip(self.step_strides, self.steps, reversed(undo), strict=True):
            x = step(x, size_at(stride, sizes), [], index)  # N width 2H' 2W'
        return self.head(x)  # N num_classes H W
