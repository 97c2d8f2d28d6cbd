"""The history of a run for TensorBoard, for those who ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.config import Config
from segkit.errors import UserError
from segkit.processes import Processes
from segkit.training.console import RunConsole


class TensorBoard:
    """Writes rows and pictures, or nothing; a failure is told once and stops no run.

    Args:
        folder: of the run.
        config: says whether to write.
        processes: of which the first one writes.
        console: for the warning.

    Raises:
        UserError: asked for, but not installed.
    """

    def __init__(
        self, folder: Path, config: Config, processes: Processes, console: RunConsole
    ) -> None:
        self.console = console
        self.writer: Any = None
        if not config.train.tensorboard:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "train.tensorboard needs another package; pip install 'segkit[tensorboard]'"
            ) from error
        if processes.is_main:
            with self._not_stopping():
                self.writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: dict[str, Any]) -> None:
        """Write the numbers of an epoch."""
        if self.writer:
            with self._not_stopping():
                for key, value in row.items():
                    if key != "epoch":
                        self.writer.add_scalar(key, value, row["epoch"])
                self.writer.flush()

    def show(self, picture: Path, epoch: int) -> None:
        """Write a picture."""
        if self.writer:
            with self._not_stopping():
                pixels = np.asarray(Image.open(picture).convert("RGB"))
                self.writer.add_image("samples", pixels, epoch, dataformats="HWC")

    @contextmanager
    def _not_stopping(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the run is worth more
            self.writer = None
            self.console.say(f"WARNING: TensorBoard fails and is left alone: {error}")
