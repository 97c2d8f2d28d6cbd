"""Evaluate any model on any loader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from segkit.evaluation.images import evaluate_images
from segkit.evaluation.results import Results
from segkit.evaluation.summarize import summarize_evaluation
from segkit.inference import Predictor
from segkit.labels import Classes


def evaluate(
    model: nn.Module | Predictor,
    loader: Iterable[Any],
    num_classes: int,
    *,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sequences: str | None = None,
    block: int | None = None,
    seed: int = 0,
) -> Results:
    """Evaluate a model on every image of a loader, at the image's own size.

    Images go through the network one at a time, so no score depends on how they are batched.

    Args:
        model: from images `(N, C, H, W)` to logits `(N, num_classes, H, W)`, or a mapping that
            holds them under `out`; it computes in fp32 on the device of its parameters. A
            `Predictor` chooses device, precision, tiles and views itself.
        loader: yields `(images, masks)` or `(images, masks, names)`: images `(N, C, H, W)`, uint8
            or float, masks `(N, H, W)` of class indices, 255 for void. Without names, images are
            numbered in their order.
        num_classes: number of classes, void not counted.
        class_names: of the classes; None: their indices.
        mean: per channel, of images scaled to 0 ... 1; None: images come normalised, as floats.
        std: the same.
        sequences: pattern whose group captures what the names of a video's frames share.
        block: consecutive images drawn together for the intervals; None: 10 for videos, else 1.
        seed: of the intervals.

    Returns:
        Scores over the whole set with 95 % intervals by bootstrap over the images.

    Raises:
        UserError: a loader that yields no image, or images or masks of another form.

    >>> import torch
    >>> images, masks = torch.rand(12, 2, 8, 8), torch.randint(0, 2, (12, 8, 8))
    >>> scores = evaluate(torch.nn.Identity(), [(images, masks)], num_classes=2)
    >>> round(scores.pixel_accuracy, 3) == round(
    ...     float((images.argmax(1) == masks).float().mean()), 3
    ... )
    True
    """
    if not isinstance(model, Predictor):
        model = Predictor(model, mean=mean, std=std)
    evaluation = evaluate_images(model, loader, num_classes, boundaries=True, calibration=True)
    names = class_names or Classes.numbered(num_classes).names
    return summarize_evaluation(evaluation, names, sequences, block, seed)
