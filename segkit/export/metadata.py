"""What an exported file says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segkit
from segkit.checkpoint import restore_card, restore_config, restore_statistics
from segkit.errors import UserError
from segkit.inference.tiles import exact_reach
from segkit.model import SegmentationModel


def describe(
    content: dict[str, Any], file: Path, model: SegmentationModel, outputs: Sequence[str]
) -> dict[str, Any]:
    """Return what holds for all files of a checkpoint, as plain values.

    Args:
        content: of the checkpoint.
        file: of the checkpoint.
        model: of the checkpoint.
        outputs: of the files.

    Returns:
        What a checkpoint holds besides its weights, so that the file can be used as one, and what
        somebody without segkit needs: the input and outputs, the classes with their colours and
        raw labels, and how the images were normalised, which the graph does itself.
    """
    config, card = restore_config(content, file), restore_card(content, file)
    statistics = restore_statistics(content, config)
    channels = config.model.in_channels
    reach = _reach(model, channels)
    field = None if isinstance(reach, str) else reach[2]
    return {
        "segkit": segkit.__version__,
        "checkpoint": {"file": file.name, "sha256": _checksum(file)},
        "input": {
            "name": "image",
            "dtype": "uint8" if card.image_max is None else "float32",
            "range": [0, 255] if card.image_max is None else [0, 1],
            "layout": "NHWC",
            "channels": channels,
        },
        "outputs": list(outputs),
        "legend": [
            {
                "name": each.name,
                "color": list(each.color),
                "labels": [raw for raw, name in card.label_map.items() if name == each.name],
            }
            for each in card.classes
        ],
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "stride": model.stride,
        "receptive_field": field,
        "reach": reach,
        **{key: value for key, value in content.items() if key not in ("model", "training")},
    }


def _reach(model: SegmentationModel, channels: int) -> list[int] | str:
    """Return how far a pixel sees, or why that cannot be said."""
    try:
        return list(exact_reach(model, channels))
    except UserError as error:
        return str(error)


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
