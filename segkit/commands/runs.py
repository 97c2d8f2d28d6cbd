"""List runs: how far each has come, its scores, and in which settings they differ.

segkit runs
segkit runs runs/compare --json runs.json

A run whose records cannot be read is listed as damaged, and the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten

from segkit.console import complain, say
from segkit.errors import UserError
from segkit.files import check_output, write_file

MOST, WIDEST = 5, 24  # settings that have a column, and characters of one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("runs"), help="of run folders (default: runs)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the list as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from segkit.tables import as_text, make_table
    from segkit.training.runs import differing_settings, find_runs

    check_output(arguments.json)
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the one that holds the runs")
    runs = find_runs(folder)
    keys = differing_settings(runs)
    rows = [
        [
            str(each.path),
            each.state,
            f"{each.epochs}/{each.planned or '?'}",
            "-" if each.minutes is None else f"{each.minutes:.1f}",
            "-" if each.miou is None else f"{100 * each.miou:.1f}",
            "-" if each.loss is None else f"{each.loss:.3f}",
            *(shorten(str(each.settings.get(key, "-")), WIDEST) for key in keys[:MOST]),
        ]
        for each in runs
    ]
    columns = ["run", "state", "epochs", "minutes", "best mIoU %", "loss"]
    columns += [key.removesuffix(".name") for key in keys[:MOST]]
    damaged = [each for each in runs if each.problem is not None]
    say(as_text(make_table(f"{len(runs)} runs below {folder}", columns, rows), width=1000))
    if keys[MOST:]:
        say(f"they also differ in {', '.join(keys[MOST:])}")
    for each in damaged:
        complain(f"damaged: {each.problem}")
    if arguments.json:
        content = [{**asdict(each), "path": str(each.path)} for each in runs]
        write_file(arguments.json, json.dumps(content, indent=2) + "\n")
    return 1 if damaged else 0
