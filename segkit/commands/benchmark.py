"""Measure speed on this machine.

segkit benchmark data unet_vgg16
segkit benchmark train unet_vgg16 --peer smp
segkit benchmark decoders resnet34 --peer smp
segkit benchmark inference unet_vgg16 exported/model_int8.xml --size 360 480 --peer smp
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from segkit.commands.options import add_data_root, add_device, add_overrides, positive
from segkit.commands.summary import parse_size
from segkit.config import load_config
from segkit.errors import UserError
from segkit.limits import cpu_count
from segkit.tables import wide_console
from segkit.units import megabytes

if TYPE_CHECKING:
    from segkit.experiment import Experiment
    from segkit.features import Size
    from segkit.hardware import Hardware

CONSOLE = wide_console()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "what",
        choices=["data", "train", "decoders", "inference"],
        help="data: reading, augmenting, loading; train: training steps; decoders: training steps "
        "of every decoder; inference: prediction",
    )
    parser.add_argument(
        "config",
        nargs="+",
        help="an experiment, e.g. unet_vgg16 or my.yaml; with inference one or more of these, run "
        "folders, checkpoints and exported files; with decoders an encoder, e.g. resnet34",
    )
    parser.add_argument(
        "--peer",
        choices=["smp"],
        help="also segmentation_models.pytorch's Unet('vgg16'), or with decoders its networks of "
        "their names",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        metavar=("H", "W"),
        help="of images, with inference and decoders (default: 224 224)",
    )
    parser.add_argument(
        "--batch",
        type=positive,
        default=1,
        help="images at once, with inference and decoders (default: 1)",
    )
    add_overrides(parser, "override settings, e.g. --set data.workers=1")
    add_data_root(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware

    size = parse_size(arguments.size) or (224, 224)
    if arguments.what in ("inference", "decoders") and arguments.set:
        raise UserError("--set changes one experiment; write another file to compare with")
    if arguments.what == "inference":
        show_inference(arguments.config, size, arguments.batch, bool(arguments.peer))
        return 0
    if len(arguments.config) > 1:
        what = "encoder" if arguments.what == "decoders" else "experiment"
        raise UserError(f"benchmark {arguments.what} takes one {what} at a time")
    if arguments.what == "decoders":
        hardware = choose_hardware(arguments.device)
        show_decoders(arguments.config[0], size, arguments.batch, hardware, bool(arguments.peer))
        return 0
    config = load_config(arguments.config[0], arguments.set, arguments.data_root)
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
            megabytes(speed.memory),
            f"{speed.seconds / speeds[0].seconds:.2f}",
        )
    CONSOLE.print(table)
    CONSOLE.print(f"peak: {peak:.0f} GFLOP/s, a 3x3 convolution in bf16, forward and backward")


def show_decoders(encoder: str, size: Size, batch: int, hardware: Hardware, peer: bool) -> None:
    """Print what every decoder costs on an encoder."""
    from segkit.benchmark.decoder_speed import measure_decoders

    table = Table(
        title=f"training steps of {batch} x {size[0]}x{size[1]} on {encoder}, {hardware}",
        caption="peer: its network of that name as it comes, with its own options and strides; "
        "alike: in our precision and layout"
        if peer
        else None,
    )
    columns = ["decoder", "parameters M", "GMAC", "s"]
    peers = ["peer: M", "GMAC", "s", "s, alike", "ratio", "alike"]
    for column in columns + (peers if peer else []):
        table.add_column(column, justify="left" if column == "decoder" else "right")
    for name, ours, other, alike in measure_decoders(encoder, size, batch, hardware, peer):
        row = [f"{ours.parameters / 1e6:.1f}", f"{ours.gmac:.1f}", f"{ours.seconds:.3f}"]
        if other and alike:
            row += [f"{other.parameters / 1e6:.1f}", f"{other.gmac:.1f}", f"{other.seconds:.3f}"]
            row.append(f"{alike.seconds:.3f}")
            row += [f"{each.seconds / ours.seconds:.2f}" for each in (other, alike)]
        table.add_row(name, *row)
    CONSOLE.print(table)


def show_inference(sources: Sequence[str], size: Size, batch: int, peer: bool) -> None:
    """Print how fast networks and exported files predict."""
    from segkit.benchmark.inference_speed import find_contestants, measure_inference

    speeds, peak = measure_inference(list(find_contestants(sources, peer)), size, batch)
    reference = speeds[-1 if peer else 0].seconds
    table = Table(title=f"{batch} x {size[0]}x{size[1]}, {cpu_count()} CPUs, from bytes to classes")
    table.add_column("model")
    for column in ("ms an image", "images/s", "GFLOP", "of the peak", "memory MB", "times as fast"):
        table.add_column(column, justify="right")
    for speed in speeds:
        share = "" if speed.gflop is None else f"{speed.gflop / speed.seconds / peak:.0%}"
        table.add_row(
            speed.name,
            f"{1000 * speed.seconds / batch:.1f}",
            _rate(batch / speed.seconds),
            "" if speed.gflop is None else f"{speed.gflop:.0f}",
            share,
            megabytes(speed.memory),
            f"{reference / speed.seconds:.2f}",
        )
    CONSOLE.print(table)
    CONSOLE.print(f"peak: {peak:.0f} GFLOP/s, a 3x3 convolution in bf16, forward alone")


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
