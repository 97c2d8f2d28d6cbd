"""Measure speed on this machine.

segkit benchmark data unet_vgg16
segkit benchmark train unet_vgg16 --peer smp
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from segkit.commands.options import add_data_root, add_device, add_overrides
from segkit.config import load_config

if TYPE_CHECKING:
    from segkit.experiment import Experiment

CONSOLE = Console(highlight=False, soft_wrap=True, emoji=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "what",
        choices=["data", "train"],
        help="data: reading, augmenting, loading; train: training steps",
    )
    parser.add_argument("config", help="an experiment, e.g. unet_vgg16 or my.yaml")
    parser.add_argument(
        "--peer",
        choices=["smp"],
        help="with train: also segmentation_models.pytorch's Unet('vgg16') on the same batch",
    )
    add_overrides(parser, "override settings, e.g. --set data.workers=1")
    add_data_root(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware

    config = load_config(arguments.config, arguments.set, arguments.data_root)
    hardware = choose_hardware(arguments.device, config.precision)
    experiment = Experiment.from_config(config, hardware, load_weights=False)
    if arguments.what == "data":
        show_data(experiment)
    else:
        show_train(experiment, arguments.peer)
    return 0


def show_data(experiment: Experiment) -> None:
    """Print how fast samples come, and whether training waits for them."""
    from segkit.benchmark.data_speed import measure_data

    speed = measure_data(experiment)
    both = 1 / (1 / speed.decode + 1 / speed.augment)
    assert experiment.card is not None
    title = f"{experiment.card.name}, batches of {experiment.batch_size}, {experiment.hardware}"
    table = Table(title=title)
    table.add_column("what")
    table.add_column("samples/s", justify="right")
    for what, samples in (
        ("decode, one core", speed.decode),
        ("augment, one core", speed.augment),
        ("decode and augment, one core", both),
        (f"loader alone, {experiment.workers} workers", speed.loader),
        ("training step alone", speed.step),
        ("training", speed.training),
    ):
        table.add_row(what, _rate(samples))
    CONSOLE.print(table)
    keeps_up = "keeps up with" if speed.loader > speed.step else "is slower than"
    CONSOLE.print(
        f"the loader {keeps_up} the step ({speed.loader / speed.step:.1f} times its rate); loading "
        f"costs {max(0, 1 - speed.training / speed.step):.1%} of the training speed"
    )


def show_train(experiment: Experiment, peer: str | None) -> None:
    """Print how fast a training step is, and how much faster than the peer's."""
    from segkit.benchmark.step_speed import measure_step

    speeds, peak = measure_step(experiment, peer)
    table = Table(title=f"training steps of batch {experiment.batch_size}, {experiment.hardware}")
    table.add_column("step")
    for column in ("s", "images/s", "GFLOP", "GFLOP/s", "of the peak", "memory MB", "ratio"):
        table.add_column(column, justify="right")
    for speed in speeds:
        table.add_row(
            speed.name,
            f"{speed.seconds:.3f}",
            _rate(speed.images),
            f"{speed.gflop:.0f}",
            f"{speed.gflop / speed.seconds:.0f}",
            f"{speed.share:.0%}",
            f"{speed.memory / 1e6:.0f}",
            f"{speed.seconds / speeds[0].seconds:.2f}",
        )
    CONSOLE.print(table)
    CONSOLE.print(f"peak: {peak:.0f} GFLOP/s, a 3x3 convolution in bf16, forward and backward")


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
