"""Show what a model is made of and costs, without data, weights or running it.

segkit summary unet_vgg16
segkit summary exported/model.onnx
segkit summary unet_vgg16 --size 512 1024 --set model.decoder.depth=1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.options import add_overrides
from segkit.config import load_config
from segkit.errors import UserError
from segkit.files import check_output, write_file

if TYPE_CHECKING:
    from segkit.features import Size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "config", help="an experiment, e.g. unet_vgg16 or my.yaml; or an exported .onnx or .xml"
    )
    parser.add_argument(
        "--size",
        nargs=2,
        metavar=("H", "W"),
        help="of an image; default: that of the last crop or resize in training, else 224 224",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write it as JSON")
    add_overrides(parser, "override settings, e.g. --set model.decoder.depth=1")


def run(arguments: argparse.Namespace) -> int:
    """Print the table and the totals."""
    if Path(arguments.config).suffix in (".onnx", ".xml"):
        return _show_exported(Path(arguments.config), arguments.json)
    config = load_config(arguments.config, arguments.set)
    size = parse_size(arguments.size)
    check_output(arguments.json)

    # these take seconds to import, and a misspelt key should be reported at once
    from rich.console import Console

    from segkit.data.card import load_card
    from segkit.data.transforms import output_size
    from segkit.model import build_model
    from segkit.summary import DEFAULT_SIZE, layer_table, summarize, summary_json, totals

    card = load_card(config.data.card, config.data.root)
    model = build_model(config.model, card.num_classes, load_weights=False)
    size = size or output_size(config.data.train_transforms) or DEFAULT_SIZE
    summary = summarize(model, config.model.in_channels, size)
    title = f"{config.model.decoder.name} on {config.model.encoder.name}"
    console = Console(highlight=False, emoji=False, markup=False)
    console.print(layer_table(summary, title), *totals(summary, model.stride), sep="\n")
    if arguments.json:
        write_file(arguments.json, summary_json(summary))
    return 0


def _show_exported(path: Path, json_file: Path | None) -> int:
    """Print what an exported file says of itself."""
    from segkit.export.metadata import as_lines
    from segkit.inference.backends.files import open_exported

    check_output(json_file)
    metadata = open_exported(path, "cpu").metadata
    print(*as_lines(metadata), sep="\n")
    if json_file:
        write_file(json_file, json.dumps(metadata, indent=2) + "\n")
    return 0


def parse_size(words: Sequence[str] | None) -> Size | None:
    """Read --size.

    Raises:
        UserError: not two whole numbers above 0.
    """
    if words is None:
        return None
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(
            f"--size {' '.join(words)} must be height and width in pixels, e.g. --size 360 480"
        )
    height, width = map(int, words)
    return height, width
