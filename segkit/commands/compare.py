"""Compare models: same data, same recipe, several seeds.

segkit compare unet_vgg16 bilinear_vgg16 --seeds 3
segkit compare runs/a runs/b --split test --out reports/a_b
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from segkit.commands.options import (
    add_block,
    add_data_root,
    add_device,
    checkpoint,
    positive,
)
from segkit.files import check_folder
from segkit.invocation import repeat


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "models",
        nargs="+",
        type=checkpoint,
        metavar="MODEL",
        help="an experiment (YAML), trained if it is not yet; or a run folder, a checkpoint or "
        "hf://user/model on the hub. Runs that differ by their seed alone are one model",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, help="runs of each experiment (default: 3)"
    )
    parser.add_argument("--split", help="to evaluate on (default: the validation split)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        metavar="DIR",
        help="of runs and results (default: runs/compare)",
    )
    add_block(parser)
    add_data_root(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train what is not trained yet, and compare; 130 if a signal came while training."""
    from segkit.comparison import Stopped, compare_models, gather, make_report, write_report
    from segkit.hardware import choose_hardware
    from segkit.tables import make_table, wide_console

    check_folder(arguments.out)
    console = wide_console()
    on_step = partial(console.print, markup=False)
    device, split = arguments.device, arguments.split
    try:
        contestants = gather(
            arguments.models, arguments.seeds, arguments.out, device, on_step, arguments.data_root
        )
    except Stopped:
        console.print(f"stopped and saved; go on with: {repeat()}", markup=False)
        return 130
    hardware = choose_hardware(device, contestants[0].config.precision)
    results = compare_models(
        contestants, split, device, hardware, arguments.block, on_step, arguments.data_root
    )
    report = make_report(contestants, results, split, hardware)
    for heading, rows in report.tables.items():
        # headers alone may wrap
        cells = [[cell.replace(" ", "\u00a0") for cell in row] for row in rows[1:]]
        console.print(make_table(heading, rows[0], cells))
    for note in report.notes:
        console.print(note, markup=False)
    write_report(arguments.out, report, results)
    names = "comparison.md, .csv, .html, .png and differences.csv"
    console.print(f"written: {arguments.out}{os.sep}{names}", markup=False)
    return 0
