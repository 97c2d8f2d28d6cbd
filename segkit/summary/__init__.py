"""What a network is made of and costs: layers, parameters, MACs, receptive field, memory."""

from segkit.summary.parts import ListedPart, list_decoders, list_encoders
from segkit.summary.summarize import DEFAULT_SIZE, Layer, Summary, summarize
from segkit.summary.text import (
    layer_table,
    parts_json,
    parts_table,
    shown_layers,
    summary_json,
    totals,
)

__all__ = [
    "DEFAULT_SIZE",
    "Layer",
    "ListedPart",
    "Summary",
    "layer_table",
    "list_decoders",
    "list_encoders",
    "parts_json",
    "parts_table",
    "shown_layers",
    "summarize",
    "summary_json",
    "totals",
]
