"""Building networks of timm's, and loading their weights."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from segkit.encoders.weights import read_weights, resolve_weights
from segkit.errors import UserError
from segkit.features import Wants


def create(name: str, in_channels: int, **options: Any) -> Any:
    """Build a network of timm's that takes images of any size and returns maps."""
    timm = import_timm()
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


@cache
def feature_levels(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the strides and the channels of all maps that a network has."""
    try:
        with torch.device("meta"):
            info = create(name, 3).feature_info
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"timm:{name} returns no maps; choose another network") from error
    return tuple(info.reduction()), tuple(info.channels())


@cache
def block_count(name: str) -> int:
    """Return how many blocks a vision transformer has."""
    with torch.device("meta"):
        network = create(name, 3, out_indices=1)
    last: int = network.out_indices[0]
    return last + 1


def _published(name: str) -> str:
    """Return the address on the hub of the weights that timm publishes under a name."""
    config = import_timm().get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UserError(f"timm publishes no weights for '{name}'; use weights: null, or a file")
    return f"hf://{config.hf_hub_id}"


def refuse_indices(name: str, wants: Wants) -> None:
    """Refuse what max-unpooling asks for."""
    if wants.indices:
        raise UserError(
            f"timm:{name} returns no indices for max-unpooling; use a VGG or LeNet encoder, or "
            "another decoder"
        )


def import_timm() -> Any:
    """Import the package, or say how to get it."""
    try:
        import timm
    except ImportError as error:
        raise UserError("timm's networks need timm; pip install 'segkit[timm]'") from error
    return timm
