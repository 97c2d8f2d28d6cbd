"""Compare models: same data, same recipe, several seeds.

python tools/compare.py configs/unet_vgg16.yaml configs/bilinear_vgg16.yaml --seeds 3
python tools/compare.py runs/a runs/b --split test --out reports/a_b
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from segkit.cli import add_device, check_folder, make_parser, positive, run_tool, write_file

FIGURES = ("miou", "boundary_f1")  # whose differences are worked out


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and compare."""
    parser = make_parser("Compare models: same data, same recipe, several seeds.")
    parser.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL",
        help="an experiment (YAML), trained if it is not yet; or a run folder or checkpoint. Runs "
        "that differ by their seed alone are one model",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, help="runs of each experiment (default: 3)"
    )
    parser.add_argument("--split", help="to judge on (default: the validation split)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        metavar="DIR",
        help="of runs and results (default: runs/compare)",
    )
    parser.add_argument(
        "--block",
        type=positive,
        metavar="N",
        help="images drawn together for intervals, see eval.py",
    )
    add_device(parser)
    return run_tool(compare, parser, argv)


def compare(arguments: argparse.Namespace) -> int:
    """Train what is not trained yet, judge all, and tell; 130 if a signal came while training."""
    from segkit.comparison import differences, gather, judge
    from segkit.comparison.contestants import other_differences
    from segkit.comparison.figure import draw_costs
    from segkit.comparison.page import render
    from segkit.comparison.written import (
        as_csv,
        as_markdown,
        class_table,
        difference_table,
        main_table,
    )
    from segkit.config import Config
    from segkit.data import Card
    from segkit.hardware import choose_hardware
    from segkit.training.loop import Stopped, Trainer

    check_folder(arguments.out)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    console.width = max(console.width, 110)  # narrower, the tables would be hard to read

    def train(config: Config, card: Card, resume: bool) -> None:
        console.print(f"training {config.run_dir}", markup=False)
        hardware = choose_hardware(arguments.device, config.precision)
        Trainer(config, card, hardware, resume=resume).run()

    try:
        contestants = gather(arguments.models, arguments.seeds, arguments.out, train)
    except Stopped:
        again = ["python", "tools/compare.py", *(sys.argv[1:])]
        console.print(f"stopped and saved; go on with: {shlex.join(again)}", markup=False)
        return 130
    hardware = choose_hardware(arguments.device, contestants[0].config.precision)
    results = judge(
        contestants,
        arguments.split,
        arguments.device,
        hardware,
        arguments.block,
        on_step=lambda what: console.print(what, markup=False),
    )

    found = {name: differences(results, name) for name in FIGURES}
    tables = {
        "What it costs and brings": main_table(results),
        "Differences to the best": difference_table(found, results),
        "IoU of each class": class_table(results),
    }
    split = arguments.split or contestants[0].config.data.val_split
    images = results[0].runs[0].images
    counts = sorted({len(result.runs) for result in results})
    runs = " or ".join(map(str, counts))
    notes = [
        f"{contestants[0].card.name} {split}, {images} images; {runs} "
        f"run{'s' if counts[-1] > 1 else ''} of each model (± is the standard deviation over "
        "them); differences with 95 % intervals by paired bootstrap over images and runs; "
        f"steps of batch {contestants[0].config.data.batch_size} on {hardware}, taken in turns.",
        *(f"WARNING: {line}" for line in other_differences(contestants)),
    ]
    for heading, rows in tables.items():
        console.print(_table(heading, rows))
    for note in notes:
        console.print(note, markup=False)

    out = arguments.out
    title = f"Comparison on {contestants[0].card.name} {split}"
    picture = draw_costs(results)
    caption = "mIoU and boundary F1 of each model against its MACs and the seconds of a step"
    sections = [f"## {heading}\n\n{as_markdown(rows)}" for heading, rows in tables.items()]
    write_file(
        out / "comparison.md",
        "\n".join([f"# {title}\n", *(f"{n}\n" for n in notes), *sections])
        + f"\n![{caption}](comparison.png)\n",
    )
    write_file(out / "comparison.csv", as_csv(results))
    write_file(out / "comparison.html", render(title, notes, tables, picture, caption))
    write_file(out / "comparison.png", picture)
    console.print(f"written: {out}{os.sep}comparison.md, .csv, .html, .png", markup=False)
    return 0


def _table(title: str, rows: list[list[str]]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for number, cell in enumerate(rows[0]):
        table.add_column(cell, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*(cell.replace(" ", "\u00a0") for cell in row))  # headers alone may wrap
    return table


if __name__ == "__main__":
    sys.exit(main())
