"""What is predicted of an image, put together from parts or brought to another size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from segkit.features import Size
from segkit.inference.region import Region, sample, whole


class Prediction(NamedTuple):
    """What a network says of an image.

    Args:
        mask: class indices, uint8 `(H, W)`.
        confidence: the probability of that class, float32 `(H, W)`; None unless asked for.
        probabilities: of every class, float16 `(num_classes, H, W)`; None unless asked for.
    """

    mask: Tensor
    confidence: Tensor | None = None
    probabilities: Tensor | None = None


def assemble(size: Size, parts: Iterator[tuple[Region, Prediction]]) -> Prediction:
    """Put predictions of regions together, on the CPU."""
    whole_one: list[Tensor | None] = [None] * len(Prediction._fields)
    for region, part in parts:
        for i, value in enumerate(part):
            if value is None:
                continue
            target = whole_one[i]
            if target is None:
                target = torch.empty((*value.shape[:-2], *size), dtype=value.dtype)
                whole_one[i] = target
            target[..., slice(*region[:2]), slice(*region[2:])] = value
    return Prediction(*whole_one)  # type: ignore[arg-type]


def resized(found: Prediction, size: Size) -> Prediction:
    """Bring a prediction back to the size of the image, where preprocessing changed it."""
    before: Size = (found.mask.shape[0], found.mask.shape[1])
    if before == size:
        return found
    mask = cv2.resize(found.mask.cpu().numpy(), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def smooth(x: Tensor) -> Tensor:
        return sample(x, whole(before), before, size, whole(size)).to(x.dtype)

    confidence, probabilities = found.confidence, found.probabilities
    return Prediction(
        torch.from_numpy(mask),
        None if confidence is None else smooth(confidence[None])[0],
        None if probabilities is None else smooth(probabilities),
    )
