"""Fetch a data set to where its card in datasets/ expects it.

segkit fetch-data voc2012
segkit fetch-data sbd
segkit fetch-data oxford_pets --root /data/pets
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="voc2012, sbd (after voc2012), oxford_pets or streets")
    parser.add_argument("--root", metavar="DIR", help="where it goes instead of the card's root")


def run(arguments: argparse.Namespace) -> int:
    """Fetch unless it is there already; 0 if it is there in the end."""
    from segkit.data.fetch import fetch  # takes seconds to import, and --help should not
    from segkit.shipped import folder_of

    fetch(arguments.name, folder_of("datasets"), arguments.root)
    return 0
