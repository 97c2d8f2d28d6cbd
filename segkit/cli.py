"""What all command line tools share: their options' form, and how a mistake ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from segkit.errors import UserError


def make_parser(description: str) -> argparse.ArgumentParser:
    """Build a parser with the option every tool has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """Let the user choose where to compute."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def add_overrides(parser: argparse.ArgumentParser, description: str) -> None:
    """Let the user override keys of a YAML file."""
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=description
    )


def check_output(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work is done.

    Raises:
        UserError: no such folder, or none to write to.
    """
    if path and (path.is_dir() or not os.access(path.resolve().parent, os.W_OK)):
        raise UserError(f"cannot write {path}: name a file in a folder that is there")


def write_text(path: Path, text: str) -> None:
    """Write a file the user asked for.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
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
