"""A summary of a network as a table, lines for the terminal, and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from segkit.features import Size
from segkit.summary.parts import ListedPart
from segkit.summary.summarize import Layer, Summary


def layer_table(summary: Summary, title: str) -> Table:
    """Lay out the layers as a table, without those that `shown_layers` omits."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    for column in ("output", "parameters", "MACs", "stride", "field"):
        table.add_column(column, justify="right", no_wrap=True)
    part = ""
    for layer in shown_layers(summary.layers):
        of, _, name = layer.name.partition(".")
        if name and of != part:  # whole names would not fit into 80 columns
            table.add_row(of)
        part = of
        table.add_row(
            f" {name}" if name else of,
            layer.kind,
            "x".join(map(str, layer.shape)),
            f"{layer.parameters:,}" if layer.parameters else "",
            scaled(layer.macs) if layer.macs else "",
            str(layer.stride or ""),
            field_text(layer.field),
        )
    return table


def shown_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Omit layers without parameters that leave shape and field as they were, such as ReLU."""
    shown: list[Layer] = []
    for layer in layers:
        last = shown[-1] if shown else None
        same = last and (last.shape, last.field) == (layer.shape, layer.field)
        if layer.parameters or layer.macs or not same:
            shown.append(layer)
    return shown


def totals(summary: Summary, stride: int = 1) -> list[str]:
    """Write the totals of a network that pads an image to a multiple of `stride`, line by line."""
    height, width = summary.size
    padded = height + -height % stride, width + -width % stride
    padding = "" if padded == summary.size else f", padded to {padded[0]}x{padded[1]}"
    hidden = {layer.kind for layer in summary.layers}
    hidden -= {layer.kind for layer in shown_layers(summary.layers)}
    lines = [f"not shown:       {', '.join(sorted(hidden))}"] if hidden else []
    return [
        *lines,
        f"image:           {height}x{width} (H x W){padding}",
        f"parameters:      {summary.parameters:,} = encoder {summary.encoder_parameters:,} "
        f"({_share(summary.encoder_parameters, summary.parameters)}) "
        f"+ decoder {summary.decoder_parameters:,}",
        f"MACs per image:  {scaled(summary.macs)} = encoder {scaled(summary.encoder_macs)} "
        f"({_share(summary.encoder_macs, summary.macs)}) + decoder {scaled(summary.decoder_macs)}",
        f"receptive field: {_reach_text(summary)}",
        f"weights:         {summary.weight_bytes / 1e6:.1f} MB",
        f"activations:     {summary.activation_bytes / 1e6:.1f} MB an image in fp32, "
        f"{summary.activation_bytes_bf16 / 1e6:.1f} MB in bf16, kept for the",
        f"{'':16} backward pass; without checkpointing, loss, gradients, workspace",
    ]


def summary_json(summary: Summary) -> str:
    """Write a summary as JSON, where an infinite receptive field is the word "image"."""
    return json.dumps(_without_infinity(asdict(summary)), indent=2) + "\n"


def parts_table(parts: Sequence[ListedPart]) -> Table:
    """Lay out what parts cost; those that cannot be built say why."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in ("parameters", "MACs", "field"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("strides", overflow="fold")
    for part in parts:
        numbers = f"{part.parameters:,}", scaled(part.macs), field_text(part.field)
        strides = " ".join(map(str, part.strides))
        table.add_row(part.name, *(("",) * 3 if part.refusal else numbers), part.refusal or strides)
    return table


def parts_json(
    size: Size, encoder: str, parts: Mapping[str, Sequence[ListedPart]], losses: Sequence[str]
) -> str:
    """Write what parts cost as JSON, where an infinite receptive field is the word "image"."""
    costs = {kind: [asdict(each) for each in entries] for kind, entries in parts.items()}
    content = {"size": size, "encoder": encoder, **costs, "losses": losses}
    return json.dumps(_without_infinity(content), indent=2) + "\n"


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(entry) for entry in value]
    return "image" if value == math.inf else value


def _reach_text(summary: Summary) -> str:
    if summary.reach_unknown:
        return f"not known; {summary.reach_unknown}"
    if summary.reach is None:
        return "the whole image"
    before, after, field = summary.reach
    return f"{field} pixels, reaching {before} up and left, {after} down and right"


def scaled(count: int) -> str:
    """Format a count with three digits and a unit.

    >>> scaled(15_346_630_656), scaled(6_422_528), scaled(0)
    ('15.3 G', '6.42 M', '0')
    """
    for unit, power in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= power:
            value = count / power
            return f"{value:.{max(0, 2 - int(math.log10(value)))}f} {unit}"
    return str(count)


def field_text(field: float | None) -> str:
    """Format a receptive field in pixels.

    >>> field_text(196.0), field_text(math.inf), field_text(None)
    ('196', 'image', '?')
    """
    if field is None:
        return "?"
    return "image" if field == math.inf else str(int(field))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"
