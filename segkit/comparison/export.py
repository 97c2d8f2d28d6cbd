"""A comparison as tables: for the terminal, Markdown, CSV and HTML alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.comparison.differences import Difference, best
from segkit.comparison.results import Compared
from segkit.evaluation.scores import Shares, percent
from segkit.tables import Rows, as_csv
from segkit.units import megabytes

IN_MAIN_TABLE = ("foreground_iou", "pixel_accuracy", "miou", "boundary_f1")


def main_table(results: Sequence[Compared]) -> Rows:
    """Return costs and scores of each model, the best mIoU first."""
    height, width = results[0].summary.size
    first = results[0].runs[0]
    shown = [name for name in IN_MAIN_TABLE if name in first.headlines]
    costs = ["params M", f"GMAC {height}x{width}", "field px", "s per step", "memory MB"]
    rows = [["model", *costs, *(f"{first.label(name)} %" for name in shown)]]
    for result in ranked(results):
        summary = result.summary
        scores = (result.values(name) for name in shown)
        row = [
            result.name,
            f"{summary.parameters / 1e6:.1f}",
            f"{summary.macs / 1e9:.2f}",
            "all" if summary.reach is None else str(summary.reach.field),
            f"{result.seconds:.3f}",
            megabytes(result.memory),
            *map(mean_and_deviation, scores),
        ]
        rows.append(row)
    return rows


def ranked(results: Sequence[Compared]) -> list[Compared]:
    """Sort by mIoU, the best first."""
    return sorted(results, key=lambda result: -result.mean("miou"))


def mean_and_deviation(values: Shares) -> str:
    """Return mean and standard deviation over runs in percent; nan is left out.

    >>> mean_and_deviation(np.array([0.70, 0.72])), mean_and_deviation(np.array([0.5]))
    ('71.0 ± 1.4', '50.0')
    """
    there = values[values == values]
    shown = percent(float(there.mean() if there.size else np.nan))
    return f"{shown} ± {percent(float(there.std(ddof=1)))}" if len(there) > 1 else shown


def class_table(results: Sequence[Compared]) -> Rows:
    """Return the IoU of each class."""
    rows = [["IoU %", *results[0].runs[0].class_names]]
    for result in ranked(results):
        ious = np.array([run.scores.iou for run in result.runs])
        rows.append([result.name, *map(mean_and_deviation, ious.T)])
    return rows


def difference_table(found: dict[str, list[Difference]], results: Sequence[Compared]) -> Rows:
    """Return the differences to the best model, by each headline score."""
    label = results[0].runs[0].label
    rows = [["model", *(f"{label(name)}, points to {best(results, name).name}" for name in found)]]
    for result in ranked(results):
        cells = [
            next((difference_line(d) for d in each if d.name == result.name), "best")
            for each in found.values()
        ]
        rows.append([result.name, *cells])
    return rows


def difference_line(difference: Difference) -> str:
    """Return a difference in points with interval and verdict.

    >>> difference_line(Difference("nearest", 0.012, (-0.004, 0.029), "not distinguishable"))
    '+1.2 [-0.4, +2.9]: not distinguishable'
    """
    shown = f"{100 * difference.value:+.1f}"
    if difference.interval is not None:
        low, high = difference.interval
        shown += f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{shown}: {difference.verdict}"


def difference_csv(found: dict[str, list[Difference]], results: Sequence[Compared]) -> str:
    """Write a row for each difference to the best, as shares of one; what is not known is empty."""
    rows: list[list[Any]] = []
    for headline, each in found.items():
        to = best(results, headline).name
        for d in each:
            low, high = d.interval or (None, None)
            rows.append([headline, d.name, to, d.value, low, high, d.p, d.adjusted_p, d.verdict])
    header = ["score", "model", "best", "difference", "low", "high", "p", "adjusted_p", "verdict"]
    return as_csv(header, rows)


def run_csv(results: Sequence[Compared]) -> str:
    """Write a row for each run, all scores as plain numbers; n/a is empty."""
    costs = ("parameters", "macs", "receptive_field", "seconds_per_step", "memory_bytes")
    names, headlines = results[0].runs[0].class_names, results[0].runs[0].headlines
    rows: list[list[Any]] = []
    for result in results:
        reach = result.summary.reach
        size = [result.summary.parameters, result.summary.macs, reach.field if reach else "all"]
        cost = [*size, result.seconds, result.memory]
        for number, run in enumerate(result.runs):
            scores = [run.headlines[name].value for name in headlines]
            rows.append([result.name, number, *cost, *scores, *run.scores.iou])
    header = ["model", "run", *costs, *headlines, *(f"iou/{name}" for name in names)]
    return as_csv(header, rows)
