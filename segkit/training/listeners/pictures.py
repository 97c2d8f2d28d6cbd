"""Draws curves and sample predictions into the run folder."""

from __future__ import annotations

import math
import time
from pathlib import Path

from segkit.drawing.curves import draw_curves
from segkit.drawing.predictions import draw_predictions
from segkit.evaluation import Scores
from segkit.evaluation.images import predict_samples, spread
from segkit.training.listeners.base import Listener, Run
from segkit.training.progress import Row

EVERY_S = 20  # at the most, while epochs are short


class Pictures(Listener):
    """Draws `curves.png` and `samples/epoch_NNN.png`, now and then and in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn = -math.inf  # when, by the monotonic clock
        self.sample: Path | None = None  # the last one

    def on_epoch_end(self, trainer: Run, row: Row, scores: Scores | None) -> None:
        """Draw, unless that was done a moment ago."""
        if not trainer.is_finished and time.monotonic() - self.drawn < EVERY_S:
            return
        experiment, history = trainer.experiment, trainer.state.progress.history
        draw_curves(self.folder / "curves.png", history, experiment.classes)
        chosen = []
        if experiment.val_set is not None and scores is not None:
            length = len(experiment.val_set)  # type: ignore[arg-type]
            chosen = spread(length, experiment.train.samples)
        if chosen:
            rows = list(predict_samples(trainer.predictor, experiment.val_set, chosen))
            self.sample = self.folder / "samples" / f"epoch_{len(history):03}.png"
            draw_predictions(self.sample, rows, experiment.classes)
        self.drawn = time.monotonic()
