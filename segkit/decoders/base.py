"""The base class of the decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from segkit.errors import UserError
from segkit.features import (
    Disposable,
    Size,
    Sizes,
    Tensors,
    Wants,
    check_maps,
    check_strides,
)


class Decoder(nn.Module):
    """A list of maps in, logits at full resolution out; subclasses implement `decode`.

    Two more methods are optional, and `segkit.model` calls them where they exist:
    `options_from(specs)`, static, returns values from the encoder's `FeatureSpec`s for options
    that are None; `load_weights(encoder)` loads the decoder's own pretrained weights.

    Args:
        in_channels: channels of the maps, finest first.
        strides: their strides, rising powers of two.

    Attributes:
        sees_all: every logit depends on the whole image (global pooling, attention), so that
            exact tiles are impossible.

    Shape: maps `(N, in_channels[i], H / strides[i], W / strides[i])` to `(N, num_classes, H, W)`.

    Raises:
        UserError: channels, strides, options, maps or sizes that do not fit together.
    """

    sees_all = False

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        check_strides(in_channels, strides)
        self.in_channels = tuple(in_channels)
        self.strides = tuple(strides)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Return what a decoder with these options asks of an encoder: by default, all strides."""
        return Wants()

    def forward(
        self,
        maps: Tensors,
        sizes: Sizes | None = None,
        indices: Tensors | None = None,
        size: Size | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Return logits `(N, num_classes, H, W)`.

        With deep supervision, and in training alone, a decoder returns a mapping as torchvision's
        models do: the logits under `out`, and others to be trained under names with `aux`.

        Without `sizes` every step doubles exactly. Backbones of strided convolutions (most of
        torchvision's and timm's) round odd sizes up, so that an image of 181x221 gives logits of
        182x222 or more; `size=image.shape[-2:]` crops them.

        Args:
            maps: the encoder's maps, finest first; the list stays as it is unless `Disposable`.
            sizes: `(H, W)` at strides 1, 2, 4, ..., to which each step is padded or cropped.
            indices: argmax indices of the encoder's max pools, finest first, for max-unpooling.
            size: `(H, W)` of the image, to which the logits are cropped at the bottom and right,
                whether `sizes` are given or not.

        Raises:
            UserError: maps, sizes or indices that do not fit, or logits smaller than `size`.
        """
        check_maps(maps, self.in_channels, self)
        own = maps if isinstance(maps, Disposable) else list(maps)
        logits = self.decode(own, sizes, indices)
        if size is None:
            return logits
        if isinstance(logits, dict):
            return {name: self._cropped(each, size) for name, each in logits.items()}
        return self._cropped(logits, size)

    def _cropped(self, logits: Tensor, size: Size) -> Tensor:
        height, width = size
        if logits.shape[-2] < height or logits.shape[-1] < width:
            raise UserError(
                f"the logits are {tuple(logits.shape[-2:])}, smaller than size={tuple(size)}; pad "
                f"the image to a multiple of {self.strides[-1]}, or pass the sizes recorded before "
                "each pool"
            )
        return logits[..., :height, :width]

    def decode(
        self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None
    ) -> Tensor | dict[str, Tensor]:
        """Turn maps of the right number and channels into logits; see `forward`.

        The list is the decoder's own. A map that is taken out of it, as by `maps.pop()`, is freed
        once it has been read, which saves memory in prediction. A subclass that needs the maps
        after `super().decode(maps, ...)` passes a copy of the list.
        """
        raise NotImplementedError
