"""What an exported file says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segkit
from segkit.checkpoint import restore_card, restore_config, restore_statistics, weights_checksum
from segkit.errors import UserError
from segkit.evaluation.scores import percent
from segkit.export.deployed import DeployedModel
from segkit.hub import Source
from segkit.inference.tiles import exact_halo
from segkit.model import SegmentationModel
from segkit.receptive_field import reach_of


def describe(
    content: dict[str, Any], source: Source, deployed: DeployedModel, model: SegmentationModel
) -> dict[str, Any]:
    """Return what holds for all files of a checkpoint, as plain values.

    Args:
        content: of the checkpoint.
        source: of the checkpoint.
        deployed: what the files hold.
        model: of the checkpoint.

    Returns:
        What a checkpoint holds besides its weights, so that the file can be used as one, and what
        somebody without segkit needs: the input and outputs, the classes with their colours and
        raw labels, and how the images were normalised, which the graph does itself.
    """
    config, card = restore_config(content, source), restore_card(content, source)
    statistics = restore_statistics(content, config)
    channels = config.model.in_channels
    halo, field = _halo(model, channels), None
    if not isinstance(halo, str):
        reach = reach_of(model, channels)
        field = None if reach is None else reach.field
    return {
        "segkit": segkit.__version__,
        "checkpoint": {"name": Path(source).name, "sha256": weights_checksum(content["model"])},
        "input": {
            "name": "image",
            "dtype": "uint8" if deployed.takes_bytes else "float32",
            "range": [0, 255] if deployed.takes_bytes else [0, 1],
            "layout": "NHWC",
            "channels": channels,
        },
        "outputs": list(deployed.outputs),
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
        "halo": halo,
        **{key: value for key, value in content.items() if key not in ("model", "training")},
    }


def _halo(model: SegmentationModel, channels: int) -> list[int] | str:
    """Return what an exact tile needs around it, or why there is none."""
    try:
        return list(exact_halo(model, channels))
    except UserError as error:
        return str(error)


def as_lines(metadata: dict[str, Any]) -> list[str]:
    """Return what a file says of itself, for the terminal."""
    model, scores = metadata["config"]["model"], metadata.get("scores") or {}
    export, given = metadata["export"], metadata["input"]
    gate = export.get("gate", {})
    low, high = given["range"]
    lines = {
        "model": f"{model['decoder']['name']} on {model['encoder']['name']}",
        "data": metadata["card"]["name"],
        "classes": ", ".join(entry["name"] for entry in metadata["legend"]),
        "file": f"{export['format']}, {export['precision']}",
        "int8": f"but {', '.join(export['kept'])}" if export.get("kept") else "",
        "input": f"{given['name']}: {given['dtype']}, {low} to {high}, (N, H, W, "
        f"{given['channels']}) of any size",
        "outputs": ", ".join(metadata["outputs"]),
        "inside": f"mean {_numbers(metadata['mean'])}, std {_numbers(metadata['std'])}",
        "stride": f"{metadata['stride']} px; receptive field "
        f"{metadata['receptive_field'] or 'of the whole image, or unknown'}",
        "scores": f"mIoU {percent(scores['miou'])} % at epoch {metadata['epoch']}"
        if scores
        else f"none recorded, epoch {metadata['epoch']}",
        "gate": f"mIoU {100 * gate['miou']:.2f} %, in torch {100 * gate['torch_miou']:.2f} %, on "
        f"{gate['images']} images; {'; '.join(gate['failures']) or 'agrees'}"
        if gate
        else "",
        "made of": f"{metadata['checkpoint']['name']}, sha256 {metadata['checkpoint']['sha256']}",
        "by": f"segkit {metadata['segkit']}",
    }
    return [f"{name:<8} {text}" for name, text in lines.items() if text]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
