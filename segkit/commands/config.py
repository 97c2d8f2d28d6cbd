"""Show an experiment with every default and what each key means, or list all keys there are.

segkit config unet_vgg16
segkit config my.yaml --set train.epochs=3
segkit config --keys
segkit config --keys --json keys.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from segkit.commands.options import add_overrides
from segkit.config import load_config
from segkit.config.explain import explain_config, list_keys
from segkit.console import say
from segkit.errors import UserError
from segkit.files import check_output, write_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("config", nargs="?", help="an experiment, e.g. unet_vgg16 or my.yaml")
    add_overrides(parser, "override settings, e.g. --set train.epochs=3")
    parser.add_argument("--keys", action="store_true", help="list all keys, with type and default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write it as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the experiment or the keys."""
    check_output(arguments.json)
    if arguments.keys == (arguments.config is not None):
        raise UserError("name an experiment, e.g. segkit config unet_vgg16, or say --keys")
    content: object
    if arguments.keys:
        keys = list_keys()
        for key in keys:
            default = f", default {key.default}" if key.default else ""
            say(f"{key.path}: {key.kind}{default}\n    {key.text or '-'}")
        content = [key._asdict() for key in keys]
    else:
        config = load_config(arguments.config, arguments.set)
        say(explain_config(config), end="")
        content = config.model_dump(mode="json")
    if arguments.json:
        write_file(arguments.json, json.dumps(content, indent=2) + "\n")
    return 0
