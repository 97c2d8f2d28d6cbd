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
from segkit.encoders.weights import read_weights, resolve_weights
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Wants, check_images, padding_to
from segkit.registry import Bounds, register_family

EVERY_STRIDE = Wants()
PATCH = 16  # of vision transformers; the embedding of other patches is resampled to it
PYRAMID = (4, 8, 16, 32)  # strides made of a vision transformer's one
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

    Raises:
        UserError: maps that the network does not have, or that do not lie on the image's grid.

    Source: https://github.com/huggingface/pytorch-image-models
    """

    def __init__(self, name: str, wants: Wants = EVERY_STRIDE, in_channels: int = 3) -> None:
        super().__init__()
        _refuse_indices(name, wants)
        self.name, self.in_channels = name, in_channels
        strides, channels = _levels(name)
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


class VisionTransformer(nn.Module):
    """A plain vision transformer of timm's, with a simple feature pyramid on its last map.

    Transposed convolutions and a pool make strides 4, 8, 16 and 32 of the one stride, so that every
    decoder runs on it. Patches are of 16 pixels: where the network was trained with others, as
    DINOv2's of 14, timm resamples the patch embedding, and the image is not stretched. Position
    embeddings are interpolated to the size of the image.

    Shape: `(N, in_channels, H, W)` to a `Pyramid` of maps `(N, width, ceil(H / s), ceil(W / s))`.

    Args:
        name: of the network, without `timm:`.
        wants: what a decoder asks for.
        in_channels: channels of the images.
        pyramid_width: channels of all maps.

    Source: Dosovitskiy et al. 2021 (ViT); Li et al. 2022, arXiv:2203.16527 (the pyramid).
    """

    sees_all = True

    def __init__(
        self,
        name: str,
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        pyramid_width: int = 256,
    ) -> None:
        super().__init__()
        _refuse_indices(name, wants)
        self.name, self.in_channels = name, in_channels
        chosen = wants.choose(PYRAMID)
        self.stride = max(PATCH, chosen[-1])
        self.specs = tuple(FeatureSpec(f"stride{s}", pyramid_width, s) for s in chosen)
        self._options = {"out_indices": 1, "patch_size": PATCH, "dynamic_img_pad": True}
        self.network = create(name, in_channels, **self._options)
        width = self.network.feature_info.channels()[-1]
        self.pyramid = nn.ModuleList(_rescale(width, stride, pyramid_width) for stride in chosen)

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network, and make the maps."""
        check_images(x, self.in_channels, self.stride)
        size = x.shape[-2], x.shape[-1]
        [last] = self.network(x)  # N C H/16 W/16
        maps = {}
        for spec, rescale in zip(self.specs, self.pyramid, strict=True):
            height, width = (-(-side // spec.stride) for side in size)
            maps[spec.stride] = rescale(last)[..., :height, :width]
        return Pyramid([*maps.values()], grid_sizes(x, maps, self.specs[-1].stride))

    def load_weights(self, source: str) -> None:
        """Load the transformer's weights, see `TimmEncoder.load_weights`."""
        load_published(self.network, self.name, self.in_channels, source, self._options)


def create(name: str, in_channels: int, **options: Any) -> Any:
    """Build a network of timm's that takes images of any size and returns maps."""
    timm = _import_timm()
    # most take any size by themselves; transformers need to be told, each kind in its way
    for any_size in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            return timm.create_model(
                name, features_only=True, in_chans=in_channels, **any_size, **options
            )
        except TypeError as error:
            if not any_size or not any(key in str(error) for key in any_size):
                raise
    raise AssertionError


def load_published(
    network: nn.Module, name: str, in_channels: int, source: str, options: dict[str, Any]
) -> None:
    """Load weights into a network that `create` built; nothing changes unless all fit."""
    if source == "imagenet":
        source = _published(name)
    path = resolve_weights(name, source)
    state = read_weights(path)
    # timm itself renames keys, resamples embeddings and adapts the first convolution
    loads = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
    try:
        loaded, again = (create(name, in_channels, **options, **loads).state_dict() for _ in "ab")
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} does not fit timm:{name}: {reason}") from error
    # what the file lacks stays random, and so differs between two networks
    missing = [key for key, value in loaded.items() if not torch.equal(value, again[key])]
    if missing:
        raise UserError(
            f"{path} does not fit timm:{name}: it lacks {len(missing)} tensors, as {missing[0]}"
        )
    network.load_state_dict(loaded)


@register_family("encoder", "timm")
@cache
def timm_network(name: str) -> Builder:
    """Return the builder of an encoder; its `normalization` is the mean and std to train it with.

    Raises:
        UserError: timm is not installed, has no such network, or none that returns maps.
    """
    timm = _import_timm()
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        raise UserError(
            f"timm has no network '{name}'"
            + (f"; did you mean {' or '.join(f'timm:{each}' for each in near)}?" if near else "")
        )
    strides, _ = _levels(name)
    build: Any = _vision_transformer(name) if len(set(strides)) < len(strides) else _backbone(name)
    if (config := timm.get_pretrained_cfg(name)) is not None:
        build.normalization = tuple(config.mean), tuple(config.std)  # of its published weights
    return build


def _backbone(name: str) -> Builder:
    def build(wants: Wants = EVERY_STRIDE, in_channels: int = 3) -> TimmEncoder:
        return TimmEncoder(name, wants, in_channels)

    return build


def _vision_transformer(name: str) -> Builder:
    def build(
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        pyramid_width: Annotated[int, Bounds(ge=1)] = 256,
    ) -> VisionTransformer:
        return VisionTransformer(name, wants, in_channels, pyramid_width=pyramid_width)

    build.__doc__ = VisionTransformer.__doc__  # which tells of the option
    return build


@cache
def _levels(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides and the channels of all maps that a network has."""
    try:
        with torch.device("meta"):
            info = create(name, 3).feature_info
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"timm:{name} returns no maps; choose another network") from error
    return tuple(info.reduction()), tuple(info.channels())


def _rescale(channels: int, stride: int, width: int) -> nn.Sequential:
    """Build what turns the map of a transformer into one of another stride."""
    from timm.layers import LayerNorm2d

    layers: list[nn.Module] = []
    if stride == 32:
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    for step in range((PATCH // stride).bit_length() - 1 if stride < PATCH else 0):
        if step:
            layers += [LayerNorm2d(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels //= 2
    layers += [nn.Conv2d(channels, width, 1, bias=False), LayerNorm2d(width)]
    layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width)]
    return nn.Sequential(*layers)


def _published(name: str) -> str:
    """Return the address on the hub of the weights that timm publishes under a name."""
    config = _import_timm().get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UserError(f"timm publishes no weights for '{name}'; use weights: null, or a file")
    return f"hf://{config.hf_hub_id}"


def _refuse_indices(name: str, wants: Wants) -> None:
    if wants.indices:
        raise UserError(
            f"timm:{name} returns no indices for max-unpooling; use a VGG or LeNet encoder, or "
            "another decoder"
        )


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError("timm's networks need timm; pip install 'segkit[timm]'") from error
    return timm
