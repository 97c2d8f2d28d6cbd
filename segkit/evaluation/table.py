"""An evaluation as lines for the terminal."""

from __future__ import annotations

from rich.table import Table

from segkit.evaluation.intervals import MIN_BLOCKS
from segkit.evaluation.results import Results
from segkit.evaluation.scores import percent, with_interval


def headlines(results: Results) -> list[str]:
    """Return the headline scores as lines, with the majority-class baseline and warnings."""
    scores, baseline = results.scores, results.baseline
    return [
        *(
            scores.miou_line(interval)
            if name == "miou"
            else f"{results.label(name)} {with_interval(value, interval)}"
            for name, (value, interval, _) in results.headlines.items()
        ),
        f"calibration error {percent(results.calibration.error)} %",
        f"baseline, '{results.class_names[results.majority]}' everywhere: pixel accuracy "
        f"{percent(baseline.pixel_accuracy)} %, mIoU {percent(baseline.miou)} %",
        interval_note(results),
        *(f"WARNING: {warning}" for warning in results.warnings),
    ]


def interval_note(results: Results) -> str:
    """Return what the intervals are, or why there are none."""
    if results.blocks < MIN_BLOCKS:
        return f"no intervals: {results.drawn}, and fewer than {MIN_BLOCKS} are too few"
    independent = ", taken as independent" if results.block == 1 else ""
    return f"[...]: 95 % intervals by bootstrap over {results.drawn}{independent}"


def convention_table(results: Results) -> Table:
    """Return the mIoU under the rules of other toolkits."""
    table = Table(title='what is called "mIoU" elsewhere')
    table.add_column("rule")
    table.add_column("used by")
    table.add_column("%", justify="right")
    for convention in results.conventions:
        table.add_row(convention.rule, convention.used_by, percent(convention.value))
    return table
