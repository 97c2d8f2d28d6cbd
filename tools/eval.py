"""Judge a checkpoint on a split of its data set.

python tools/eval.py runs/unet_vgg16
python tools/eval.py runs/unet_vgg16 --split test --json scores.json
torchrun --nproc_per_node=2 tools/eval.py runs/unet_vgg16
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from segkit.cli import add_device, make_parser, run_tool, write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate."""
    parser = make_parser("Judge a checkpoint on a split of its data set.")
    parser.add_argument("checkpoint", type=Path, help="a run folder (its best.pt) or a file")
    parser.add_argument("--split", help="of the data set (default: the validation split)")
    parser.add_argument("--data-root", metavar="DIR", help="where the data lies now")
    parser.add_argument("--batch-size", type=int, help="default: as trained")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    add_device(parser)
    return run_tool(evaluate_checkpoint, parser, argv)


def evaluate_checkpoint(arguments: argparse.Namespace) -> int:
    """Print the scores of a checkpoint."""
    from segkit.checkpoint import find_checkpoint, load_checkpoint, restore_config, restore_model
    from segkit.data import Card, build_dataset, make_loader
    from segkit.data.loader import EpochBatches
    from segkit.data.transforms import build_normalize
    from segkit.evaluation import evaluate, majority_baseline
    from segkit.evaluation.table import class_table, headlines
    from segkit.hardware import choose_hardware
    from segkit.processes import join_processes

    path = find_checkpoint(arguments.checkpoint)
    content = load_checkpoint(path)
    config = restore_config(content, path)
    card = Card.model_validate(content["card"])
    if arguments.data_root:
        card = card.model_copy(update={"root": str(Path(arguments.data_root).resolve())})
    split = arguments.split or config.data.val_split
    hardware = choose_hardware(arguments.device, config.precision)
    model = hardware.place(restore_model(content, path))
    dataset = build_dataset(config, card, split, augment=False)

    with join_processes(hardware.device) as processes:
        sampler = EpochBatches(
            len(dataset),
            arguments.batch_size or config.data.batch_size,
            shuffle=False,
            rank=processes.rank,
            count=processes.count,
        )
        console = Console(highlight=False, soft_wrap=True, quiet=not processes.is_main)
        console.print(f"{path}, epoch {content['epoch']}, on {card.name} {split}; {hardware}")
        silent = not (processes.is_main and console.is_terminal)
        with Progress(console=console, transient=True, disable=silent) as progress:
            task = progress.add_task(split, total=len(dataset))
            found = evaluate(
                model,
                make_loader(dataset, sampler, config.data.workers),
                build_normalize(config).to(hardware.device),
                card.num_classes,
                hardware,
                on_batch=lambda images: progress.advance(task, images * processes.count),
                processes=processes,
            )
    if not processes.is_main:
        return 0
    console.print(class_table(found, card))
    for line in headlines(found, card):
        console.print(line, markup=False)
    console.print(f"{found.images / found.seconds:.1f} images/s")

    if arguments.json:
        majority, baseline = majority_baseline(found.matrix)
        report = {
            "checkpoint": str(path),
            "split": split,
            "images": found.images,
            "classes": card.class_names,
            "scores": asdict(found.scores),
            "baseline": {"class": card.class_names[majority], "scores": asdict(baseline)},
            "confusion_matrix": found.matrix.tolist(),
        }
        write_text(arguments.json, json.dumps(_without_nan(report), indent=2) + "\n")
    return 0


def _without_nan(value: object) -> object:
    """Write n/a as null: JSON has no nan."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if value != value else value


if __name__ == "__main__":
    sys.exit(main())
