"""An evaluation as lines and a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from segkit.evaluation.findings import HEADLINES, Findings
from segkit.evaluation.metrics import percent, with_interval


def class_table(findings: Findings, title: str) -> Table:
    """Lay out the figures of each class."""
    table = Table(
        title=f"{title}, in %",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("class")
    columns = {
        "IoU": findings.scores.iou,
        "prec.": findings.scores.precision,
        "recall": findings.scores.accuracy,
        "boundary F1": findings.boundary_f1,
        "boundary IoU": findings.boundary_iou,
        "of truth": findings.truth_share,
        "of pred.": findings.predicted_share,
    }
    for column in columns:
        table.add_column(column, justify="right")
    for row in zip(findings.class_names, *columns.values(), strict=True):
        table.add_row(row[0], *(percent(float(share)) for share in row[1:]))
    return table


def headlines(findings: Findings) -> list[str]:
    """Write the headline figures, with the majority-class baseline beside them."""
    scores, baseline = findings.scores, findings.baseline
    lines = []
    for name, (value, interval, _) in findings.headlines.items():
        line = (
            scores.miou_line(interval)
            if name == "miou"
            else (f"{HEADLINES[name]} {with_interval(value, interval)}")
        )
        lines.append(line)
    lines += [
        f"calibration error {percent(findings.calibration.error)} %",
        f"baseline, '{findings.class_names[findings.majority]}' everywhere: pixel accuracy "
        f"{percent(baseline.pixel_accuracy)} %, mIoU {percent(baseline.miou)} %",
        interval_note(findings),
    ]
    return lines + [f"WARNING: {warning}" for warning in findings.warnings]


def interval_note(findings: Findings) -> str:
    """Say what the intervals are, or why there are none."""
    if findings.headlines["pixel_accuracy"].interval is None:
        return f"too few images ({findings.images}) for intervals"
    blocks = "images" if findings.block == 1 else f"blocks of {findings.block} consecutive images"
    return f"[...]: 95 % intervals by bootstrap over {blocks}"


def convention_table(findings: Findings) -> Table:
    """Lay out the number under the rules of other toolkits."""
    table = Table(title='what is called "mIoU" elsewhere')
    table.add_column("rule")
    table.add_column("used by")
    table.add_column("%", justify="right")
    for convention in findings.conventions:
        table.add_row(convention.rule, convention.used_by, percent(convention.value))
    return table
