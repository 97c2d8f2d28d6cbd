"""What a comparison found, against what it costs, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segkit.comparison.results import Result
from segkit.evaluation.findings import HEADLINES

MARKERS = "osD^vPX*<>hp"


def draw_costs(results: Sequence[Result]) -> bytes:
    """Draw mIoU and boundary F1 against MACs and seconds; gives a PNG.

    A mark is the mean over the runs, its bar the standard deviation.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    height, width = results[0].summary.size
    costs = {
        f"GMAC at {height}x{width}": [r.summary.macs / 1e9 for r in results],
        "seconds per training step": [r.seconds for r in results],
    }
    for row, headline in zip(axes, ("miou", "boundary_f1"), strict=True):
        for axis, (label, values) in zip(row, costs.items(), strict=True):
            for number, (result, cost) in enumerate(zip(results, values, strict=True)):
                axis.errorbar(
                    cost,
                    100 * result.mean(headline),
                    yerr=100 * result.values(headline).std(ddof=1)
                    if len(result.runs) > 1
                    else None,
                    fmt=MARKERS[number % len(MARKERS)],
                    color=f"C{number % 10}",
                    markersize=9,
                    capsize=4,
                    label=result.name,
                )
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
            axis.margins(0.12)
            axis.spines[["top", "right"]].set_visible(False)
            if headline == "boundary_f1":
                axis.set_xlabel(label)
        row[0].set_ylabel(f"{HEADLINES[headline]} in %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
