"""The networks of timm as encoders, by the name `timm:NAME`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.encoders.staged import grid_sizes
from segkit.encoders.timm_models import (
    create,
    feature_levels,
    import_timm,
    load_published,
    refuse_indices,
)
from segkit.encoders.vision_transformer import Taps, VisionTransformer
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Wants, check_images, padding_to
from segkit.registry import Bounds, register_family

EVERY_STRIDE = Wants()
Builder = Callable[..., nn.Module]


class TimmEncoder(nn.Module):
    """A network of timm's whose maps have rising strides.

    Shape: `(N, in_channels, H, W)` with H, W >= `stride` to a `Pyramid`; a map of stride s is
        about `(N, C, H / s, W / s)`, rounded as the network does.

    Args:
        name: of the network, without `timm:`.
        wants: what a decoder asks for. There is one map a stride, which serves before a pool as
            well as after it.
        in_channels: channels of the images.
        frozen_stages: number of first strides with a map; the layers that these maps are made of
            keep their weights and statistics.

    Raises:
        UserError: maps that the network does not have, or that do not lie on the image's grid; an
            option out of range.

    Source: https://github.com/huggingface/pytorch-image-models
    """

    def __init__(
        self,
        name: str,
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        refuse_indices(name, wants)
        self.name, self.in_channels = name, in_channels
        strides, channels = feature_levels(name)
        chosen = wants.choose(strides)
        self.stride = chosen[-1]
        self._strides = [stride for stride in strides if stride <= self.stride]
        self.specs = tuple(
            FeatureSpec(f"stride{stride}", width, stride)
            for stride, width in zip(strides, channels, strict=True)
            if stride in chosen
        )
        self._options = {"out_indices": tuple(range(len(self._strides)))}
        self.network = create(name, in_channels, **self._options)
        self._channels_come_last = self._takes_multiples = False
        self._try_out(channels)
        if not 0 <= frozen_stages <= len(self._strides):
            most = len(self._strides)
            raise UserError(f"frozen_stages must be 0 to {most}, but got {frozen_stages}")
        self._frozen: list[nn.Module] = []
        if frozen_stages:
            self._freeze(frozen_stages)
            self.train()

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network up to the deepest map."""
        check_images(x, self.in_channels, self.stride)
        bottom, right = padding_to(self.stride, x) if self._takes_multiples else (0, 0)
        maps = self.network(F.pad(x, (0, right, 0, bottom)))
        if self._channels_come_last:
            maps = [found.permute(0, 3, 1, 2) for found in maps]
        found = {}
        for stride, grown in zip(self._strides, maps, strict=True):
            height, width = (-(-side // stride) for side in x.shape[-2:])
            found[stride] = grown[..., :height, :width]
        sizes = grid_sizes(x, found, self.stride)
        return Pyramid([found[spec.stride] for spec in self.specs], sizes)

    def train(self, mode: bool = True) -> TimmEncoder:
        """Set training mode, except for frozen layers, whose statistics must not change."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def load_weights(self, source: str) -> None:
        """Load weights, which timm fits to the network and the number of channels.

        Args:
            source: `imagenet` for those that timm publishes under this name, or see
                `resolve_weights`; a file has timm's key names.

        Raises:
            UserError: a failed download, or weights that cannot be read or do not fit.
        """
        load_published(self.network, self.name, self.in_channels, source, self._options)

    @torch.no_grad()
    def _try_out(self, channels: Sequence[int]) -> None:
        """See what the network takes and returns; refuse one without padding, whose cells drift."""
        side = 4 * max(self.stride, 32)
        self.network.eval()
        image = torch.zeros(1, self.in_channels, side, side)
        maps = self.network(image)
        try:
            self.network(image[..., 1:, 1:])
        except (AssertionError, RuntimeError):
            self._takes_multiples = True
        self.network.train()
        self._channels_come_last = maps[0].shape[1] != channels[0]
        for stride, found in zip(self._strides, maps, strict=True):
            cells = found.shape[2]
            if cells != side // stride:
                raise UserError(
                    f"timm:{self.name} has no padding: of {side} pixels it makes {cells} cells of "
                    f"stride {stride}; choose another network"
                )

    def _freeze(self, stages: int) -> None:
        """Freeze the layers that the first maps are made of: those their gradients reach."""
        owners = [(p, layer) for layer in self.network.modules() for p in layer.parameters(False)]
        self.network.eval()
        with torch.enable_grad():
            side = 4 * max(self.stride, 32)
            maps = self.network(torch.zeros(1, self.in_channels, side, side))
            total = torch.stack([found.sum() for found in maps[:stages]]).sum()
            reached = torch.autograd.grad(total, [p for p, _ in owners], allow_unused=True)
        for (parameter, layer), gradient in zip(owners, reached, strict=True):
            if gradient is not None:
                parameter.requires_grad_(False)
                self._frozen.append(layer)


@register_family("encoder", "timm")
@cache
def timm_network(name: str) -> Builder:
    """Return the builder of an encoder; its `normalization` is the mean and std to train it with.

    Raises:
        UserError: timm is not installed, has no such network, or none that returns maps.
    """
    timm = import_timm()
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        raise UserError(
            f"timm has no network '{name}'"
            + (f"; did you mean {' or '.join(f'timm:{each}' for each in near)}?" if near else "")
        )
    strides, _ = feature_levels(name)
    build: Any = _vision_transformer(name) if len(set(strides)) < len(strides) else _backbone(name)
    if (config := timm.get_pretrained_cfg(name)) is not None:
        build.normalization = tuple(config.mean), tuple(config.std)  # of its published weights
    return build


def _backbone(name: str) -> Builder:
    def build(
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        frozen_stages: Annotated[int, Bounds(ge=0)] = 0,
    ) -> TimmEncoder:
        return TimmEncoder(name, wants, in_channels, frozen_stages=frozen_stages)

    build.__doc__ = TimmEncoder.__doc__  # which tells of the option
    return build


def _vision_transformer(name: str) -> Builder:
    def build(
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        pyramid_width: Annotated[int, Bounds(ge=1)] = 256,
        taps: Taps = "last",
    ) -> VisionTransformer:
        return VisionTransformer(name, wants, in_channels, pyramid_width=pyramid_width, taps=taps)

    build.__doc__ = VisionTransformer.__doc__  # which tells of the options
    return build
