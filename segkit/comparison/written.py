"""A comparison as tables: for the terminal, Markdown, CSV and HTML alike."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from segkit.comparison.results import Difference, Result, best
from segkit.evaluation.findings import HEADLINES
from segkit.evaluation.metrics import Shares, percent

Rows = list[list[str]]  # the first one is the header


def main_table(results: Sequence[Result]) -> Rows:
    """Lay out what each contestant costs and brings, best mIoU first."""
    height, width = results[0].summary.size
    header = [
        "model", "params M", f"GMAC {height}x{width}", "field px", "s per step",
        "memory MB", "pixel accuracy %", "mIoU %", "boundary F1 %",
    ]  # fmt: skip
    rows = [header]
    for result in ranked(results):
        summary = result.summary
        rows.append(
            [
                result.name,
                f"{summary.parameters / 1e6:.1f}",
                f"{summary.macs / 1e9:.2f}",
                "all" if summary.reach is None else str(summary.reach.field),
                f"{result.seconds:.3f}",
                f"{result.memory / 1e6:.0f}",
                *(
                    mean_and_deviation(result.values(name))
                    for name in ("pixel_accuracy", "miou", "boundary_f1")
                ),
            ]
        )
    return rows


def ranked(results: Sequence[Result]) -> list[Result]:
    """Sort by mIoU, the best first."""
    return sorted(results, key=lambda result: -result.mean("miou"))


def mean_and_deviation(values: Shares) -> str:
    """Write the mean over runs and their standard deviation, in percent; nan is left out.

    >>> import numpy as np
    >>> mean_and_deviation(np.array([0.70, 0.72])), mean_and_deviation(np.array([0.5]))
    ('71.0 ± 1.4', '50.0')
    """
    there = values[values == values]
    if not there.size:
        return percent(float("nan"))
    shown = percent(float(there.mean()))
    return f"{shown} ± {percent(float(there.std(ddof=1)))}" if len(there) > 1 else shown


def class_table(results: Sequence[Result]) -> Rows:
    """Lay out the IoU of each class."""
    rows = [["IoU %", *results[0].runs[0].class_names]]
    for result in ranked(results):
        rows.append([result.name, *map(mean_and_deviation, result.class_iou().T)])
    return rows


def difference_table(found: dict[str, list[Difference]], results: Sequence[Result]) -> Rows:
    """Lay out the differences to the best, for each figure they were worked out for."""
    rows = [
        ["model", *(f"{HEADLINES[name]}, points to {best(results, name).name}" for name in found)]
    ]
    for result in ranked(results):
        cells = [
            next((difference_line(d) for d in each if d.name == result.name), "best")
            for each in found.values()
        ]
        rows.append([result.name, *cells])
    return rows


def difference_line(difference: Difference) -> str:
    """Write a difference in points with interval and verdict.

    >>> difference_line(Difference("nearest", 0.012, (-0.004, 0.029)))
    '+1.2 [-0.4, +2.9]: not distinguishable'
    """
    shown = f"{100 * difference.value:+.1f}"
    if difference.interval is not None:
        low, high = difference.interval
        shown += f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{shown}: {difference.verdict}"


def as_markdown(rows: Rows) -> str:
    """Write a table in Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """Write a row a run, all figures as plain numbers; n/a is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = results[0].runs[0].class_names
    costs = ("parameters", "macs", "receptive_field", "seconds_per_step", "memory_bytes")
    headlines = results[0].runs[0].headlines
    writer.writerow(["model", "run", *costs, *headlines, *(f"iou/{name}" for name in names)])
    for result in results:
        reach = result.summary.reach
        cost = [result.summary.parameters, result.summary.macs, reach.field if reach else "all"]
        for number, run in enumerate(result.runs):
            shares = [run.headlines[name].value for name in headlines] + list(run.scores.iou)
            writer.writerow(
                [result.name, number, *cost, result.seconds, result.memory]
                + ["" if math.isnan(share) else share for share in shares]
            )
    return text.getvalue()
