"""Train a model as a YAML file describes.

segkit train unet_vgg16
segkit train unet_vgg16 --set train.epochs=3 run_dir=runs/short
segkit train runs/unet_vgg16 --resume
torchrun --nproc_per_node=2 -m segkit train unet_vgg16
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.commands.options import add_data_root, add_device, add_overrides
from segkit.config import Config, load_config, load_run
from segkit.config.explain import explain_config
from segkit.config.overfit import to_overfit
from segkit.console import say
from segkit.errors import UserError
from segkit.invocation import again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "config",
        type=Path,
        help="an experiment, e.g. unet_vgg16 or my.yaml; with --resume also a run folder",
    )
    add_overrides(parser, "override settings, e.g. --set seed=1 train.epochs=3")
    add_data_root(parser)
    add_device(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint; a run folder brings its settings",
    )
    parser.add_argument(
        "--override", action="store_true", help="with --resume: go on with changed settings"
    )
    parser.add_argument(
        "--overfit",
        type=int,
        metavar="N",
        help="learn N training crops by heart: a model that cannot has a fault",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="show every setting and what it means, and leave",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train to the last epoch; 0 if that was reached, else 128 plus the number of the signal."""
    config = read_config(arguments)
    if arguments.print_config:
        say(explain_config(config), end="")
        return 0

    # these take seconds to import; a misspelt key should be reported at once
    from segkit.distributed import join_processes, was_restarted
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware
    from segkit.training.listeners.run_folder import RunFolder, holds_run
    from segkit.training.trainer import Trainer

    hardware = choose_hardware(arguments.device, config.precision)
    with join_processes(hardware.device, config.train.timeout) as processes:
        resume = arguments.resume or (was_restarted() and holds_run(config.run_dir))
        folder = RunFolder(config.run_dir, resume)  # refused before the data is read
        experiment = Experiment.from_config(
            config, hardware, processes, load_weights=not resume, overfit=arguments.overfit
        )
        trainer = Trainer(experiment, folder, resume=resume, override=arguments.override)
        trainer.fit()
        if trainer.stopped:
            command = again("train", str(folder.path), "--resume", *_options(arguments))
            trainer.log(f"stopped and saved to {folder.last}; go on with: {command}")
            return 128 + trainer.signals.number
        best = f"best mIoU {100 * trainer.state.progress.best_miou:.1f} %"
        command = again("eval", str(folder.path))
        trainer.log(f"done     {best}; evaluate it with: {command}")
        return 0


def read_config(arguments: argparse.Namespace) -> Config:
    """Read an experiment, or the one that a run folder keeps, which then stays the run folder."""
    path: Path = arguments.config
    if not path.is_dir():
        config = load_config(path, arguments.set, arguments.data_root)
    elif arguments.resume:
        config = load_run(path, arguments.set, arguments.data_root)
    else:
        raise UserError(f"{path} is a folder; add --resume to go on with its run, or name a file")
    if arguments.overfit is not None:
        config = to_overfit(config, arguments.overfit)
    return config.model_copy(update={"run_dir": str(path)}) if path.is_dir() else config


def _options(arguments: argparse.Namespace) -> list[str]:
    """Return the options that a run folder does not record."""
    options = [] if arguments.device == "auto" else ["--device", arguments.device]
    return options + (["--overfit", str(arguments.overfit)] if arguments.overfit else [])
