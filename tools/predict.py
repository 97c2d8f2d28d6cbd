"""Predict images and videos with a checkpoint.

python tools/predict.py runs/unet_vgg16 photo.jpg --out predictions --overlay
python tools/predict.py runs/unet_vgg16 folder 'more/**/*.png' --out predictions
python tools/predict.py runs/unet_vgg16 drive.mp4 --out predictions --overlay
python tools/predict.py runs/unet_vgg16 satellite.tif --out predictions --tile 512
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID

from segkit.cli import add_device, add_inference, make_parser, read_inference, run_tool
from segkit.errors import UserError

if TYPE_CHECKING:
    from segkit.data.images import Pixels
    from segkit.inference import Predictor
    from segkit.inference.inputs import Source
    from segkit.inference.outputs import Writer


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and predict."""
    parser = make_parser(
        "Predict images and videos. Each image becomes STEM.png under --out, of its own size, with "
        "the raw labels of the data set and, where they fit into 8 bits, its colours as a palette. "
        "Of a video, the frames become STEM/000000.png and so on. A file that cannot be read is "
        "reported and skipped; the exit code is 1 then."
    )
    parser.add_argument("checkpoint", type=Path, help="a run folder (its best.pt) or a file")
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
    return run_tool(predict, parser, argv)


def predict(arguments: argparse.Namespace) -> int:
    """Predict all; 1 if a file had to be skipped."""
    # these take seconds to import
    from segkit.inference import Predictor
    from segkit.inference.inputs import find_sources, read_ahead, read_sources
    from segkit.inference.outputs import Unwritable, Wanted, Writer, check_targets

    wanted = Wanted(arguments.overlay, arguments.color, arguments.probabilities)
    sources = find_sources(arguments.inputs, arguments.out)
    check_targets(sources, arguments.out, wanted)
    predictor = Predictor.load(arguments.checkpoint, arguments.device, **read_inference(arguments))
    assert predictor.card is not None
    writer = Writer(arguments.out, predictor.card, wanted)
    writer.begin()

    console = Console(highlight=False, soft_wrap=True, emoji=False)
    console.print(f"{predictor.origin}; {predictor.hardware}", markup=False)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    job = Job(predictor, writer, bar, bar.add_task("predicting", total=len(sources)))
    start = time.perf_counter()
    skipped = 0
    with bar:
        for source, content in read_ahead(read_sources(sources, predictor)):
            try:
                job.run(source, content)
            except Unwritable:
                raise
            except UserError as error:
                skipped += 1
                print("skipped " + " ".join(str(error).splitlines()), file=sys.stderr)
            bar.advance(job.task)

    seconds = time.perf_counter() - start
    rate = job.done / seconds
    console.print(
        f"{job.done} image{'s' * (job.done != 1)} in {seconds:.1f} s, "
        f"{rate:.{1 if rate >= 0.1 else 4}f} images/s: {arguments.out}",
        markup=False,
    )
    if skipped:
        print(f"{skipped} of {len(sources)} files skipped", file=sys.stderr)
    return 1 if skipped else 0


class Job:
    """Predicts one file after another, and counts.

    Args:
        predictor: to predict with.
        writer: to write with.
        bar: to advance by a video's frames.
        task: of the bar.
    """

    def __init__(self, predictor: Predictor, writer: Writer, bar: Progress, task: TaskID) -> None:
        self.predictor = predictor
        self.writer = writer
        self.bar = bar
        self.task = task
        self.done = 0  # images and frames
        self.told = False  # what tiles cost

    def run(self, source: Source, content: Pixels | UserError | None) -> None:
        """Predict a file: an image as read, or a video.

        Raises:
            UserError: it cannot be read, or is not what the network takes.
            Unwritable: a result cannot be written.
        """
        from segkit.inference.video import Video, predict_video

        if isinstance(content, UserError):
            raise content
        with _enough_memory(source.path, self.predictor):
            if content is not None:
                self._tell_overhead(content)
                wanted = self.writer.wanted.probabilities
                prediction = self.predictor(content, probabilities=wanted)
                self.writer.write(source.stem, content, prediction)
                self.done += 1
                return
            video = Video(source.path)
            total = self.bar.tasks[self.task].total or 0
            self.bar.update(self.task, total=total + video.length)
            for frame in predict_video(video, source.stem, self.predictor, self.writer):
                self._tell_overhead(frame)
                self.done += 1
                self.bar.advance(self.task)

    def _tell_overhead(self, pixels: Pixels) -> None:
        """Say once what cutting costs."""
        cost = None if self.told else self.predictor.overhead(pixels)
        if cost:
            self.told = True
            self.bar.console.print(cost, markup=False)


@contextmanager
def _enough_memory(path: Path, predictor: Predictor) -> Iterator[None]:
    """Turn a lack of memory into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        remedy = "a smaller --tile" if predictor.tiles else "--tile 512"
        raise UserError(f"{path}: needs more memory than there is; use {remedy}") from error


if __name__ == "__main__":
    sys.exit(main())
