"""Predict images and videos with a checkpoint.

segkit predict runs/unet_vgg16 photo.jpg --out predictions --overlay
segkit predict runs/unet_vgg16 folder 'more/**/*.png' --out predictions
segkit predict runs/unet_vgg16 drive.mp4 --out predictions --overlay
segkit predict runs/unet_vgg16 satellite.tif --out predictions --tile auto

Each image becomes STEM.png under --out, of its own size, with the raw labels of the data set and,
where they fit into 8 bits, its colours as a palette. Of a video, the frames become
STEM/000000.png and so on. A file that cannot be read is reported and skipped; the exit code is 1
then.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.progress import MofNCompleteColumn

from segkit.commands.options import (
    CHECKPOINT,
    add_device,
    add_inference,
    checkpoint,
    read_inference,
)
from segkit.console import PlainConsole, complain, progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("checkpoint", type=checkpoint, help=CHECKPOINT)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a video, a folder (all below it; its subfolders are kept under --out) or "
        "a glob in quotes",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for all results")
    parser.add_argument(
        "--overlay",
        action="store_true",
        help="also STEM_overlay.png, the classes' colours over the image, and legend.png; of a "
        "video STEM.mp4",
    )
    parser.add_argument(
        "--color",
        action="store_true",
        help="also STEM_color.png, the colours alone, and legend.png; of a video STEM_color.mp4",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="also STEM_probabilities.npz: probabilities (C, H, W) in 16 bits, and classes",
    )
    add_inference(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predict all files; return 1 if one was skipped."""
    # these take seconds to import
    from segkit.inference import Predictor
    from segkit.inference.inputs import find_sources
    from segkit.inference.job import PredictionJob
    from segkit.inference.outputs import Outputs, check_outputs
    from segkit.units import speed

    outputs = Outputs(arguments.overlay, arguments.color, arguments.probabilities)
    sources = find_sources(arguments.inputs, arguments.out)
    check_outputs(sources, arguments.out, outputs)
    predictor = Predictor.load(arguments.checkpoint, arguments.device, **read_inference(arguments))

    console = PlainConsole()
    bar = progress_bar(console, MofNCompleteColumn())
    task = bar.add_task("predicting", total=len(sources))

    def advance(done: int, more: int) -> None:
        bar.update(task, total=(bar.tasks[task].total or 0) + more, advance=done)

    job = PredictionJob(
        predictor,
        arguments.out,
        outputs,
        on_progress=advance,
        on_skip=lambda sentence: complain(f"skipped {sentence}"),
        log=console.print,
    )
    console.print(f"{predictor.origin}; {predictor.backend}")
    start = time.perf_counter()
    with bar:
        job.run(sources)
    seconds = time.perf_counter() - start
    rate = f", {speed(job.done / seconds)}" if job.done else ""
    images = f"{job.done} image{'s' * (job.done != 1)}"
    console.print(f"{images} in {seconds:.1f} s{rate}: {arguments.out}")
    if job.skipped:
        complain(f"{job.skipped} of {len(sources)} files skipped")
    return 1 if job.skipped else 0
