"""Any network of layers that run one after another, as an encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segkit.encoders.recompute import recomputed
from segkit.encoders.weights import fit_input_channels, load_checked, read_weights, resolve_weights
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Size, Wants, check_images

SIDE = 64  # of the blank image that tells the strides, a multiple of all of them


class Stage(NamedTuple):
    """Layers of one stride, whose last output is the map of that stride."""

    layers: tuple[str, ...]  # names of submodules, in running order
    channels: int
    stride: int


class StagedEncoder(nn.Module):
    """A published network without its classifier.

    `network` holds the layers under their own names, so that its weight files fit unchanged.
    Nothing after the deepest map that is asked for is kept.

    Shape: `(N, in_channels, H, W)` with H, W >= `stride` to a `Pyramid`; a map of stride s is
        `(N, C, ceil(H / s), ceil(W / s))`, or rounded down where convolutions have no padding.

    Args:
        name: of the network, for messages and weights.
        network: with a first convolution for `in_channels`; it becomes part of the encoder.
        stages: of the network, finest first.
        wants: what a decoder asks for. There is one map a stride, which serves before a pool as
            well as after it.
        in_channels: channels of the images.
        checkpointing: recompute each stage in the backward pass instead of storing its maps.
        frozen_stages: number of first stages whose weights and statistics do not change.

    Raises:
        UserError: maps that the network does not have, an option out of range; an input of other
            channels or smaller than `stride`.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        stages: Sequence[Stage],
        wants: Wants,
        in_channels: int,
        *,
        checkpointing: bool = False,
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        if wants.indices:
            raise UserError(
                f"the encoder '{name}' has no indices for max-unpooling: it downsamples by strided "
                "convolutions; use a VGG or LeNet encoder, or another decoder"
            )
        chosen = wants.choose([stage.stride for stage in stages])
        stages = [stage for stage in stages if stage.stride <= chosen[-1]]
        if not 0 <= frozen_stages <= len(stages):
            raise UserError(f"frozen_stages must be 0 to {len(stages)}, but got {frozen_stages}")
        self.name, self.in_channels, self.checkpointing = name, in_channels, checkpointing
        self.specs = tuple(
            FeatureSpec(f"stride{stage.stride}", stage.channels, stage.stride)
            for stage in stages
            if stage.stride in chosen
        )
        self.stride = chosen[-1]
        self._published_keys = frozenset(network.state_dict())
        self._stages = stages
        self._frozen = stages[:frozen_stages]
        keep_layers(network, [layer for stage in stages for layer in stage.layers])
        self.network = network
        for layer in self._frozen_layers():
            layer.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> Pyramid:
        """Run the network up to the deepest map; see the class for shapes and errors."""
        check_images(x, self.in_channels, self.stride)
        maps = self.maps_of(x)
        return Pyramid([maps[spec.stride] for spec in self.specs], grid_sizes(x, maps, self.stride))

    def maps_of(self, x: Tensor) -> dict[int, Tensor]:
        """Return the map of every stage by its stride."""
        maps = {}
        for stage in self._stages:
            x = maps[stage.stride] = self._run(stage, x)
        return maps

    def train(self, mode: bool = True) -> StagedEncoder:
        """Set training mode, except for the frozen stages, whose statistics must not change."""
        super().train(mode)
        for layer in self._frozen_layers():
            layer.eval()
        return self

    def load_weights(self, source: str) -> None:
        """Load weights in place; nothing changes unless everything fits.

        RGB weights serve other numbers of channels as in VGG. The classifier and the layers after
        the deepest map are ignored.

        Args:
            source: see `resolve_weights`; a file has the network's own key names.

        Raises:
            UserError: a failed download, or weights that cannot be read or do not fit.
        """
        path = resolve_weights(self.name, source)
        kept = self.network.state_dict()
        unused = self._published_keys - kept.keys()
        state = {key: value for key, value in read_weights(path).items() if key not in unused}
        first = next(key for key, value in kept.items() if value.ndim == 4)
        if first in state:
            state[first] = fit_input_channels(state[first], self.in_channels)
        load_checked(self.network, state, f"{path} does not fit the encoder '{self.name}'")

    def _run(self, stage: Stage, x: Tensor) -> Tensor:
        layers = nn.Sequential(*map(self.network.get_submodule, stage.layers))
        if not (self.checkpointing and is_grad_enabled()):
            return layers(x)
        norms = [layer for layer in layers.modules() if isinstance(layer, _BatchNorm)]
        return recomputed(layers, norms, x)

    def _frozen_layers(self) -> Iterator[nn.Module]:
        for stage in self._frozen:
            yield from map(self.network.get_submodule, stage.layers)


def find_stages(network: nn.Module, layers: Sequence[str], in_channels: int) -> list[Stage]:
    """Run a blank image through the layers, and group those whose outputs share a stride."""
    x = torch.zeros(1, in_channels, SIDE, SIDE)
    steps: list[tuple[int, str, int]] = []
    network.eval()  # so that no statistics change
    with torch.no_grad():
        for name in layers:
            x = network.get_submodule(name)(x)
            steps.append((SIDE // x.shape[-1], name, x.shape[1]))
    stages = []
    for stride, group in groupby(steps, key=lambda step: step[0]):
        _, names, channels = zip(*group, strict=True)
        stages.append(Stage(names, channels[-1], stride))
    return stages


def keep_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Remove the submodules that hold none of the layers."""
    for name, child in list(network.named_children()):
        below = [layer.removeprefix(f"{name}.") for layer in layers if layer.startswith(f"{name}.")]
        if below:
            keep_layers(child, below)
        elif name not in layers:
            delattr(network, name)


def grid_sizes(x: Tensor, maps: Mapping[int, Tensor], stride: int) -> list[Size]:
    """List the sizes of the grids at strides 1, 2, 4, ... above a stride.

    Where a network has no map, as after a first convolution of stride 4, the size is the one that
    doubles most nearly to and from its neighbours.

    Args:
        x: the images.
        maps: by their strides.
        stride: power of two, not listed itself.
    """
    sizes = [(x.shape[-2], x.shape[-1])]
    for octave in range(1, stride.bit_length() - 1):
        if (found := maps.get(2**octave)) is not None:
            sizes.append((found.shape[-2], found.shape[-1]))
            continue
        sides = [-(-side // 2) for side in sizes[-1]]
        if (coarser := maps.get(2 ** (octave + 1))) is not None:
            doubled = [2 * side for side in coarser.shape[-2:]]
            lowest = [side // 2 for side in sizes[-1]]
            sides = [max(low, min(s, d)) for low, s, d in zip(lowest, sides, doubled, strict=True)]
        sizes.append((sides[0], sides[1]))
    return sizes[: stride.bit_length() - 1]
