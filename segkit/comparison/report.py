"""A comparison as files: Markdown, CSV, a page and a picture."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from segkit.comparison.contestants import DECODER, Contestant, other_differences
from segkit.comparison.differences import MIN_RUNS, Difference, differences
from segkit.comparison.export import (
    class_table,
    difference_csv,
    difference_table,
    main_table,
    run_csv,
)
from segkit.comparison.results import Compared
from segkit.comparison.vary import Vary
from segkit.drawing.costs import draw_costs
from segkit.drawing.pages import render
from segkit.evaluation.intervals import MIN_BLOCKS
from segkit.files import write_file
from segkit.hardware import Hardware
from segkit.tables import Rows, as_markdown

COMPARED = ("foreground_iou", "miou", "boundary_f1")  # headlines whose differences are worked out


class Report(NamedTuple):
    """A comparison in words: sentences on how it was made, and tables by their headings.

    The differences are those to the best, by headline.
    """

    title: str
    notes: list[str]
    tables: dict[str, Rows]
    differences: dict[str, list[Difference]]


def make_report(
    contestants: Sequence[Contestant],
    results: Sequence[Compared],
    split: str | None,
    hardware: Hardware,
    overrides: Sequence[str] = (),
    vary: Vary | None = None,
) -> Report:
    """Lay out what was compared and what came out; see `gather` and `compare_models`.

    Args:
        contestants: what was compared.
        results: what came out.
        split: that was evaluated on; None: the validation split.
        hardware: that training steps were measured on.
        overrides: of all experiments.
        vary: the key whose values were compared.
    """
    first = contestants[0]
    split = split or first.config.data.val_split
    counts = sorted({len(result.runs) for result in results})
    runs = f"{' or '.join(map(str, counts))} run{'s' if counts[-1] > 1 else ''}"
    run = results[0].runs[0]
    notes = [
        f"{first.card.name} {split}, {run.images} images; {runs} of each model (± is the standard "
        f"deviation over them); steps of batch {first.config.data.batch_size} on {hardware}, taken "
        "in turns.",
        "Each difference has its own 95 % interval by paired bootstrap over images and runs, not "
        "adjusted for how many there are. The verdicts are adjusted, within each score, by Holm's "
        "procedure over all pairs of models: with a probability of 95 %, every 'worse' in a column "
        "is right. So an interval may exclude 0 where models are not distinguishable. Fewer than "
        f"{MIN_BLOCKS} independent images or blocks of consecutive images (here: {run.drawn}), or "
        f"than {MIN_RUNS} runs of a model, are too few to tell.",
    ]
    if 1 in counts:
        notes.append(
            "A single run is compared with a single run over images alone, which says nothing of "
            "other seeds."
        )
    if vary:
        notes.insert(0, f"Varied: {vary.key}; all else is as in {vary.file.name}.")
    if overrides:
        notes.insert(1 if vary else 0, f"Set in all models: {', '.join(overrides)}.")
    found = {name: differences(results, name) for name in compared(results)}
    tables = {
        "What it costs and brings": main_table(results),
        "Differences to the best": difference_table(found, results),
        "IoU of each class": class_table(results),
    }
    varied = vary.key if vary else DECODER
    warnings = [f"WARNING: {line}" for line in other_differences(contestants, varied)]
    return Report(f"Comparison on {first.card.name} {split}", [*notes, *warnings], tables, found)


def compared(results: Sequence[Compared]) -> dict[str, str]:
    """Return the headlines whose differences are worked out, and what they are called."""
    run = results[0].runs[0]
    return {name: run.label(name) for name in COMPARED if name in run.headlines}


def write_report(folder: Path, report: Report, results: Sequence[Compared]) -> None:
    """Write `comparison.md`, `.csv`, `.html` and `.png`, and `differences.csv`."""
    height, width = results[0].summary.size
    costs = {
        f"GMAC at {height}x{width}": [result.summary.macs / 1e9 for result in results],
        "seconds per training step": [result.seconds for result in results],
    }
    labels = compared(results)
    scores = {
        f"{label} in %": [result.values(name) for result in results]
        for name, label in labels.items()
    }
    picture = draw_costs([result.name for result in results], costs, scores)
    shown = " and ".join(labels.values())
    caption = f"{shown} of each model against its MACs and the seconds of a step"
    sections = [f"## {head}\n\n{as_markdown(rows)}" for head, rows in report.tables.items()]
    text = [f"# {report.title}\n", *(f"{note}\n" for note in report.notes), *sections]
    write_file(folder / "comparison.md", "\n".join(text) + f"\n![{caption}](comparison.png)\n")
    write_file(folder / "comparison.csv", run_csv(results))
    write_file(folder / "differences.csv", difference_csv(report.differences, results))
    extra = {"figure": base64.b64encode(picture).decode(), "caption": caption}
    page = render("segkit.comparison", "comparison.html.j2", **report._asdict(), **extra)
    write_file(folder / "comparison.html", page)
    write_file(folder / "comparison.png", picture)
