"""The history of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.errors import UserError
from segkit.evaluation import Scores
from segkit.training.listeners.base import Listener, Run
from segkit.training.listeners.pictures import Pictures
from segkit.training.progress import Row


class TensorBoard(Listener):
    """Writes rows and sample pictures; a failure is logged once and stops no run."""

    def __init__(self, folder: Path, pictures: Pictures) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "train.tensorboard needs another package; pip install 'segkit[tensorboard]'"
            ) from error
        self.folder = folder
        self.pictures = pictures
        self.shown: Path | None = None
        self.open = SummaryWriter
        self.writer: Any = None

    def on_start(self, trainer: Run) -> None:
        """Open the event file."""
        with self._not_stopping(trainer):
            self.writer = self.open(str(self.folder / "tensorboard"))

    def on_epoch_end(self, trainer: Run, row: Row, scores: Scores | None) -> None:
        """Write the numbers of an epoch, and a sample picture if there is a new one."""
        if self.writer is None:
            return
        with self._not_stopping(trainer):
            for key, value in row.items():
                if key != "epoch":
                    self.writer.add_scalar(key, value, row["epoch"])
            if self.pictures.sample not in (None, self.shown):
                self.shown = self.pictures.sample
                pixels = np.asarray(Image.open(self.pictures.sample).convert("RGB"))
                self.writer.add_image("samples", pixels, row["epoch"], dataformats="HWC")
            self.writer.flush()

    @contextmanager
    def _not_stopping(self, trainer: Run) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the run is worth more
            self.writer = None
            trainer.log(f"WARNING: TensorBoard fails and is left alone: {error}")
