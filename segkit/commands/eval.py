"""Evaluate a checkpoint on a split of its data set.

segkit eval runs/unet_vgg16
segkit eval runs/unet_vgg16 --split test --report reports/unet
torchrun --nproc_per_node=2 -m segkit eval runs/unet_vgg16
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from segkit.commands.options import (
    CHECKPOINT,
    add_block,
    add_data_root,
    add_device,
    add_inference,
    checkpoint,
    read_inference,
)
from segkit.console import PlainConsole, progress_bar
from segkit.files import check_folder, check_output, write_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", type=checkpoint, help=CHECKPOINT)
    parser.add_argument("--split", help="of the data set (default: the validation split)")
    parser.add_argument("--card", type=Path, help="another data set with the same classes")
    add_data_root(parser)
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write report.html, metrics.json and CSV here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--conventions", action="store_true", help='show what other toolkits would call "mIoU"'
    )
    add_block(parser)
    add_inference(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the scores of a checkpoint."""
    # these take seconds to import
    from segkit.distributed import join_processes
    from segkit.evaluation import summarize_evaluation
    from segkit.evaluation.export import as_json
    from segkit.evaluation.report import write_report
    from segkit.evaluation.table import convention_table, headlines
    from segkit.evaluation.target import evaluate_target, load_target
    from segkit.units import speed

    check_output(arguments.json)
    check_folder(arguments.report)
    target = load_target(
        arguments.checkpoint,
        arguments.split,
        arguments.device,
        card=arguments.card,
        data_root=arguments.data_root,
        **read_inference(arguments),
    )
    predictor, card, split = target.predictor, target.card, target.dataset.split
    with join_processes(predictor.backend.device) as processes:
        console = PlainConsole(quiet=not processes.is_main)
        console.print(f"{predictor.origin}, on {target.title}; {predictor.backend}")
        with progress_bar(console, hidden=not processes.is_main) as progress:
            task = progress.add_task(split, total=len(target.dataset))
            evaluation = evaluate_target(
                target,
                on_image=lambda: progress.advance(task, processes.count),
                processes=processes,
            )
    if not processes.is_main:
        return 0
    results = summarize_evaluation(
        evaluation,
        card.class_names,
        card.sequences,
        arguments.block,
        foreground=target.foreground,
    )
    console.print(results.class_table(f"{target.title}: {results.images} images"))
    for line in headlines(results):
        console.print(line)
    console.print(speed(results.images / evaluation.seconds))
    if evaluation.tiled is not None:
        console.print(
            f"in exact tiles, as '{evaluation.tiled}' does not fit into memory",
        )
    if arguments.conventions:
        console.print(convention_table(results))

    origin = {"checkpoint": predictor.origin, "data": card.name, "split": split}
    figures = json.dumps(as_json(evaluation, results, **origin), indent=2) + "\n"
    if arguments.json:
        write_file(arguments.json, figures)
    if arguments.report:
        page = write_report(arguments.report, evaluation, results, target, figures)
        console.print(f"report: {page}")
    return 0
