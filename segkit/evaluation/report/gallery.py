"""The worst and the best images of a split, as pictures for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.draw import colorize, displayable
from segkit.data.images import Pixels
from segkit.data.labels import IGNORE_INDEX
from segkit.evaluation.evaluate import Evaluation
from segkit.evaluation.findings import Findings
from segkit.evaluation.metrics import percent
from segkit.evaluation.subject import Subject

WORST, BEST = 6, 3  # images shown
LONGEST = 640  # pixels, the longer side of a picture
ERROR = (200, 0, 0)
VOID = (146, 162, 190)  # of the error map: neither red nor a grey of the faded image
GREYS = 12  # of the faded image, few, so that an exact picture of it is small


@dataclass(frozen=True)
class Picture:
    """A picture as the page takes it.

    Args:
        kind: the word below it.
        alt: what to say in its place.
        data: URL.
        size: (width, height) in pixels.
        exact: whether each pixel stands for itself, not to be smoothed.
    """

    kind: str
    alt: str
    data: str
    size: tuple[int, int]
    exact: bool


@dataclass(frozen=True)
class Shown:
    """An image of the gallery.

    Args:
        name: of its files.
        miou: of this image.
        wrong: share of its judged pixels.
        pictures: image, truth, prediction, errors.
    """

    name: str
    miou: float
    wrong: float
    pictures: list[Picture]


def choose(evaluation: Evaluation, findings: Findings) -> tuple[list[int], list[int]]:
    """Choose the worst and the best images, by place among the names; none is in both.

    Images without anything to judge are left out.
    """
    scores = findings.image_miou
    ranked = [i for i in np.argsort(scores, kind="stable").tolist() if not np.isnan(scores[i])]
    best = min(BEST, len(ranked) // 3)
    worst = min(WORST, len(ranked) - best)
    return ranked[:worst], ranked[::-1][:best]


def show(
    chosen: Iterable[int], evaluation: Evaluation, findings: Findings, subject: Subject
) -> Iterator[Shown]:
    """Predict images once more, and paint them.

    Args:
        chosen: places among the names.
        evaluation: whose names they are.
        findings: for their scores.
        subject: what was judged.
    """
    place_of = {name: place for place, name in enumerate(subject.dataset.pairs.names)}
    for i in chosen:
        name, miou = evaluation.names[i], float(findings.image_miou[i])
        sample = subject.dataset[place_of[name]]
        pixels, truth = sample.image.permute(1, 2, 0).numpy(), sample.mask.numpy()
        prediction = subject.predictor.segment(pixels).mask.cpu().numpy()
        judged = truth != IGNORE_INDEX
        wrong = np.count_nonzero((truth != prediction) & judged) / np.count_nonzero(judged)
        colors = subject.dataset.card.colors
        pictures = [
            _picture("image", f"image {name}", displayable(pixels), exact=False),
            _picture("truth", f"truth of {name}", colorize(truth, colors)),
            _picture("prediction", f"prediction for {name}", colorize(prediction, colors)),
            _picture(
                "errors",
                f"errors in {name}: {percent(wrong)} % of the judged pixels",
                error_map(pixels, truth, prediction),
            ),
        ]
        yield Shown(name, miou, wrong, pictures)


def error_map(
    image: Pixels, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Paint errors red, void blue-grey, and what is right as the faded image.

    Shape: `(H, W, C)`, `(H, W)` and `(H, W)` to RGB `(H, W, 3)`.
    """
    light = displayable(image).mean(-1, keepdims=True) / 255
    faded = 175 + 77 * (light * (GREYS - 1)).round() / (GREYS - 1)
    painted = np.repeat(faded, 3, axis=-1).round().astype(np.uint8)
    painted[truth != prediction] = ERROR
    painted[truth == IGNORE_INDEX] = VOID
    return painted


def _picture(kind: str, alt: str, pixels: NDArray[np.uint8], exact: bool = True) -> Picture:
    """Shrink a picture to the page's size and write it as a data URL."""
    image = Image.fromarray(pixels)
    shrink = LONGEST / max(image.size)
    if shrink < 1:
        width, height = (max(1, round(side * shrink)) for side in image.size)
        how = Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS
        image = image.resize((width, height), how)
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=exact, quality=80, method=4)
    data = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return Picture(kind, alt, data, image.size, exact)
