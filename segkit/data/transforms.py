"""Augmentation by albumentations and by transforms that the user registers."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from segkit.data.images import Pixels
from segkit.errors import UserError, shorten, unknown_name
from segkit.labels import IGNORE_INDEX
from segkit.registry import find, names

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for updates when imported
import albumentations
import cv2

# Pixels reach the network as uint8 and are scaled there, by data.mean and data.std.
ELSEWHERE = {
    "Normalize": "data.mean and data.std",
    "ToFloat": "data.mean and data.std",
    "ToTensorV2": "segkit itself",
    "ToTensor3D": "segkit itself",
}

TransformSpec = Mapping[str, Mapping[str, Any] | None]


def _find_transform(name: str, where: str) -> Callable[..., Any]:
    """Return a transform's class: one that the user registered, or albumentations' own."""
    registered = names("transform")
    if name in registered:
        return find("transform", name)
    found: Any = getattr(albumentations, name, None)
    if _is_transform(found):
        return found
    known = [key for key, value in vars(albumentations).items() if _is_transform(value)]
    # without the list of albumentations' hundred names
    first = str(unknown_name("transform", name, [*known, *registered])).split(" Known:")[0]
    own = f" or one of your own: {', '.join(registered)}" if registered else ""
    raise UserError(
        f"{where}: {first.rstrip(';? ')}? See albumentations' documentation for the names{own}"
    )


def _is_transform(value: Any) -> bool:
    kinds = albumentations.BasicTransform, albumentations.BaseCompose
    return isinstance(value, type) and issubclass(value, kinds) and not inspect.isabstract(value)


def build_transforms(
    specs: Sequence[TransformSpec], mean: Sequence[float], where: str, floats: bool = False
) -> albumentations.Compose:
    """Build the transforms that a config names.

    Masks are never interpolated, and what padding, rotation or scaling uncovers is void in the
    mask and the mean colour in the image.

    Args:
        specs: one `{name: {argument: value}}` a transform, in order.
        mean: of each channel, white being 1; the colour of padding, or its mean for more than four
            channels.
        where: the key in the config, for errors.
        floats: whether images are float32, 0 ... 1, rather than uint8.
    """
    color = list(mean) if floats else [round(255 * channel) for channel in mean]
    # OpenCV takes no more than four numbers as a colour
    fill = color if len(color) <= 4 else sum(color) / len(color)
    transforms = [_build(spec, fill, f"{where}[{i}]") for i, spec in enumerate(specs)]
    return albumentations.Compose(transforms, strict=True)


def _build(spec: TransformSpec | str, color: Sequence[float] | float, where: str) -> Any:
    spec = {spec: None} if isinstance(spec, str) else spec
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise UserError(f"{where}: write one transform as 'Name: {{argument: value}}'")
    [(name, given)] = spec.items()
    if not isinstance(name, str) or not isinstance(given, Mapping | None):
        raise UserError(
            f"{where} is {shorten(spec)}; write a transform as {{Name: {{argument: value}}}}"
        )
    if name in ELSEWHERE:
        raise UserError(f"{where}: {name} is done by {ELSEWHERE[name]}; take it out")
    transform = _find_transform(name, where)
    arguments = dict(given or {})
    known = inspect.signature(transform).parameters
    for argument in arguments:
        if argument not in known:
            raise UserError(f"{where}: {name}: {unknown_name('argument', argument, known)}")
    if "transforms" in known:
        inner = arguments.get("transforms", [])
        if not isinstance(inner, (list, tuple)):
            raise UserError(f"{where}: {name}: transforms is {shorten(inner)}; it must be a list")
        arguments["transforms"] = [
            _build(s, color, f"{where}.{name}[{i}]") for i, s in enumerate(inner)
        ]
    ours = {"mask_interpolation": _nearest(transform), "fill": color, "fill_mask": IGNORE_INDEX}
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
        return transform(**arguments)
    except Exception as error:  # whatever albumentations makes of unfit values
        first = " ".join(str(error).split("\n  For further")[0].split())[:1000]
        raise UserError(f"{where}: {name}: {first}") from error


def _nearest(transform: Callable[..., Any]) -> int:
    """Return OpenCV's code of nearest-neighbour interpolation for masks.

    Its resize has two, and the plain one moves a mask against its image by up to a pixel.
    """
    schema = getattr(transform, "InitSchema", None)  # compositions have none
    field = schema.model_fields.get("mask_interpolation") if schema else None
    choices = get_args(field.annotation) if field else ()
    exact = cv2.INTER_NEAREST_EXACT
    return exact if exact in choices else cv2.INTER_NEAREST


def apply_transforms(
    transforms: albumentations.Compose,
    image: Pixels,
    mask: NDArray[np.uint8],
    key: tuple[int, int, int],
) -> tuple[Pixels, NDArray[np.uint8]]:
    """Transform an image `(H, W, C)` and its mask `(H, W)`.

    The result is a function of `key` alone: seed, epoch and index of the sample.
    """
    if not transforms.transforms:
        return image, mask
    transforms.set_random_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    out = transforms(image=image, mask=mask)
    return out["image"], out["mask"]


def explain_failure(error: Exception, image: Pixels, path: Path) -> str:
    """Say which transform failed at an image `(H, W, C)`, why, and what to do."""
    frames = traceback.walk_tb(error.__traceback__)
    receivers = [frame.f_locals.get("self") for frame, _ in frames]
    failed = [each for each in receivers if isinstance(each, albumentations.BasicTransform)]
    name = type(failed[-1]).__name__ if failed else "albumentations"
    could_pad = bool(failed) and getattr(failed[-1], "pad_if_needed", None) is False
    height, width, channels = image.shape
    reason = " ".join(str(error).split()).rstrip(".")
    if not isinstance(error, (ValueError, TypeError)):  # such as KeyError, whose text is a key
        reason = f"{type(error).__name__}: {reason}"
    return (
        f"{name} cannot transform {path}, {height}x{width} (H x W) with {channels} channel"
        f"{'s' * (channels != 1)}: {reason}; "
        + ("pad smaller images by pad_if_needed: true" if could_pad else f"leave {name} out")
    )


# the albumentations that people train with and that end in a given size
SIZED = ("RandomCrop", "CenterCrop", "Resize", "RandomResizedCrop", "CropNonEmptyMaskIfExists")


def output_size(transforms: Sequence[TransformSpec]) -> tuple[int, int] | None:
    """Return the (H, W) that images end in, by the last crop or resize of a list itself, if any."""
    for transform in reversed(transforms):
        for name, options in transform.items():
            given = options or {}
            match given.get("size", (given.get("height"), given.get("width"))):
                case [int(height), int(width)] if name in SIZED:
                    return height, width
    return None
