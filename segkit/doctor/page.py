"""The report on a data set as an HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.card import Card
from segkit.data.images import read_image
from segkit.data.label_map import LabelMap
from segkit.doctor.report import Report, numbers, sizes_line
from segkit.doctor.scan import SplitFacts
from segkit.drawing.masks import displayable, overlay
from segkit.drawing.pages import picture_url, render

SAMPLES = 4  # images of each split shown on the page
PICTURE_WIDTH = 320  # pixels


def as_html(report: Report, splits: Sequence[SplitFacts]) -> str:
    """Render the report as one HTML file: no script, no network, pictures inside."""
    samples = {split.name: _samples(report.card, split) for split in splits}
    pictures = {
        path: _picture(_shown(path, report.card))
        for finding in report.findings
        for pair in finding.pictures
        for path in pair
    }
    return render(
        "segkit.doctor",
        "report.html.j2",
        report=report,
        samples=samples,
        pictures=pictures,
        sizes_line=sizes_line,
        numbers=numbers,
        short=lambda path: path.removeprefix(f"{report.card.root}/"),
        colors=dict(zip(report.card.class_names, report.card.colors, strict=True)),
    )


def _samples(card: Card, split: SplitFacts) -> list[tuple[str, str, str]]:
    """Return some faultless pairs as (name, image, overlay)."""
    labels = LabelMap(card)
    sound = [p for p, f in split if f.mask.pixels is not None and f.image_size == f.mask.size]
    chosen = [sound[i * len(sound) // SAMPLES] for i in range(SAMPLES)] if sound else []
    shown = []
    for pair in dict.fromkeys(chosen):
        image, mask = _shown(pair.image, card), labels.read(pair.mask)
        shown.append((pair.name, _picture(image), _picture(overlay(image, mask, card.colors))))
    return shown


def _shown(path: str | Path, card: Card) -> NDArray[np.uint8]:
    return displayable(read_image(Path(path), None, card.image_max))


def _picture(pixels: NDArray[np.uint8]) -> str:
    """Return a picture as a data URL."""
    image = Image.fromarray(pixels)
    if image.width > PICTURE_WIDTH:
        height = max(1, image.height * PICTURE_WIDTH // image.width)
        image = image.resize((PICTURE_WIDTH, height))
    return picture_url(image, quality=80)
