"""Show what a model is made of and costs, without data, weights or running it.

python tools/summary.py configs/unet_vgg16.yaml
python tools/summary.py configs/unet_vgg16.yaml --size 512 1024 --set model.decoder.depth=1
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segkit.cli import add_overrides, check_output, make_parser, run_tool, write_file
from segkit.config import load_config
from segkit.errors import UserError

DEFAULT_SIZE = (224, 224)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and show a summary."""
    parser = make_parser("Show what a model is made of and costs.")
    parser.add_argument("config", help="an experiment, e.g. configs/unet_vgg16.yaml")
    parser.add_argument(
        "--size",
        nargs=2,
        metavar=("H", "W"),
        help="of an image; default: that of the last crop or resize in training, else 224 224",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write it as JSON")
    add_overrides(parser, "override settings, e.g. --set model.decoder.depth=1")
    return run_tool(show, parser, argv)


def show(arguments: argparse.Namespace) -> int:
    """Print the table and the totals."""
    config = load_config(arguments.config, arguments.set)
    size = parse_size(arguments.size)
    check_output(arguments.json)

    # these take seconds to import; a misspelt key should be told at once
    from rich.console import Console

    from segkit.data import load_card
    from segkit.model import build_model
    from segkit.summary import summarize, training_size
    from segkit.summary_table import layer_table, totals

    card = load_card(config.data.card, config.data.root)
    model = build_model(config.model, card.num_classes, load_weights=False)
    size = size or training_size(config) or DEFAULT_SIZE
    summary = summarize(model, config.model.in_channels, size)
    console = Console(highlight=False, emoji=False, markup=False)
    console.print(
        layer_table(summary, f"{config.model.decoder.name} on {config.model.encoder.name}")
    )
    padded = tuple(length + -length % model.stride for length in size)
    for line in totals(summary, padded):
        console.print(line)
    if arguments.json:
        write_file(arguments.json, json.dumps(as_json(asdict(summary)), indent=2) + "\n")
    return 0


def parse_size(words: Sequence[str] | None) -> tuple[int, int] | None:
    """Read --size.

    Raises:
        UserError: no two whole numbers above 0.
    """
    if words is None:
        return None
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(
            f"--size {' '.join(words)} must be height and width in pixels, e.g. --size 360 480"
        )
    height, width = map(int, words)
    return height, width


def as_json(value: Any) -> Any:
    """Write an infinite receptive field as a word, for JSON has no such number."""
    if isinstance(value, dict):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    return "image" if value == math.inf else value


if __name__ == "__main__":
    sys.exit(main())
