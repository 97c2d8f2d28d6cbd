"""Suggest a learning rate: train a little while it rises, and see where the loss falls fastest.

segkit find-lr unet_vgg16
segkit find-lr unet_vgg16 --set data.batch_size=8 --steps 200 --out lr.png

Exit code 0: there is a suggestion; 1: there is none; 2: misuse.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.commands.options import add_data_root, add_device, add_overrides
from segkit.config import load_config
from segkit.console import complain, say
from segkit.errors import UserError
from segkit.files import check_output
from segkit.invocation import again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("config", help="an experiment, e.g. unet_vgg16 or my.yaml")
    add_overrides(parser, "override settings, e.g. --set data.batch_size=8")
    add_data_root(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: CONFIG_lr.png")
    parser.add_argument("--steps", type=int, default=100, help="of training (default: 100)")
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the loss over the learning rate and print the suggestion; 1 if there is none."""
    name = Path(arguments.config).stem
    path = arguments.out or Path(f"{name}_lr.png")
    path = path if path.suffix else path.with_suffix(".png")
    if path.suffix.lower() != ".png":
        raise UserError(f"cannot write {path}: the picture is a PNG; name it {path.stem}.png")
    check_output(path)
    config = load_config(arguments.config, arguments.set, arguments.data_root)

    from segkit.benchmark.lr_range import find_lr
    from segkit.drawing.lr_range import draw_range_test
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware
    from segkit.training.determinism import deterministic

    hardware = choose_hardware(arguments.device, config.precision)
    with deterministic(config.train.deterministic):
        test = find_lr(Experiment.from_config(config, hardware), arguments.steps)
    optimizer = config.train.optimizer
    title = f"{name}: loss while the learning rate of {optimizer.name} rises"
    draw_range_test(path, test, optimizer.lr, title)
    if test.rates:
        end = "where the loss diverged" if test.diverged else "the end of the range"
        span = f"{test.rates[0]:.1e} to {test.rates[-1]:.1e}, {end}"
        say(f"tested   {len(test.rates)} learning rates from {span}; drawn in {path}")
    if test.suggestion is None:
        complain(
            "no suggestion: the smoothed loss never fell by a tenth; take more --steps, or see "
            "whether the model learns at all: "
            f"{_train(arguments)} --overfit 4"
        )
        return 1
    value = f"{test.suggestion:.1e}"
    arguments.set.append(f"train.optimizer.lr={value}")
    say(f"suggest  {value}, from where the smoothed loss falls fastest; now {optimizer.lr:.1e}")
    say(f"use it   {_train(arguments)}")
    return 0


def _train(arguments: argparse.Namespace) -> str:
    """Return the command that trains with these settings."""
    settings = ["--set", *arguments.set] if arguments.set else []
    settings += ["--data-root", arguments.data_root] if arguments.data_root else []
    return again("train", arguments.config, *settings)
