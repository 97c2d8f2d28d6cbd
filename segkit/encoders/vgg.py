"""The VGG family as encoders: configurations A to E, with torchvision's layer numbers and keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segkit.blocks import NormName
from segkit.encoders.recompute import recomputed
from segkit.encoders.vgg_layout import (
    CHANNELS,
    CONVS,
    KERNELS,
    NAMES,
    POOLS,
    TAPS,
    ActivationName,
    check_options,
    conv_norm_act,
    stride_of,
)
from segkit.encoders.weights import fit_input_channels, load_checked, read_weights, resolve_weights
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Size, Wants, check_images
from segkit.registry import Bounds, register

FIRST_CONV = "features.0.weight"
EVERY_STRIDE = Wants()


class VGGEncoder(nn.Module):
    """VGG without its classifier, returning the maps of the given taps.

    `convK` is the output of the last activation before pool K (stride 2^(K-1)), `poolK` that of
    pool K (stride 2^K). Nothing after the deepest tap is built. `features` has torchvision's layer
    numbers and key names, so torchvision's weight files fit unchanged.

    Shape: `(N, in_channels, H, W)` with H, W >= `stride` to a `Pyramid`; the map of a tap of
        stride s is `(N, C, H // s, W // s)`. `sizes` has one (H, W) per executed pool.

    Args:
        name: network of the family, one of `NAMES`.
        taps: names of the maps to return, in any order; they are returned finest first.
        in_channels: channels of the images.
        pool: `max` as in the paper, or `avg`.
        activation: after each convolution, `relu` as published.
        dilate: stride that the last stages keep: later pools do nothing, and the convolutions
            after them are dilated instead; None: the stride grows to the end.
        norm: normalisation before each activation; None is batch norm for `*_bn`, else none.
        width: factor on all channel counts; weight files fit only at 1.
        checkpointing: recompute each stage in the backward pass instead of storing its maps.
        frozen_stages: number of first stages whose weights and statistics do not change.
        return_indices: also return the argmax indices of the max pools.

    Raises:
        UserError: an option out of range; an input of other channels or smaller than `stride`.

    Source: Simonyan and Zisserman 2014, arXiv:1409.1556, Table 1; Yu and Koltun 2016,
        arXiv:1511.07122 (dilation).

    >>> encoder = VGGEncoder("vgg16", taps=["conv5", "pool3"], width=1 / 8)
    >>> [(spec.name, spec.channels, spec.stride) for spec in encoder.specs]
    [('pool3', 32, 8), ('conv5', 64, 16)]
    """

    def __init__(
        self,
        name: str,
        taps: Sequence[str] = CONVS,
        *,
        in_channels: int = 3,
        pool: Literal["max", "avg"] = "max",
        activation: ActivationName = "relu",
        dilate: Literal[8, 16] | None = None,
        norm: NormName | None = None,
        width: float = 1.0,
        checkpointing: bool = False,
        frozen_stages: int = 0,
        return_indices: bool = False,
    ) -> None:
        super().__init__()
        own_norm: NormName = "batch" if name.endswith("_bn") else "none"
        norm = norm or own_norm
        check_options(
            *(name, taps, in_channels, pool, norm, width, frozen_stages, return_indices),
            *(activation, dilate),
        )
        kernels = KERNELS[name.removesuffix("_bn")]
        self.name, self.in_channels, self.checkpointing = name, in_channels, checkpointing
        self._as_published = width == 1 and norm == own_norm and activation == "relu"
        layers: list[nn.Module] = []
        specs: list[FeatureSpec] = []
        starts: list[int] = []  # first layer of each stage
        self._tapped: list[int] = []  # layers whose outputs are asked for
        channels = in_channels
        deepest = max(map(TAPS.index, taps))
        for step, tap in enumerate(TAPS[: deepest + 1]):  # conv1, pool1, conv2, ...
            stage, is_pool = divmod(step, 2)
            stride = stride_of(tap, dilate)
            if is_pool and stride < 2 ** (stage + 1):
                layers.append(nn.Identity())
            elif is_pool:  # floor mode: the last odd row and column are dropped
                max_pool = nn.MaxPool2d(2, 2, return_indices=return_indices)
                layers.append(max_pool if pool == "max" else nn.AvgPool2d(2, 2))
            else:
                starts.append(len(layers))
                before, channels = channels, max(1, round(CHANNELS[stage] * width))
                for kernel in kernels[stage]:
                    lrn = name == "vgg11_lrn" and not layers
                    shape = before, channels, kernel
                    layers += conv_norm_act(*shape, norm, lrn, activation, 2**stage // stride)
                    before = channels
            if tap in taps:
                specs.append(FeatureSpec(tap, channels, stride, len(kernels[stage])))
                self._tapped.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.specs = tuple(specs)
        self.stride = specs[-1].stride
        ends = [*starts, len(layers)]
        self._stages = [range(start, end) for start, end in pairwise(ends)]
        self._return_indices = return_indices
        self._frozen_layers = ends[min(frozen_stages, len(starts))]
        self.features[: self._frozen_layers].requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network up to the deepest tap; see the class for shapes and errors."""
        check_images(x, self.in_channels, self.stride)
        maps: list[Tensor] = []
        sizes: list[Size] = []
        indices: list[Tensor] = []
        run = self._run_recomputed if self.checkpointing and is_grad_enabled() else self._run
        for number, stage in enumerate(self._stages):
            if 2 ** (number + 1) <= self.stride:  # the stage ends in a pool
                sizes.append((x.shape[-2], x.shape[-1]))
            new_maps, new_indices, x = run(stage, x)  # x (N, C, H, W) to (N, C', H // 2, W // 2)
            maps += new_maps
            indices += new_indices
        return Pyramid(maps, sizes, indices if self._return_indices else None)

    def train(self, mode: bool = True) -> VGGEncoder:
        """Set training mode, except for the frozen stages, whose statistics must not change."""
        super().train(mode)
        self.features[: self._frozen_layers].eval()
        return self

    def read_weights(self, source: str) -> dict[str, Tensor]:
        """Read the weights of the whole VGG, with its classifier; `source` as in `load_weights`."""
        return read_weights(resolve_weights(self.name, source))

    def load_weights(self, source: str) -> None:
        """Load weights in place; nothing changes unless everything fits.

        RGB weights also serve other numbers of channels: one channel gets the sum of the RGB
        filters, two get the first two, and each from the fourth on gets a filter of zeros. The
        classifier and the layers after the deepest tap are ignored.

        Args:
            source: see `resolve_weights`; a file has torchvision's key names, or timm's.

        Raises:
            UserError: a failed download, or weights that cannot be read or do not fit.
        """
        if source == "imagenet" and not self._as_published:  # refused before the download
            raise UserError(
                f"ImageNet weights fit '{self.name}' only at width 1, with ReLU and its own norm; "
                "leave out width, activation and norm, or use weights: null"
            )
        path = resolve_weights(self.name, source)
        state = {k: v for k, v in read_weights(path).items() if not self._is_unused(k)}
        if FIRST_CONV in state:
            state[FIRST_CONV] = fit_input_channels(state[FIRST_CONV], self.in_channels)
        load_checked(self, state, f"{path} does not fit the encoder '{self.name}'")

    def _is_unused(self, key: str) -> bool:
        """Return whether a key belongs to the classifier or to a layer that was not built."""
        part, number = f"{key}..".split(".")[:2]
        deeper = part == "features" and number.isdecimal() and int(number) >= len(self.features)
        return deeper or part in ("classifier", "pre_logits", "head")  # the latter two are timm's

    def _run(self, stage: range, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run the layers of one stage; return the tapped maps, its pool's indices, and the end."""
        maps: list[Tensor] = []
        indices: list[Tensor] = []
        for i in stage:
            x = self.features[i](x)
            if isinstance(x, tuple):
                x, argmax = x
                indices.append(argmax)
            if i in self._tapped:
                maps.append(x)
        return maps, indices, x

    def _run_recomputed(self, stage: range, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Run one stage, storing nothing inside it: the backward pass computes that again."""
        norms = [self.features[i] for i in stage if isinstance(self.features[i], _BatchNorm)]
        return recomputed(self._run, norms, stage, x)


def _factory(name: str) -> Callable[..., VGGEncoder]:
    def build(
        wants: Wants = EVERY_STRIDE,
        in_channels: int = 3,
        *,
        pool: Literal["max", "avg"] = "max",
        activation: ActivationName = "relu",
        dilate: Literal[8, 16] | None = None,
        norm: NormName | None = None,
        width: Annotated[float, Bounds(gt=0)] = 1.0,
        checkpointing: bool = False,
        frozen_stages: Annotated[int, Bounds(ge=0, le=len(CHANNELS))] = 0,
    ) -> VGGEncoder:
        taps = CONVS if wants.place == "before_pool" else POOLS
        at_stride = {stride_of(tap, dilate): tap for tap in taps}  # of several, the last one
        return VGGEncoder(
            name,
            [at_stride[stride] for stride in wants.choose(list(at_stride))],
            in_channels=in_channels,
            pool=pool,
            activation=activation,
            dilate=dilate,
            norm=norm,
            width=width,
            checkpointing=checkpointing,
            frozen_stages=frozen_stages,
            return_indices=wants.indices,
        )

    build.__doc__ = VGGEncoder.__doc__  # which tells of the options
    return build


for _name in NAMES:
    register("encoder", _name)(_factory(_name))
