"""U-Net: at every stride of the encoder, concatenate its map of the same resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, get_args

from torch import Tensor, nn

from segkit.blocks import NormName, make_norm
from segkit.decoders.attention import GatedStep, SCSEStep
from segkit.decoders.climber import Climber, step_widths
from segkit.decoders.head import ScoreHead
from segkit.errors import UserError, unknown_name
from segkit.features import Sizes, Tensors, Wants
from segkit.registry import register
from segkit.upsample import make_upsampler

Attention = Literal["none", "gates", "scse"]


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
        attention: `gates` weighs each pixel of the encoder's maps by what climbs to it; `scse`
            weighs the joined maps and the result of a step by channel and by pixel.
        deep_supervision: also score each step but the last, in training alone. The logits then
            come as a mapping: `out`, and `aux2`, `aux4`, ... by the stride they were made at.

    Source: Ronneberger et al. 2015, with convolutions that keep the size; Oktay et al. 2018
        (`gates`), Roy et al. 2018 (`scse`), Lee et al. 2015 (deep supervision).

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
        attention: Attention = "none",
        deep_supervision: bool = False,
    ) -> None:
        super().__init__(in_channels, strides)
        _refuse_max_unpool(upsample)
        if attention not in get_args(Attention):
            raise unknown_name("attention", attention, get_args(Attention))
        if normalize_maps and norm == "none":
            raise UserError("normalize_maps=True needs norm='batch' or 'group', but norm is 'none'")
        self.map_norms = nn.ModuleList(
            make_norm(norm, channels) if normalize_maps else nn.Identity()
            for channels in in_channels
        )
        skips = dict(zip(strides[:-1], in_channels, strict=False))
        self.attention = attention
        self.build(num_classes, partial(make_upsampler, upsample), widths, depth, norm, skips)
        self.aux_heads = nn.ModuleDict()
        if deep_supervision:
            at = step_widths(widths, in_channels[-1], self.step_strides)
            for stride in self.step_strides[-2::-1]:  # 2, 4, ...
                self.aux_heads[f"aux{stride}"] = ScoreHead(at[stride], num_classes, stride)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for a map at every stride."""
        return Wants()

    def take(self, maps: list[Tensor]) -> Tensor:
        """Take the coarsest map out of the list, normalised."""
        norm = self.map_norms[len(maps) - 1]
        return norm(maps.pop())

    def make_step(
        self, up: nn.Module, channels: int, skip: int, width: int, depth: int, norm: NormName
    ) -> nn.Module:
        """Build a step, with attention where there is something to attend to."""
        shape = channels, skip, width, depth, norm
        if self.attention == "scse":
            return SCSEStep(up, *shape)
        if self.attention == "gates" and skip:
            return GatedStep(up, *shape)
        return super().make_step(up, *shape)

    def decode(
        self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None
    ) -> Tensor | dict[str, Tensor]:
        """Return the logits; see `Decoder.forward`."""
        if not (self.aux_heads and self.training):
            return super().decode(maps, sizes, indices)
        _, *coarser, last = self.climb(maps, sizes)
        logits = {"out": self.head(last)}
        for (name, head), x in zip(self.aux_heads.items(), reversed(coarser), strict=True):
            logits[name] = head(x, sizes)
        return logits
