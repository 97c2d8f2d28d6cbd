"""Write a first experiment and card for your images and masks, from what lies there.

segkit new leaves --data photos/ masks/
segkit new leaves                         looks for leaves/images and leaves/masks

Labels, sizes, channels, splits and videos are read off the files; each setting says why.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from segkit.console import say
from segkit.errors import UserError
from segkit.invocation import again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write both files")
    parser.add_argument(
        "--data",
        type=Path,
        nargs=2,
        metavar=("IMAGES", "MASKS"),
        help="folders of the images and the masks, which may be the same (default: DIR/images and "
        "DIR/masks)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Look at the data, write, and print what to type next."""
    from segkit.starter import survey, write_starter
    from segkit.starter.write import summary_lines

    folder: Path = arguments.folder
    images, masks = arguments.data or (folder / "images", folder / "masks")
    if not arguments.data and not (images.is_dir() and masks.is_dir()):
        raise UserError(
            f"there is no {images} and {masks}; put images and masks there, or name their folders: "
            f"{again('new', str(folder), '--data', 'IMAGES', 'MASKS')}"
        )
    found = survey(images, masks)
    experiment, card = write_starter(folder, found)
    for line in summary_lines(found):
        say(line)
    say(f"written  {experiment} and {card}")
    say(f"look     {again('browse', str(experiment))}")
    say(f"check    {again('check-data', str(experiment))}")
    say(f"train    {again('train', str(experiment))}")
    return 0
