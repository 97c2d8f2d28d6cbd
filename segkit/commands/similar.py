"""Find the images of a folder that look most like one, and draw them.

segkit similar photo.jpg photos/
segkit similar photo.jpg photos/ --count 4 --out nearest.png --json nearest.json
segkit similar photo.jpg photos/ --encoder resnet50 --weights resnet50.safetensors

Images are compared by the cosine similarity of what an encoder sees in them: 1 for copies, also
mirrored or in another size nearly so. A file that cannot be read is reported and skipped; the exit
code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import MofNCompleteColumn

from segkit.commands.options import add_device, add_encoder, positive, read_weights
from segkit.console import PlainConsole, complain, progress_bar
from segkit.errors import UserError
from segkit.files import check_output, write_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segkit.descriptors import Describer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("image", type=Path, help="the image to look for")
    parser.add_argument("folder", type=Path, help="where to look: all images below it")
    parser.add_argument(
        "--count", type=positive, default=8, metavar="N", help="of images shown (default: 8)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: IMAGE_similar.png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the list as JSON")
    add_encoder(parser, "vgg16")
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """List and draw the nearest images; return 1 if a file was skipped."""
    path = arguments.out or Path(f"{arguments.image.stem}_similar.png")
    path = path if path.suffix else path.with_suffix(".png")
    check_output(path)
    check_output(arguments.json)
    files = find_images(arguments.folder, without=(arguments.image, path))

    # these take seconds to import
    from segkit.descriptors import Describer
    from segkit.drawing.similar import draw_similar

    query = read_picture(arguments.image)
    describer = Describer(arguments.encoder, read_weights(arguments), arguments.device)
    console = PlainConsole()
    console.print(f"{describer.name}; {describer.hardware}")
    found, skipped = compare(describer, query, files, console)
    best = sorted(found, key=lambda each: -each[1])[: arguments.count]
    for file, similarity in best:
        console.print(f"{similarity:6.3f}  {file}")
    pictures = [(read_picture(file), f"{file.relative_to(arguments.folder)}") for file, _ in best]
    similarities = [similarity for _, similarity in best]
    draw_similar(path, (query, arguments.image.name), pictures, similarities)
    console.print(f"the nearest of {len(found)} images, drawn: {path}")
    if arguments.json:
        report = {
            "image": str(arguments.image),
            "encoder": arguments.encoder,
            "weights": read_weights(arguments),
            "nearest": [{"file": str(file), "similarity": near} for file, near in best],
            "skipped": [str(file) for file in skipped],
        }
        write_file(arguments.json, json.dumps(report, indent=2) + "\n")
    if skipped:
        complain(f"{len(skipped)} of {len(files)} files skipped")
    return 1 if skipped else 0


def find_images(folder: Path, without: Sequence[Path]) -> list[Path]:
    """Find all images below a folder, except hidden ones and those given."""
    from segkit.data.raster import raster_files

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one that holds images")
    left_out = {os.path.realpath(path) for path in without}
    files = [folder / file for file in sorted(raster_files(folder))]
    files = [file for file in files if os.path.realpath(file) not in left_out]
    if not files:
        raise UserError(f"{folder} holds no other image than {without[0]}; name another folder")
    return files


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an image of any kind as RGB."""
    from segkit.data.images import read_any
    from segkit.drawing.masks import displayable

    return displayable(read_any(path))


def compare(
    describer: Describer, query: NDArray[np.uint8], files: Sequence[Path], console: PlainConsole
) -> tuple[list[tuple[Path, float]], list[Path]]:
    """Return the files with their similarity to an image, and those that cannot be read."""
    target = describer(query)
    found, skipped = [], []
    with progress_bar(console, MofNCompleteColumn()) as progress:
        for file in progress.track(files, description="comparing"):
            try:
                picture = read_picture(file)
            except UserError as error:
                complain(f"skipped {error}")
                skipped.append(file)
                continue
            found.append((file, float(describer(picture) @ target)))
    if not found:
        raise UserError("none of these images can be read; name another folder")
    return found, skipped
