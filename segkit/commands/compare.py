"""Compare models: same data, same recipe, several seeds.

segkit compare unet_vgg16 bilinear_vgg16 --seeds 3
segkit compare unet_vgg16 --vary train.loss.name=cross_entropy,lovasz --set train.epochs=4
segkit compare runs/a runs/b --split test --out reports/a_b
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from segkit.commands.options import (
    add_block,
    add_data_root,
    add_device,
    add_overrides,
    checkpoint,
    positive,
)
from segkit.errors import UserError
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
        "--vary",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="compare the values of one key of one experiment, all else fixed, e.g. "
        "train.loss.name=cross_entropy,lovasz or model.decoder.widths=[16,32],[8,16]",
    )
    add_overrides(parser, "override settings of all experiments, e.g. --set train.epochs=4")
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
    from segkit.comparison import (
        Stopped,
        compare_models,
        gather,
        make_report,
        parse_vary,
        write_report,
    )
    from segkit.hardware import choose_hardware
    from segkit.tables import make_table, wide_console

    models, overrides = arguments.models, arguments.set
    if len(arguments.vary) > 1:
        raise UserError("--vary is given twice; vary one key, so that all else is the same")
    vary = parse_vary(arguments.vary[0], models) if arguments.vary else None
    check_folder(arguments.out)
    console = wide_console()
    on_step, device, split = console.print, arguments.device, arguments.split
    try:
        contestants = gather(
            [vary] if vary else models,
            arguments.seeds,
            arguments.out,
            device,
            on_step,
            arguments.data_root,
            overrides,
        )
    except Stopped:
        console.print(f"stopped and saved; go on with: {repeat()}")
        return 130
    hardware = choose_hardware(device, contestants[0].config.precision)
    results = compare_models(
        contestants, split, device, hardware, arguments.block, on_step, arguments.data_root
    )
    report = make_report(contestants, results, split, hardware, overrides, vary)
    for heading, rows in report.tables.items():
        # headers alone may wrap
        cells = [[cell.replace(" ", "\u00a0") for cell in row] for row in rows[1:]]
        console.print(make_table(heading, rows[0], cells))
    for note in report.notes:
        console.print(note)
    write_report(arguments.out, report, results)
    names = "comparison.md, .csv, .html, .png and differences.csv"
    console.print(f"written: {arguments.out}{os.sep}{names}")
    return 0
