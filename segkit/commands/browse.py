"""Draw samples as the network sees them: images, classes over them, a legend.

segkit browse unet_vgg16
segkit browse unet_vgg16 --split val --count 4 --out samples.png
segkit browse unet_vgg16 --raw
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.commands.options import add_data_root, add_overrides
from segkit.config import load_config
from segkit.console import say
from segkit.files import below, check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("config", help="an experiment, e.g. unet_vgg16 or my.yaml")
    parser.add_argument("--split", help="of the data set (default: the training split)")
    parser.add_argument("--count", type=int, default=16, help="of samples (default: 16)")
    parser.add_argument("--raw", action="store_true", help="draw them before any transform")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: SET_SPLIT.png")
    add_overrides(parser, "override settings, e.g. --set data.card=datasets/camvid.yaml")
    add_data_root(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the samples that training begins with, or some spread over another split."""
    check_output(arguments.out)
    config = load_config(arguments.config, arguments.set, arguments.data_root)

    from segkit.data.browse import browse
    from segkit.data.card import load_card
    from segkit.drawing.samples import draw_sheet

    card = load_card(config.data.card, config.data.root)
    split = arguments.split or config.data.train_split
    samples = browse(config, card, split, arguments.count, arguments.raw)
    state = "as on disk" if arguments.raw else "as the network sees them"
    path = arguments.out or below(Path(), f"{card.name}_{split}{'_raw' * arguments.raw}.png")
    path = path if path.suffix else path.with_suffix(".png")
    title = f"{card.name} {split}: {len(samples)} samples {state}"
    draw_sheet(path, samples, card.legend, title)
    say(f"{len(samples)} samples of {card.name} {split}, {state}: {path}")
    return 0
