"""Augmentation by albumentations, as named in the YAML, and normalisation."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.config import Config
from segkit.data.images import Pixels
from segkit.data.labels import IGNORE_INDEX
from segkit.errors import UserError, unknown_name

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for updates when imported
import albumentations
import cv2

TRANSFORMS: dict[str, type] = {
    name: value
    for name, value in vars(albumentations).items()
    if isinstance(value, type)
    and issubclass(value, (albumentations.BasicTransform, albumentations.BaseCompose))
    and not inspect.isabstract(value)
}
# Pixels reach the network as uint8 and are scaled there, by data.mean and data.std.
ELSEWHERE = {
    "Normalize": "data.mean and data.std",
    "ToFloat": "data.mean and data.std",
    "ToTensorV2": "segkit itself",
    "ToTensor3D": "segkit itself",
}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
TransformSpec = Mapping[str, Mapping[str, Any] | None]


def build_transforms(
    specs: Sequence[TransformSpec], mean: Sequence[float], where: str, floats: bool = False
) -> albumentations.Compose:
    """Build the chain a config names.

    Masks are never interpolated, and what padding, rotation or scaling uncovers is void in the
    mask and the mean colour in the image.

    Args:
        specs: one `{name: {argument: value}}` a transform, in order.
        mean: per channel, of images scaled to 0 ... 1; the colour of padding, or one grey level
            for more than four channels.
        where: the key in the config, for errors.
        floats: whether images come as float32, 0 ... 1, and not as uint8.

    Raises:
        UserError: an unknown transform or argument, or an unfit value.
    """
    color = list(mean) if floats else [round(255 * channel) for channel in mean]
    # OpenCV takes no more than four numbers as a colour
    fill = color if len(color) <= 4 else sum(color) / len(color)
    chain = [_build(spec, fill, f"{where}[{i}]") for i, spec in enumerate(specs)]
    return albumentations.Compose(chain, strict=True)


def _build(spec: TransformSpec, color: Sequence[float] | float, where: str) -> Any:
    if len(spec) != 1:
        raise UserError(f"{where}: write one transform as 'Name: {{argument: value}}'")
    [(name, given)] = spec.items()
    if name in ELSEWHERE:
        raise UserError(f"{where}: {name} is done by {ELSEWHERE[name]}; take it out")
    if name not in TRANSFORMS:
        raise UserError(f"{where}: {_short(unknown_name('transform', name, TRANSFORMS))}")
    arguments = dict(given or {})
    known = inspect.signature(TRANSFORMS[name]).parameters
    for argument in arguments:
        if argument not in known:
            raise UserError(f"{where}: {name}: {unknown_name('argument', argument, known)}")
    if "transforms" in known:
        inner = arguments.get("transforms", [])
        arguments["transforms"] = [
            _build(s, color, f"{where}.{name}[{i}]") for i, s in enumerate(inner)
        ]
    ours = {
        "mask_interpolation": _nearest(TRANSFORMS[name]),
        "fill": color,
        "fill_mask": IGNORE_INDEX,
    }
    for argument, value in ours.items():
        # CoarseDropout's default of None means that the mask keeps its labels under the holes
        if argument not in known or known[argument].default is None:
            continue
        if argument != "fill" and arguments.get(argument, value) != value:
            raise UserError(
                f"{where}: {name}: {argument} is always {value}, so that no label is made up or "
                "moved; take it out"
            )
        arguments.setdefault(argument, value)
    try:
        return TRANSFORMS[name](**arguments)
    except (ValueError, TypeError) as error:
        first = " ".join(str(error).split("\n  For further")[0].split())
        raise UserError(f"{where}: {name}: {first}") from error


def _nearest(transform: type[Any]) -> int:
    """Pick OpenCV's nearest neighbour for masks.

    Its resize has two, and the plain one moves a mask against its image by up to a pixel.
    """
    schema = getattr(transform, "InitSchema", None)  # compositions have none
    field = schema.model_fields.get("mask_interpolation") if schema else None
    choices = get_args(field.annotation) if field else ()
    exact = cv2.INTER_NEAREST_EXACT
    return exact if exact in choices else cv2.INTER_NEAREST


def _short(error: UserError) -> str:
    """Leave out the list of albumentations' hundred names."""
    return str(error).split(" Known:")[0].rstrip(";? ") + (
        "? See albumentations' documentation for the names"
    )


def apply_transforms(
    chain: albumentations.Compose,
    image: Pixels,
    mask: NDArray[np.uint8],
    key: tuple[int, int, int],
) -> tuple[Pixels, NDArray[np.uint8]]:
    """Transform an image and its mask; the outcome is a function of `key` alone.

    Args:
        chain: from `build_transforms`.
        image: pixels.
        mask: class indices.
        key: seed, epoch and index of the sample.

    Shape: image `(H, W, C)` and mask `(H, W)` to the same with another H and W.
    """
    if not chain.transforms:
        return image, mask
    chain.set_random_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    out = chain(image=image, mask=mask)
    return out["image"], out["mask"]


class Normalize(nn.Module):
    """Scale pixels to zero mean and unit variance, on whatever device they are.

    Args:
        mean: per channel, of images scaled to 0 ... 1.
        std: per channel.

    Shape: uint8, or float32 from 0 to 1, `(N, C, H, W)` to float32 `(N, C, H, W)`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise UserError(
                f"data.mean={list(mean)} and data.std={list(std)} must have one number a channel, "
                "std above zero"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise."""
        white = 255 if pixels.dtype == torch.uint8 else 1
        return (pixels - white * self.mean) / (white * self.std)


def build_normalize(config: Config) -> Normalize:
    """Build the normalisation of an experiment.

    Raises:
        UserError: not one mean and deviation a channel.
    """
    mean, std = channel_numbers(config, "mean"), channel_numbers(config, "std")
    channels = config.model.in_channels
    if not len(mean) == len(std) == channels:
        raise UserError(
            f"data.mean has {len(mean)} numbers and data.std {len(std)}, but model.in_channels is "
            f"{channels}; give one a channel, or say auto"
        )
    return Normalize(mean, std)


def channel_numbers(config: Config, key: Literal["mean", "std"]) -> tuple[float, ...]:
    """Give the numbers of `data.mean` or `data.std`.

    Raises:
        UserError: they are still `auto`.
    """
    numbers = getattr(config.data, key)
    if isinstance(numbers, str):
        raise UserError(f"data.{key} is {numbers}; have it computed by resolve_statistics first")
    return tuple(numbers)
