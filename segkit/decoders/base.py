"""The base class of the decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from segkit.features import Sizes, Tensors, Wants, check_maps, check_strides


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
        self, maps: Tensors, sizes: Sizes | None = None, indices: Tensors | None = None
    ) -> Tensor:
        """Return logits `(N, num_classes, H, W)`.

        Args:
            maps: the encoder's maps, finest first.
            sizes: `(H, W)` at strides 1, 2, 4, ... to restore; None doubles exactly at each step.
            indices: argmax indices of the encoder's max pools, finest first, for max-unpooling.
        """
        check_maps(maps, self.in_channels, self)
        return self.decode(maps, sizes, indices)

    def decode(self, maps: Tensors, sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Turn maps of the right number and channels into logits; see `forward`."""
        raise NotImplementedError
