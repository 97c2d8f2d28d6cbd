"""Scores of models against what they cost."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segkit.drawing.figures import figure_text

MARKERS = "osD^vPX*<>hp"


def draw_costs(
    names: Sequence[str],
    costs: Mapping[str, Sequence[float]],
    scores: Mapping[str, Sequence[NDArray[np.float64]]],
) -> bytes:
    """Draw each score against each cost as a PNG; marks are means over runs, bars deviations.

    Args:
        names: of the models.
        costs: label of an axis -> the cost of each model.
        scores: label of an axis -> for each model, the scores of its runs as shares of one.
    """
    figure = Figure(figsize=(11, 4 * len(scores)), layout="constrained")
    grid = figure.subplots(len(scores), len(costs), sharex="col", sharey="row", squeeze=False)
    for row, (score_label, runs) in zip(grid, scores.items(), strict=True):
        for axis, values in zip(row, costs.values(), strict=True):
            for number, (name, cost, shares) in enumerate(zip(names, values, runs, strict=True)):
                axis.errorbar(
                    cost,
                    100 * float(shares.mean()),
                    yerr=100 * shares.std(ddof=1) if len(shares) > 1 else None,
                    fmt=MARKERS[number % len(MARKERS)],
                    color=f"C{number % 10}",
                    markersize=9,
                    capsize=4,
                    label=figure_text(name),
                )
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
            axis.margins(0.12)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(figure_text(score_label))
    for axis, cost_label in zip(grid[-1], costs, strict=True):
        axis.set_xlabel(figure_text(cost_label))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
