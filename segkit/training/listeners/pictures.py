"""Draws curves and sample predictions into the run folder."""

from __future__ import annotations

import math
import time
from pathlib import Path

from segkit.drawing.curves import draw_curves
from segkit.drawing.predictions import draw_predictions
from segkit.errors import UserError
from segkit.evaluation import Scores
from segkit.evaluation.images import predict_samples, spread
from segkit.training.listeners.base import Listener, Run
from segkit.training.progress import Row

EVERY_S = 20  # at the most, while epochs are short


class Pictures(Listener):
    """Draws `curves.png` and `samples/epoch_NNN.png`, now and then and in the end.

    Where one cannot be written, that is logged once, and the run goes on without pictures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn = -math.inf  # when, by the monotonic clock
        self.sample: Path | None = None  # the last one
        self.failed = False

    def on_epoch_end(self, trainer: Run, row: Row, scores: Scores | None) -> None:
        """Draw, unless that was done a moment ago."""
        is_due = trainer.is_finished or time.monotonic() - self.drawn >= EVERY_S
        if self.failed or not is_due:
            return
        experiment, history = trainer.experiment, trainer.state.progress.history
        chosen = []
        if experiment.val_set is not None and scores is not None:
            length = len(experiment.val_set)  # type: ignore[arg-type]
            chosen = spread(length, experiment.train.samples)
        rows = list(predict_samples(trainer.predictor, experiment.val_set, chosen))
        sample = self.folder / "samples" / f"epoch_{len(history):03}.png"
        try:
            draw_curves(self.folder / "curves.png", history, experiment.classes)
            if rows:
                sample.parent.mkdir(exist_ok=True)
                draw_predictions(sample, rows, experiment.classes)
                self.sample = sample
        except (OSError, UserError) as error:
            self.failed = True
            trainer.log(f"WARNING: {error}; the run goes on without pictures")
        self.drawn = time.monotonic()
