"""Predictions of an image, assembled from parts or resized."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from segkit.features import Size
from segkit.inference.region import Region, sample, whole


class Prediction(NamedTuple):
    """The prediction for an image.

    Args:
        mask: class indices, uint8 `(H, W)`.
        confidence: the probability of that class, float32 `(H, W)`; None unless asked for.
        probabilities: of every class, float16 `(num_classes, H, W)`; None unless asked for.
        logits: of every class, `(num_classes, H, W)`, as the network computes them; None unless
            asked for.
        is_finite: whether the class of each pixel is told by finite logits; a tensor, so that
            nothing waits for it.
    """

    mask: Tensor
    confidence: Tensor | None = None
    probabilities: Tensor | None = None
    logits: Tensor | None = None
    is_finite: Tensor | None = None


def to_prediction(
    scores: Tensor, are_probabilities: bool, confidence: bool, probabilities: bool
) -> Prediction:
    """Turn logits, or probabilities, `(num_classes, H, W)` into a prediction."""
    mask = scores.argmax(0)
    is_finite = scores.amax(0).isfinite().all()  # a class may be ruled out by -inf
    if not (confidence or probabilities):
        return Prediction(mask.to(torch.uint8), is_finite=is_finite)
    shares = scores if are_probabilities else scores.float().softmax(0)
    return Prediction(
        mask.to(torch.uint8),
        shares.gather(0, mask[None])[0] if confidence else None,
        shares.half() if probabilities else None,
        is_finite=is_finite,
    )


def assemble(size: Size, parts: Iterator[tuple[Region, Prediction]]) -> Prediction:
    """Put predictions of regions that cover the image once together, on the CPU."""
    canvas: dict[str, Tensor] = {}
    are_finite = []
    for region, part in parts:
        are_finite.append(part.is_finite)
        for name, value in part._replace(is_finite=None)._asdict().items():
            if value is None:
                continue
            if name not in canvas:
                canvas[name] = torch.empty((*value.shape[:-2], *size), dtype=value.dtype)
            canvas[name][region.cells] = value
    known = [each for each in are_finite if each is not None]
    return Prediction(**canvas, is_finite=torch.stack(known).all() if known else None)


def resized(found: Prediction, size: Size) -> Prediction:
    """Resize a prediction to the size of the image, where preprocessing changed it."""
    before: Size = (found.mask.shape[0], found.mask.shape[1])
    if before == size:
        return found
    mask = cv2.resize(found.mask.cpu().numpy(), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def smooth(x: Tensor) -> Tensor:
        return sample(x, whole(before), before, size, whole(size)).to(x.dtype)

    return Prediction(
        torch.from_numpy(mask),
        None if found.confidence is None else smooth(found.confidence[None])[0],
        None if found.probabilities is None else smooth(found.probabilities),
        is_finite=found.is_finite,
    )
