"""Fetch a data set to where its card in datasets/ expects it.

python tools/fetch_data.py voc2012
python tools/fetch_data.py sbd
python tools/fetch_data.py oxford_pets --root /data/pets
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from segkit.cli import make_parser, run_tool

CARDS = Path(__file__).resolve().parents[1] / "datasets"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and fetch."""
    parser = make_parser("Fetch a data set to where its card in datasets/ expects it.")
    parser.add_argument("name", help="voc2012, sbd (after voc2012), oxford_pets or streets")
    parser.add_argument("--root", metavar="DIR", help="where it goes instead of the card's root")
    return run_tool(fetch_data, parser, argv)


def fetch_data(arguments: argparse.Namespace) -> int:
    """Fetch unless it is there already; 0 if it is there in the end."""
    from segkit.data.fetch import fetch  # takes seconds to import, and --help should not

    fetch(arguments.name, CARDS, arguments.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
