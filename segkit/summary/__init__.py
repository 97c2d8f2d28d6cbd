"""What a network is made of and costs: layers, parameters, MACs, receptive field, memory."""

from segkit.summary.summarize import DEFAULT_SIZE, Layer, Summary, summarize
from segkit.summary.text import layer_table, shown_layers, summary_json, totals

__all__ = [
    "DEFAULT_SIZE",
    "Layer",
    "Summary",
    "layer_table",
    "shown_layers",
    "summarize",
    "summary_json",
    "totals",
]
