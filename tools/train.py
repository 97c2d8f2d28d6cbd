"""Train a model as a YAML file describes.

python tools/train.py configs/unet_vgg16.yaml
python tools/train.py configs/unet_vgg16.yaml --set train.epochs=3 run_dir=runs/short
python tools/train.py configs/unet_vgg16.yaml --resume
torchrun --nproc_per_node=2 tools/train.py configs/unet_vgg16.yaml
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from segkit.cli import add_device, add_overrides, make_parser, run_tool
from segkit.config import dump_config, load_config
from segkit.config.overfit import to_overfit


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = make_parser("Train a model as a YAML file describes.")
    parser.add_argument("config", help="an experiment, e.g. configs/unet_vgg16.yaml")
    add_overrides(parser, "override settings, e.g. --set seed=1 train.epochs=3")
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
    config = load_config(arguments.config, arguments.set)
    if arguments.overfit is not None:
        config = to_overfit(config, arguments.overfit)
    if arguments.print_config:
        print(dump_config(config), end="")
        return 0

    # these take seconds to import; a misspelt key should be told at once
    from segkit.data import load_card
    from segkit.data.statistics import statistics_lines
    from segkit.hardware import choose_hardware
    from segkit.processes import join_processes, was_restarted
    from segkit.training.loop import Stopped, Trainer
    from segkit.training.run_folder import holds_run

    hardware = choose_hardware(arguments.device, config.precision)
    card = load_card(config.data.card, config.data.root)
    with join_processes(hardware.device) as processes:
        trainer = Trainer(
            config,
            card,
            hardware,
            processes,
            resume=arguments.resume or (was_restarted() and holds_run(config)),
            override=arguments.override,
            overfit=arguments.overfit,
        )
        say = trainer.console.say
        model, parameters = config.model, sum(p.numel() for p in trainer.state.model.parameters())
        say(f"model    {model.decoder.name} on {model.encoder.name}, {parameters:,} parameters")
        counts = f"{len(trainer.train_set)} train, {len(trainer.val_set)} val images"
        say(f"data     {card.name}: {counts}; {trainer.sampler.step_size} in a step")
        for line in statistics_lines(config, trainer.config, card):
            say(line)
        alone = processes.count == 1
        say(f"device   {hardware}{'' if alone else f', in {processes.count} processes'}")
        position = trainer.state.position
        done = f"{position.epoch} of {config.train.epochs} epochs done"
        say(f"run      {trainer.folder.path}, {done}")
        for note in trainer.notes:
            say(note)
        try:
            trainer.run()
        except Stopped:
            last = trainer.folder.last
            say(f"stopped and saved to {last}; go on with: {shlex.join(_again(arguments))}")
            return 130
        best = f"best mIoU {100 * position.best_miou:.1f} %"
        say(f"done     {best}; judge it with: python tools/eval.py {trainer.folder.path}")
        return 0


def _again(arguments: argparse.Namespace) -> list[str]:
    """Give the command that goes on."""
    again = ["python", "tools/train.py", arguments.config, "--resume"]
    if arguments.overfit:
        again += ["--overfit", str(arguments.overfit)]
    return again + (["--set", *arguments.set] if arguments.set else [])


if __name__ == "__main__":
    sys.exit(main())
