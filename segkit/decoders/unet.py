"""U-Net: at every stride of the encoder, concatenate its map of the same resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from segkit.blocks import NormName, make_norm
from segkit.decoders.climber import Climber
from segkit.errors import UserError
from segkit.features import Wants
from segkit.registry import register
from segkit.upsample import make_upsampler


def _refuse_max_unpool(upsample: str) -> str:
    if upsample == "max_unpool":
        raise UserError(
            "U-Net cannot climb by max_unpool, whose indices fit only maps with the encoder's "
            "channels; max-unpooling is the decoder 'unpool', and U-Net's default is 'bilinear'"
        )
    return upsample


@register("decoder", "unet")
class UNetDecoder(Climber):
    """Climb from the coarsest map, concatenating the finer ones on the way.

    A stride that has no map (the finest strides of most backbones) is reached without a skip, so
    the logits are always at stride 1.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`.
        upsample: upsampling of each x2 step. Max-unpooling is the decoder `unpool`: its indices
            fit only maps with the encoder's channels.
        widths: channels of the steps to strides 1, 2, 4, ...; None halves them with each step.
        depth: number of convolutions after each step.
        norm: normalisation after each convolution.
        normalize_maps: normalise each map before it is concatenated. Maps of an encoder with norm
            layers need none; those of a pretrained one without, such as plain VGG, differ a
            hundredfold in scale, and the largest would drown out the rest.

    Source: Ronneberger et al. 2015, with convolutions that keep the size.

    >>> import torch
    >>> decoder = UNetDecoder(in_channels=[8, 16, 32], strides=[1, 2, 4], num_classes=3)
    >>> maps = [torch.rand(2, 8, 33, 20), torch.rand(2, 16, 16, 10), torch.rand(2, 32, 8, 5)]
    >>> decoder(maps).shape
    torch.Size([2, 3, 33, 20])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        upsample: Annotated[
            Literal["nearest", "bilinear", "bicubic", "bed_of_nails", "transposed"],
            _refuse_max_unpool,
        ] = "bilinear",
        widths: Sequence[int] | None = None,
        depth: int = 2,
        norm: NormName = "batch",
        normalize_maps: bool = False,
    ) -> None:
        super().__init__(in_channels, strides)
        _refuse_max_unpool(upsample)
        if normalize_maps and norm == "none":
            raise UserError("normalize_maps=True needs norm='batch' or 'group', but norm is 'none'")
        self.map_norms = nn.ModuleList(
            make_norm(norm, channels) if normalize_maps else nn.Identity()
            for channels in in_channels
        )
        skips = dict(zip(strides[:-1], in_channels, strict=False))
        self.build(num_classes, partial(make_upsampler, upsample), widths, depth, norm, skips)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for a map at every stride."""
        return Wants()

    def take(self, maps: list[Tensor]) -> Tensor:
        """Take the coarsest map out of the list, normalised."""
        norm = self.map_norms[len(maps) - 1]
        return norm(maps.pop())
