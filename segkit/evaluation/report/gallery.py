"""The worst and the best images of a split, as pictures for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.drawing.masks import colorize, displayable, error_map
from segkit.drawing.pages import picture_url
from segkit.evaluation.images import Evaluation, predict_samples
from segkit.evaluation.results import Results
from segkit.evaluation.scores import percent
from segkit.evaluation.target import EvaluationTarget
from segkit.labels import IGNORE_INDEX

WORST, BEST = 6, 3  # images shown
LONGEST = 640  # pixels, the longer side of a picture


def choose(results: Results) -> tuple[list[int], list[int]]:
    """Return the indices of the worst and the best images with a labelled pixel, none twice."""
    scores = results.image_miou
    ranked = [i for i in np.argsort(scores, kind="stable").tolist() if not np.isnan(scores[i])]
    best = min(BEST, len(ranked) // 3)
    worst = min(WORST, len(ranked) - best)
    return ranked[:worst], ranked[::-1][:best]


def show(
    chosen: Sequence[int], evaluation: Evaluation, results: Results, target: EvaluationTarget
) -> Iterator[dict[str, Any]]:
    """Predict the chosen images once more, and paint them as the page's template takes them."""
    index_of = {name: index for index, name in enumerate(target.dataset.pairs.names)}
    names, colors = [evaluation.names[i] for i in chosen], target.card.colors
    rows = predict_samples(target.predictor, target.dataset, (index_of[name] for name in names))
    for i, name, (image, mask, prediction) in zip(chosen, names, rows, strict=True):
        labelled = mask != IGNORE_INDEX
        wrong = ((mask != prediction) & labelled).sum().item() / labelled.sum().item()
        pictures = [
            _picture("image", f"image {name}", displayable(image), exact=False),
            _picture("truth", f"truth of {name}", colorize(mask, colors)),
            _picture("prediction", f"prediction for {name}", colorize(prediction, colors)),
            _picture(
                "errors",
                f"errors in {name}: {percent(wrong)} % of the labelled pixels",
                error_map(image, mask, prediction),
            ),
        ]
        yield {"name": name, "miou": results.image_miou[i], "wrong": wrong, "pictures": pictures}


def _picture(kind: str, alt: str, pixels: NDArray[np.uint8], exact: bool = True) -> dict[str, Any]:
    """Shrink a picture to the page's size and encode it; without smoothing if it is exact."""
    image = Image.fromarray(pixels)
    shrink = LONGEST / max(image.size)
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in image.size)
        how = Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS
        image = image.resize((width, height), how)
    data = picture_url(image, lossless=exact, quality=80, method=4)
    return {"kind": kind, "alt": alt, "data": data, "size": image.size, "exact": exact}
