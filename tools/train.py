"""Train a model as a YAML file describes.

python tools/train.py configs/unet_vgg16.yaml
python tools/train.py configs/unet_vgg16.yaml --set train.epochs=3 run_dir=runs/short
python tools/train.py configs/unet_vgg16.yaml --resume
torchrun --nproc_per_node=2 tools/train.py configs/unet_vgg16.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from segkit.cli import add_data_root, add_device, add_overrides, again, make_parser, run_tool
from segkit.config import dump_config, load_config
from segkit.config.overfit import to_overfit


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = make_parser("Train a model as a YAML file describes.")
    parser.add_argument("config", help="an experiment, e.g. configs/unet_vgg16.yaml")
    add_overrides(parser, "override settings, e.g. --set seed=1 train.epochs=3")
    add_data_root(parser)
    add_device(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--override", action="store_true", help="with --resume: go on with changed settings"
    )
    parser.add_argument(
        "--overfit",
        type=int,
        metavar="N",
        help="learn N images by heart, without augmentation: a model that cannot has a fault",
    )
    parser.add_argument("--print-config", action="store_true", help="show every setting and leave")
    return run_tool(train, parser, argv)


def train(arguments: argparse.Namespace) -> int:
    """Train to the last epoch; 0 if that was reached, 130 if a signal came first."""
    config = load_config(arguments.config, arguments.set, arguments.data_root)
    if arguments.overfit is not None:
        config = to_overfit(config, arguments.overfit)
    if arguments.print_config:
        print(dump_config(config), end="")
        return 0

    # these take seconds to import; a misspelt key should be reported at once
    from segkit.distributed import join_processes, was_restarted
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware
    from segkit.training.listeners.run_folder import RunFolder, holds_run
    from segkit.training.trainer import Trainer

    hardware = choose_hardware(arguments.device, config.precision)
    with join_processes(hardware.device) as processes:
        resume = arguments.resume or (was_restarted() and holds_run(config.run_dir))
        folder = RunFolder(config.run_dir, resume)  # refused before the data is read
        experiment = Experiment.from_config(
            config, hardware, processes, load_weights=not resume, overfit=arguments.overfit
        )
        trainer = Trainer(experiment, folder, resume=resume, override=arguments.override)
        trainer.fit()
        if trainer.stopped:
            trainer.log(f"stopped and saved to {folder.last}; go on with: {_resume(arguments)}")
            return 130
        best = f"best mIoU {100 * trainer.state.progress.best_miou:.1f} %"
        command = again("eval", str(folder.path))
        trainer.log(f"done     {best}; evaluate it with: {command}")
        return 0


def _resume(arguments: argparse.Namespace) -> str:
    """Return the command that goes on."""
    words = [arguments.config, "--resume"]
    if arguments.overfit:
        words += ["--overfit", str(arguments.overfit)]
    return again("train", *words, *(["--set", *arguments.set] if arguments.set else []))


if __name__ == "__main__":
    sys.exit(main())
