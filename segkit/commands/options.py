"""Options that several commands share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Literal

from segkit.errors import UserError
from segkit.hub import REPOSITORY, SCHEME, Source, is_address

CHECKPOINT = "a run folder (its best.pt), a file, or hf://user/model on the hub"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module or a .py file that registers parts of your own; may be repeated",
    )


def positive(text: str) -> int:
    """Parse a whole number from 1 upwards."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 upwards")
    return int(text)


def checkpoint(text: str) -> Source:
    """Take the address of a model on the hub as it is, which a path would lose a slash of."""
    return text if is_address(text) else Path(text)


def repository(text: str) -> str:
    """Parse the name of a repository on the hub."""
    name = text.removeprefix(SCHEME)
    if not re.fullmatch(REPOSITORY, name):
        raise argparse.ArgumentTypeError(f"'{text}' is no repository; write user/model")
    return name


def tile_size(text: str) -> int | Literal["auto"]:
    """Parse the size of a tile."""
    return "auto" if text == "auto" else positive(text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Let the user choose where to compute."""
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda", "mps"],
        default="auto",
        help="auto: CUDA if there is a device, else the CPU; mps: Apple's GPU",
    )


def add_encoder(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Let the user choose the network that describes images, and its weights."""
    chosen = f" (default: {default})" if default else ""
    parser.add_argument(
        "--encoder", default=default, metavar="NAME", help=f"that compares the images{chosen}"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="of the encoder: imagenet, hf://user/model, a .pth, .pt or .safetensors file, or null "
        "for random ones (default: imagenet)",
    )


def read_weights(arguments: argparse.Namespace) -> str | None:
    """Return the weights that `add_encoder` asked for, as `create_encoder` takes them."""
    return None if arguments.weights == "null" else arguments.weights or "imagenet"


def add_overrides(parser: argparse.ArgumentParser, description: str) -> None:
    """Let the user override keys of a YAML file."""
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=description
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Let the user say where the data lies."""
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        help="folder of the data, instead of the one that the card or data.root names",
    )


def add_block(parser: argparse.ArgumentParser) -> None:
    """Let the user choose the blocks that intervals are drawn in."""
    parser.add_argument(
        "--block",
        type=positive,
        metavar="N",
        help="images drawn together for intervals (default: 10 for videos, else 1)",
    )


def add_inference(parser: argparse.ArgumentParser) -> None:
    """Let the user choose how images go through the network."""
    parser.add_argument(
        "--tile",
        type=tile_size,
        metavar="S",
        help="cut images larger than S x S pixels into tiles; auto: as large as memory allows",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="that a tile of --tile auto may take (default: half of what is free)",
    )
    parser.add_argument(
        "--tile-mode",
        choices=["exact", "blend"],
        default="exact",
        help="exact: with a halo, as if it were whole; blend: overlapping, fading into the next",
    )
    parser.add_argument(
        "--overlap", type=float, default=0.25, help="of tiles in mode blend, as a share of S"
    )
    parser.add_argument(
        "--flip", action="store_true", help="average with the prediction of the mirrored image"
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="X",
        help="average over predictions of the image in these sizes, e.g. 0.75 1 1.25",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="half precision where the device has it, batch norm folded, compiled: not the same "
        "digits, and slow to start",
    )


def read_inference(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `Predictor.load` that `add_inference` asked for."""
    from segkit.inference import Tiles  # takes seconds

    options = {"tiles": None, "flip": arguments.flip, "scales": tuple(arguments.scales)}
    options["fast"] = arguments.fast
    if arguments.memory is not None and arguments.tile != "auto":
        raise UserError(
            "--memory limits the tiles of --tile auto; add --tile auto, or leave it out"
        )
    if arguments.tile:
        memory = None if arguments.memory is None else 1e9 * arguments.memory
        options["tiles"] = Tiles(arguments.tile, arguments.tile_mode, arguments.overlap, memory)
    return options
