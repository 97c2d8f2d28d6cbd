"""Show what a model is made of and costs, without data, weights or running it.

segkit summary unet_vgg16
segkit summary exported/model.onnx
segkit summary unet_vgg16 --size 512 1024 --set model.decoder.depth=1
segkit summary --list
segkit summary --list --encoder resnet50 --size 512 512
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.options import add_overrides
from segkit.config import load_config
from segkit.console import say
from segkit.errors import UserError
from segkit.files import check_output, write_file
from segkit.registry import families, names

if TYPE_CHECKING:
    from segkit.features import Size

DEFAULT_ENCODER = "vgg16_bn"  # of `--list`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "config",
        nargs="?",
        help="an experiment, e.g. unet_vgg16 or my.yaml; or an exported .onnx or .xml",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="list all decoders, encoders and losses, and their costs",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help=f"that the decoders are on, with --list (default: {DEFAULT_ENCODER})",
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
    """Print the table and the totals, or all parts."""
    if arguments.list == (arguments.config is not None):
        raise UserError("name an experiment, e.g. segkit summary unet_vgg16, or say --list")
    if arguments.list:
        if arguments.set:
            raise UserError("--set changes an experiment; --list shows parts as they come")
        return _show_parts(arguments.encoder or DEFAULT_ENCODER, arguments.size, arguments.json)
    if arguments.encoder:
        raise UserError("--encoder goes with --list; an experiment names its own encoder")
    if Path(arguments.config).suffix in (".onnx", ".xml"):
        return _show_exported(Path(arguments.config), arguments.json)
    config = load_config(arguments.config, arguments.set)
    size = parse_size(arguments.size)
    check_output(arguments.json)

    # these take seconds to import, and a misspelt key should be reported at once
    from segkit.console import PlainConsole
    from segkit.data.card import load_card
    from segkit.data.transforms import output_size
    from segkit.model import build_model
    from segkit.summary import DEFAULT_SIZE, layer_table, summarize, summary_json, totals

    card = load_card(config.data.card, config.data.root)
    model = build_model(config.model, card.num_classes, load_weights=False)
    size = size or output_size(config.data.train_transforms) or DEFAULT_SIZE
    summary = summarize(model, config.model.in_channels, size)
    title = f"{config.model.decoder.name} on {config.model.encoder.name}"
    console = PlainConsole(soft_wrap=False)
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
    say("\n".join(as_lines(metadata)))
    if json_file:
        write_file(json_file, json.dumps(metadata, indent=2) + "\n")
    return 0


def _show_parts(encoder: str, words: Sequence[str] | None, json_file: Path | None) -> int:
    """Print what each registered part costs."""
    size = parse_size(words)
    check_output(json_file)
    from segkit.console import PlainConsole
    from segkit.summary import DEFAULT_SIZE, list_decoders, list_encoders, parts_json, parts_table
    from segkit.summary.parts import NUM_CLASSES

    size = size or DEFAULT_SIZE
    console = PlainConsole(soft_wrap=False)
    with console.status("decoders"):
        decoders = list(list_decoders(names("decoder"), encoder, size))
    console.print(f"for images of {size[0]}x{size[1]} (H x W) and {NUM_CLASSES} classes\n")
    console.print(f"decoders on {encoder}, without it", parts_table(decoders), sep="\n")
    with console.status("encoders"):
        encoders = list(list_encoders(names("encoder"), size))
    console.print("encoders", parts_table(encoders), sep="\n")
    for family in families("encoder"):
        console.print(f"{family}:NAME is any network of {family}, where {family} is installed")
    losses = names("loss")
    console.print(f"losses: {', '.join(losses)}")
    if json_file:
        parts = {"decoders": decoders, "encoders": encoders}
        write_file(json_file, parts_json(size, encoder, parts, losses))
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
