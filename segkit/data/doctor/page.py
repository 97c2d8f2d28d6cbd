"""What the doctor found, as a page that stands alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.card import Card
from segkit.data.doctor.report import Report, numbers, sizes_line
from segkit.data.doctor.scan import SplitFacts
from segkit.data.draw import displayable, overlay
from segkit.data.images import read_image
from segkit.data.labels import LabelMap

SAMPLES = 4  # images of each split shown on the page
PICTURE_WIDTH = 320  # pixels


def as_html(report: Report, splits: Sequence[SplitFacts]) -> str:
    """Make a page that stands alone: no script, no network, pictures inside."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("segkit.data.doctor").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    samples = {split.name: _samples(report.card, split) for split in splits}
    pictures = {
        path: _picture(_shown(path, report.card))
        for finding in report.findings
        for pair in finding.pictures
        for path in pair
    }
    return template.render(
        report=report,
        samples=samples,
        pictures=pictures,
        sizes_line=sizes_line,
        numbers=numbers,
        short=lambda path: path.removeprefix(f"{report.card.root}/"),
        colors=dict(zip(report.card.class_names, report.card.colors, strict=True)),
    )


def _samples(card: Card, split: SplitFacts) -> list[tuple[str, str, str]]:
    """Some sound pairs as (name, image, overlay)."""
    labels = LabelMap(card)
    sound = [
        pair
        for pair, facts in zip(split.pairs, split.facts, strict=True)
        if facts.pixels is not None and facts.image_size == facts.mask_size
    ]
    chosen = [sound[i * len(sound) // SAMPLES] for i in range(SAMPLES)] if sound else []
    shown = []
    for pair in dict.fromkeys(chosen):
        image, mask = _shown(pair.image, card), labels.read(pair.mask)
        shown.append((pair.name, _picture(image), _picture(overlay(image, mask, card.colors))))
    return shown


def _shown(path: str | Path, card: Card) -> NDArray[np.uint8]:
    return displayable(read_image(Path(path), None, card.image_max))


def _picture(pixels: NDArray[np.uint8]) -> str:
    """Write a picture as a data URL."""
    image = Image.fromarray(pixels)
    if image.width > PICTURE_WIDTH:
        height = max(1, image.height * PICTURE_WIDTH // image.width)
        image = image.resize((PICTURE_WIDTH, height))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
