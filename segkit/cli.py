"""What all command line tools share: their options' form, and how a mistake ends."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segkit.errors import UserError


def make_parser(description: str) -> argparse.ArgumentParser:
    """Build a parser with the option every tool has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def positive(text: str) -> int:
    """Read a number from 1 upwards; argparse tells who does not give one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 upwards")
    return int(text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Let the user choose where to compute."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def add_overrides(parser: argparse.ArgumentParser, description: str) -> None:
    """Let the user override keys of a YAML file."""
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=description
    )


def add_inference(parser: argparse.ArgumentParser) -> None:
    """Let the user choose how images go through the network."""
    parser.add_argument(
        "--tile",
        type=positive,
        metavar="S",
        help="cut images larger than S x S pixels into tiles; 512 keeps a U-Net below 3 GB",
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


def read_inference(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the options of `Predictor.load` that `add_inference` asked for.

    Raises:
        UserError: a tile out of range.
    """
    from segkit.inference import Tiles  # takes seconds

    cut = (
        None
        if arguments.tile is None
        else (Tiles(arguments.tile, arguments.tile_mode, arguments.overlap))
    )
    return {"tiles": cut, "flip": arguments.flip, "scales": tuple(arguments.scales)}


def check_output(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work is done.

    Raises:
        UserError: no such folder, or none to write to.
    """
    if path and (path.is_dir() or not os.access(path.resolve().parent, os.W_OK)):
        raise UserError(f"cannot write {path}: name a file in a folder that is there")


def check_folder(path: Path | None) -> None:
    """Make a folder for results and try to write into it, before the work is done.

    Raises:
        UserError: it cannot be made or written to.
    """
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # permission bits do not tell all
            pass
    except OSError as error:
        raise UserError(
            f"cannot write into {path}: {error.strerror or error}; name another folder"
        ) from error


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file the user asked for.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error


def run_tool(
    main: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the command line and run a tool; a user's mistake is one message and exit code 2."""
    arguments = parser.parse_args(argv)
    try:
        return main(arguments)
    except UserError as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        print("interrupted", file=sys.stderr)
        return 130
