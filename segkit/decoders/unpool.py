"""SegNet's decoder: the encoder's mirror image, climbing by un-pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from segkit.blocks import NormName
from segkit.decoders.step import UpStep
from segkit.errors import UserError, unknown_name
from segkit.features import Size, Wants, check_maps, check_strides, size_at, strides_above
from segkit.upsample import BedOfNails, MaxUnpool


class UnpoolDecoder(nn.Module):
    """Undo each pool of the encoder, and after it the convolutions before that pool, mirrored.

    Only the coarsest map carries content; the channels of the finer ones tell how wide each
    mirrored stage is. With `mode="max"` every step needs the indices of the pool it undoes.

    Args:
        in_channels: channels of the pooled maps, finest first.
        strides: their strides, 2, 4, 8, ... for max-unpooling.
        num_classes: channels of the logits.
        mode: `max` puts values back where the pool found them, `bed_of_nails` into the corner.
        depths: convolutions of the encoder's stages to mirror, finest first; None takes two each.
            (`segkit.model.build_model` fills in the encoder's own.)
        norm: of the convolutions.

    Shape: maps `(N, in_channels[i], H / strides[i], W / strides[i])` to `(N, num_classes, H, W)`.

    Raises:
        UserError: channels, strides or depths that do not fit together; no indices in mode max.

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
        depths: Sequence[int] | None = None,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        check_strides(in_channels, strides)
        self.in_channels = tuple(in_channels)
        self.strides = strides_above(strides[-1])
        if mode not in ("max", "bed_of_nails"):
            raise unknown_name("mode", mode, ("max", "bed_of_nails"))
        self.mode = mode
        depths = [2] * len(self.strides) if depths is None else list(depths)
        if len(depths) != len(self.strides) or min(depths, default=1) < 1:
            raise UserError(
                f"depths={depths} must hold a positive number of convolutions for each of the "
                f"{len(self.strides)} stages to mirror"
            )
        channels_at = dict(zip(strides, in_channels, strict=True))
        self.steps = nn.ModuleList()
        channels = in_channels[-1]
        for stride, depth in zip(self.strides, reversed(depths), strict=True):
            width = channels_at.get(stride, channels)  # the last convolution narrows to the next
            up = MaxUnpool() if mode == "max" else BedOfNails()
            self.steps.append(UpStep(up, [channels] * depth + [width], norm))
            channels = width
        self.head = nn.Conv2d(channels, num_classes, 1)

    @staticmethod
    def wants(mode: str = "max", **options: object) -> Wants:
        """Ask a VGG encoder for its pooled maps, and for the indices to undo them."""
        return Wants(("pool1", "pool2", "pool3", "pool4", "pool5"), indices=mode == "max")

    def forward(
        self,
        maps: Sequence[Tensor],
        sizes: Sequence[Size] | None = None,
        indices: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Turn maps into logits at stride 1."""
        check_maps(maps, self.in_channels, self)
        steps = len(self.strides)
        undo = self._indices(indices) if self.mode == "max" else [None] * steps
        x = maps[-1]  # N C H/32 W/32 for pool5
        for stride, step, index in zip(self.strides, self.steps, reversed(undo), strict=True):
            x = step(x, size_at(stride, sizes), indices=index)  # N width 2H' 2W'
        return self.head(x)  # N num_classes H W

    def _indices(self, indices: Sequence[Tensor] | None) -> Sequence[Tensor]:
        got = 0 if indices is None else len(indices)
        if indices is None or got != len(self.strides):
            raise UserError(
                f"max-unpooling undoes {len(self.strides)} pools and needs the indices of each, "
                f"finest first, but got {got}; build the encoder with return_indices=True or the "
                "decoder with mode='bed_of_nails'"
            )
        return indices
