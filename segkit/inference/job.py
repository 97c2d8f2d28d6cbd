"""Predict many files, and skip those that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from segkit.data.images import Pixels
from segkit.errors import UserError, is_out_of_memory
from segkit.inference.finite import NotFinite
from segkit.inference.inputs import Source, read_ahead, read_sources
from segkit.inference.outputs import MASKS_ALONE, Outputs, Unwritable, Writer
from segkit.inference.predictor import Predictor
from segkit.inference.video import Video, predict_video


class PredictionJob:
    """Predicts images and videos and writes the results below a folder.

    Args:
        predictor: with classes, and with a card for masks of raw labels.
        out: the folder, which is made.
        outputs: what to write besides the masks.
        on_progress: called with the number of images and frames done since the last call, and the
            number of frames that became known.
        on_skip: called with a sentence for each file that is skipped.
        log: called with a line on what tiles cost.

    Attributes:
        done: number of images and frames predicted.
        skipped: number of files.
    """

    def __init__(
        self,
        predictor: Predictor,
        out: Path,
        outputs: Outputs = MASKS_ALONE,
        *,
        on_progress: Callable[[int, int], None] = lambda done, more: None,
        on_skip: Callable[[str], None] = lambda sentence: None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        if predictor.classes is None:
            raise UserError("the predictor does not know its classes; pass class_names=[...]")
        self.predictor = predictor
        self.writer = Writer(out, predictor.classes, outputs, predictor.card)
        self.writer.begin()
        self.on_progress = on_progress
        self.on_skip = on_skip
        self.log = log
        self.done = self.skipped = 0
        self._logged_overhead = False

    def run(self, sources: Sequence[Source]) -> None:
        """Predict files; `Unwritable` results and logits that are `NotFinite` end it."""
        for source, content in read_ahead(read_sources(sources, self.predictor.preprocess)):
            reason = ""
            try:
                self._predict(source, content)
            except (Unwritable, NotFinite):
                raise
            except UserError as error:
                reason = " ".join(str(error).splitlines())
            except (RuntimeError, MemoryError) as error:
                is_of_cuda = isinstance(error, torch.cuda.OutOfMemoryError)
                if not is_of_cuda and not is_out_of_memory(error):
                    raise
                remedy = self._remedy()
                reason = f"{source.path}: needs more memory than there is; use {remedy}"
            if reason:
                self.skipped += 1
                self.on_skip(reason)
            self.on_progress(1, 0)

    def _predict(self, source: Source, content: Pixels | UserError | None) -> None:
        """Predict an image as read, or a video."""
        if isinstance(content, UserError):
            raise content
        if content is not None:
            self._log_overhead(content)
            prediction = self.predictor(content, probabilities=self.writer.outputs.probabilities)
            self.writer.write(source.stem, content, prediction)
            self.done += 1
            return
        video = Video(source.path)
        self.on_progress(0, video.length)
        for frame in predict_video(video, source.stem, self.predictor, self.writer):
            self._log_overhead(frame)
            self.done += 1
            self.on_progress(1, 0)

    def _remedy(self) -> str:
        """Name the option that makes prediction take less memory."""
        tiles = self.predictor.tiles
        if tiles is None:
            return "--tile auto"
        return "a smaller --memory" if tiles.size == "auto" else "a smaller --tile"

    def _log_overhead(self, pixels: Pixels) -> None:
        """Log once what cutting into tiles costs."""
        overhead = None if self._logged_overhead else self.predictor.overhead(pixels)
        if overhead:
            self._logged_overhead = True
            self.log(overhead)
