"""Pictures of predictions beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from segkit.data.card import Card
from segkit.data.dataset import SegmentationDataset
from segkit.data.draw import displayable, overlay, rgb
from segkit.data.labels import IGNORE_INDEX
from segkit.inference import Predictor


def draw_predictions(
    path: Path, predictor: Predictor, dataset: SegmentationDataset, indices: Sequence[int]
) -> None:
    """Write a PNG with a row of image, truth, prediction and errors for each index."""
    rows = []
    for index in indices:
        sample = dataset[index]
        image = sample.image.permute(1, 2, 0).numpy()
        prediction = predictor.segment(image).mask
        rows.append((image, sample.mask.numpy(), prediction.cpu().numpy()))
    _figure(rows, dataset.card).savefig(path, dpi=100)


def _figure(
    rows: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]], card: Card
) -> Figure:
    height, width = rows[0][1].shape
    cell = 3.2  # inches
    legend_rows = -(-card.num_classes // 8)
    bottom = 0.35 * legend_rows
    size = (4 * cell, len(rows) * cell * height / width + 0.4 + bottom)
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for row, (image, truth, prediction) in zip(axes, rows, strict=True):
        wrong = (truth != prediction) & (truth != IGNORE_INDEX)
        faded = (displayable(image) * 0.35 + 160).astype(np.uint8)
        cells = [
            displayable(image),
            overlay(image, truth, card.colors),
            overlay(image, prediction, card.colors),
            np.where(wrong[..., None], np.array([200, 0, 0], np.uint8), faded),
        ]
        for axis, picture in zip(row, cells, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "truth", "prediction", "errors"), strict=True):
        axis.set_title(title)
    patches = [
        Patch(facecolor=rgb(entry.color), edgecolor="0.3", label=entry.name)
        for entry in card.classes
    ]
    figure.legend(
        handles=patches, loc="lower center", ncols=min(card.num_classes, 8), frameon=False
    )
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        top=1 - 0.35 / size[1],
        bottom=(bottom + 0.05) / size[1],
        wspace=0.02,
        hspace=0.03,
    )
    return figure
