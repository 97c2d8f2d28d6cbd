"""Train a model as a YAML file describes.

python tools/train.py configs/unet_vgg16.yaml
python tools/train.py configs/unet_vgg16.yaml --set train.epochs=3 run_dir=runs/short
python tools/train.py configs/unet_vgg16.yaml --resume
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from segkit.cli import add_device, add_overrides, make_parser, run_tool
from segkit.config import dump_config, load_config


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = make_parser("Train a model as a YAML file describes.")
    parser.add_argument("config", help="an experiment, e.g. configs/unet_vgg16.yaml")
    add_overrides(parser, "override settings, e.g. --set seed=1 train.epochs=3")
    add_device(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--print-config", action="store_true", help="show every setting and leave")
    return run_tool(train, parser, argv)


def train(arguments: argparse.Namespace) -> int:
    """Train to the last epoch; 0 if that was reached, 130 if a signal came first."""
    config = load_config(arguments.config, arguments.set)
    if arguments.print_config:
        print(dump_config(config), end="")
        return 0

    # these take seconds to import; a misspelt key should be told at once
    from segkit.data import load_card
    from segkit.data.statistics import statistics_lines
    from segkit.hardware import choose_hardware
    from segkit.training.loop import Stopped, Trainer

    hardware = choose_hardware(arguments.device, config.precision)
    card = load_card(config.data.card, config.data.root)
    trainer = Trainer(config, card, hardware, arguments.resume)
    say = trainer.console.say
    model, parameters = config.model, sum(p.numel() for p in trainer.state.model.parameters())
    say(f"model    {model.decoder.name} on {model.encoder.name}, {parameters:,} parameters")
    say(f"data     {card.name}: {len(trainer.train_set)} train, {len(trainer.val_set)} val images")
    for line in statistics_lines(config, trainer.config, card):
        say(line)
    say(f"device   {hardware}")
    position = trainer.state.position
    say(f"run      {trainer.folder.path}, {position.epoch} of {config.train.epochs} epochs done")

    try:
        trainer.run()
    except Stopped:
        again = ["python", "tools/train.py", arguments.config, "--resume"]
        again += ["--set", *arguments.set] if arguments.set else []
        say(f"stopped and saved to {trainer.folder.last}; go on with: {shlex.join(again)}")
        return 130
    best = f"best mIoU {100 * position.best_miou:.1f} %"
    say(f"done     {best}; judge it with: python tools/eval.py {trainer.folder.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
