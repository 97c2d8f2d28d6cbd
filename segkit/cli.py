"""What all command line tools share: their options' form, and how a mistake ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from segkit.errors import UserError


def make_parser(description: str) -> argparse.ArgumentParser:
    """Build a parser with the options every tool has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


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
