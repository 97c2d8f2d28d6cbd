"""Plain vision transformers as encoders: a pyramid made of their one map."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from segkit.encoders.staged import grid_sizes
from segkit.encoders.timm_models import block_count, create, load_published, refuse_indices
from segkit.errors import unknown_name
from segkit.features import FeatureSpec, Pyramid, Wants, check_images

EVERY_STRIDE = Wants()
Taps = Literal["last", "spread"]
PATCH = 16  # pixels; the embedding of other patches is resampled to it
PYRAMID = (4, 8, 16, 32)  # strides that are made of this one


class VisionTransformer(nn.Module):
    """A plain vision transformer of timm's, with a simple feature pyramid.

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
        taps: `last` makes all maps of the last block's, as ViTDet does; `spread` makes each of
            another block's, at equal distances, the earliest for the finest map, as DPT does.

    Source: Dosovitskiy et al. 2021 (ViT); Li et al. 2022, arXiv:2203.16527 (ViTDet); Ranftl et al.
        2021, arXiv:2103.13413 (DPT).
    """

    sees_all = True

    def __init__(
        self,
        name: str,
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        pyramid_width: int = 256,
        taps: Taps = "last",
    ) -> None:
        super().__init__()
        if taps not in get_args(Taps):
            raise unknown_name("taps", taps, get_args(Taps))
        refuse_indices(name, wants)
        self.name, self.in_channels = name, in_channels
        chosen = wants.choose(PYRAMID)
        self.stride = max(PATCH, chosen[-1])
        self.specs = tuple(FeatureSpec(f"stride{s}", pyramid_width, s) for s in chosen)
        blocks = block_count(name)
        last = [blocks * (k + 1) // len(PYRAMID) - 1 for k in range(len(PYRAMID))]
        tapped = [blocks - 1 if taps == "last" else last[PYRAMID.index(s)] for s in chosen]
        self._maps = [sorted(set(tapped)).index(block) for block in tapped]
        self._options = {
            "out_indices": sorted(set(tapped)),
            "patch_size": PATCH,
            "dynamic_img_pad": True,
        }
        self.network = create(name, in_channels, **self._options)
        width = self.network.feature_info.channels()[-1]
        self.pyramid = nn.ModuleList(_rescale(width, stride, pyramid_width) for stride in chosen)

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network, and make the maps."""
        check_images(x, self.in_channels, self.stride)
        size = x.shape[-2], x.shape[-1]
        found = self.network(x)  # N C H/16 W/16 each
        maps = {}
        for spec, number, rescale in zip(self.specs, self._maps, self.pyramid, strict=True):
            height, width = (-(-side // spec.stride) for side in size)
            maps[spec.stride] = rescale(found[number])[..., :height, :width]
        return Pyramid([*maps.values()], grid_sizes(x, maps, self.specs[-1].stride))

    def load_weights(self, source: str) -> None:
        """Load the transformer's weights, see `TimmEncoder.load_weights`."""
        load_published(self.network, self.name, self.in_channels, source, self._options)


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
