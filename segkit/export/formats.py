"""What the formats of export have in common."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from segkit.export.deployed import DeployedModel
from segkit.export.int8 import Images
from segkit.inference.backends.exported import ExportedModel

Precision = Literal["fp32", "half", "int8"]


class Format(ABC):
    """A format of files, and the runtime that judges them.

    Attributes:
        suffix: of its files.
        precisions: that its runtime computes.
    """

    suffix: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)

    @abstractmethod
    def check(self) -> None:
        """Refuse, before any work, what this machine lacks.

        Raises:
            UserError: a missing package or device.
        """

    @abstractmethod
    def build(self, model: DeployedModel, channels: int, precision: Precision) -> Any:
        """Convert a model, which is not used any more; for int8 to fp32, see `quantize`.

        Raises:
            UserError: an operation that the format lacks.
        """

    def quantize(self, built: Any, images: Images, kept: Sequence[str]) -> Any:
        """Return what `build` returned in int8, for formats that have it.

        Args:
            built: in fp32.
            images: to calibrate on.
            kept: names of the convolutions to leave as they are.
        """
        raise NotImplementedError

    @abstractmethod
    def save(self, built: Any, path: Path, metadata: str) -> None:
        """Write what `build` returned, with its metadata."""

    @abstractmethod
    def open(self, path: Path) -> ExportedModel:
        """Load a file on its runtime."""

    def files(self, path: Path) -> list[Path]:
        """List the files that `save` writes for a path, the one to open last."""
        return [path]

    def move(self, path: Path, target: Path) -> None:
        """Move the files of a model to where they stay."""
        for source, to in zip(self.files(path), self.files(target), strict=True):
            shutil.move(source, to)
