"""Read a whole data set and report all that is wrong with it.

segkit check-data camvid --data-root DIR
segkit check-data unet_vgg16 --html report.html --json report.json
segkit check-data camvid --encoder vgg16     # also finds mirrored, cropped and recoloured copies

Exit code 0: no error (there may be warnings); 1: errors; 2: misuse.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from segkit.commands.options import (
    add_data_root,
    add_device,
    add_encoder,
    add_overrides,
    read_weights,
)
from segkit.console import PlainConsole, progress_bar
from segkit.errors import UserError
from segkit.files import check_output, write_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("source", help="a dataset card, or an experiment that names one")
    add_overrides(parser, "override keys of the card or experiment, e.g. --set image_max=4095")
    add_data_root(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page")
    add_encoder(parser, None)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 if there is no error in the data, else 1."""
    from segkit.data.reader import ensure_data
    from segkit.doctor.look_alikes import describe_splits
    from segkit.doctor.page import as_html
    from segkit.doctor.report import lines, make_report, tables
    from segkit.doctor.scan import list_splits, scan
    from segkit.doctor.source import chosen_splits, load_source

    if arguments.weights and not arguments.encoder:
        raise UserError("--weights are those of an encoder; add --encoder, e.g. --encoder vgg16")
    check_output(arguments.json)
    check_output(arguments.html)
    card, config = load_source(arguments.source, arguments.set, arguments.data_root)
    ensure_data(card)
    splits, needed = chosen_splits(card, config)
    listed = list_splits(card, splits)
    describer = None
    if arguments.encoder:
        from segkit.descriptors import Describer

        describer = Describer(arguments.encoder, read_weights(arguments), arguments.device)

    console = PlainConsole()
    with progress_bar(console) as progress:
        total = sum(len(split.pairs) for split in listed)
        task = progress.add_task(card.name, total=total)
        channels = config.model.in_channels if config else None
        scan(card, listed, channels, on_pair=lambda: progress.advance(task))
        if describer:
            task = progress.add_task(arguments.encoder, total=total)
            describe_splits(card, listed, describer, on_pair=lambda: progress.advance(task))
    report = make_report(card, listed, needed)

    for table in tables(report):
        console.print(table)
    styles = {"error": "bold red", "warning": "yellow"}
    for severity, text in lines(report):
        if severity:
            console.print(f"{severity}: ", style=styles[severity], end="")
        console.print(text if severity else f"    {text}")
    console.print(f"{card.name} at {card.root}: {report.verdict}")
    if arguments.json:
        write_file(arguments.json, json.dumps(report.as_json(), indent=2) + "\n")
    if arguments.html:
        write_file(arguments.html, as_html(report, listed))
    return 1 if report.errors else 0
