"""Measure speed on this machine.

python tools/benchmark.py data configs/unet_vgg16.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from segkit.cli import add_device, add_overrides, make_parser, run_tool
from segkit.config import load_config


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and measure."""
    parser = make_parser("Measure speed on this machine.")
    parser.add_argument("what", choices=["data"], help="data: reading, augmenting, loading")
    parser.add_argument("config", help="an experiment, e.g. configs/unet_vgg16.yaml")
    add_overrides(parser, "override settings, e.g. --set data.workers=1")
    add_device(parser)
    return run_tool(data, parser, argv)


def data(arguments: argparse.Namespace) -> int:
    """Print how fast samples come, and whether training waits for them."""
    config = load_config(arguments.config, arguments.set)

    from segkit.data import load_card
    from segkit.hardware import choose_hardware
    from segkit.training.benchmark import measure_data

    hardware = choose_hardware(arguments.device, config.precision)
    card = load_card(config.data.card, config.data.root)
    speed = measure_data(config, card, hardware)
    both = 1 / (1 / speed.decode + 1 / speed.augment)
    table = Table(title=f"{card.name}, batches of {config.data.batch_size}, {hardware}")
    table.add_column("what")
    table.add_column("samples/s", justify="right")
    for what, rate in (
        ("decode, one core", speed.decode),
        ("augment, one core", speed.augment),
        ("decode and augment, one core", both),
        (f"loader alone, {config.data.workers} workers", speed.loader),
        ("training step alone", speed.step),
        ("training", speed.training),
    ):
        table.add_row(what, f"{rate:.1f}")
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    console.print(table)
    keeps_up = "keeps up with" if speed.loader > speed.step else "is slower than"
    console.print(
        f"the loader {keeps_up} the step ({speed.loader / speed.step:.1f} times its rate); loading "
        f"costs {max(0, 1 - speed.training / speed.step):.1%} of the training speed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
