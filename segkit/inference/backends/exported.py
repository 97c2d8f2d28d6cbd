"""An exported file, which holds besides the network all that prediction needs to know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from segkit.errors import UserError
from segkit.receptive_field import Halo

KEY = "segkit"  # of the metadata in a file
Run = Callable[[NDArray[Any]], NDArray[Any]]  # from images to one output


class ExportedModel(ABC):
    """A file on its runtime; a `Backend`.

    Args:
        path: of the file.
        metadata: that it holds, see `segkit.export.metadata`.
    """

    device = torch.device("cpu")  # of the logits, wherever the runtime computes them
    has_logits = True  # whether `run` returns them, also where nobody asked for them

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.path, self.metadata = path, metadata
        self.stride: int = metadata["stride"]
        self.precision: str = metadata["export"]["precision"]
        self.num_classes = len(metadata["card"]["classes"])
        self.takes_bytes = metadata["input"]["dtype"] == "uint8"

    @abstractmethod
    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """Return an output by its name; `mask` and `logits` are always there.

        Shape: `(N, H, W, C)` as the file takes them, or float32 from 0 to 255 where that is bytes.
        """

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits of a batch `(N, C, H, W)`, see `Backend`.

        Raises:
            UserError: the file returns something else.
        """
        images = pixels.permute(0, 2, 3, 1).contiguous()
        if self.takes_bytes and images.is_floating_point():  # a view that has been resized
            images = 255 * images
        found = torch.from_numpy(self.run(images.numpy(), "logits"))
        expected = (len(pixels), self.num_classes, *pixels.shape[-2:])
        if found.shape != expected or not found.is_floating_point():
            raise UserError(
                f"{self.path} returns {found.dtype} of shape {tuple(found.shape)} for logits of "
                f"shape {expected}; export the model again"
            )
        return found

    def halo(self, channels: int | None) -> Halo:
        """Return the halo that was worked out when the model was exported, see `Backend`."""
        halo = self.metadata["halo"]
        if isinstance(halo, str):  # why there is none
            raise UserError(halo)
        return Halo(*halo)


class GraphModel(ExportedModel):
    """A file whose graph is opened anew for each output, and for floats in the place of bytes."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        super().__init__(path, metadata)
        self._opened: dict[tuple[str, bool], Run] = {}

    @abstractmethod
    def open(self, output: str, widened: bool) -> Run:
        """Prepare to compute an output.

        Args:
            output: name of a value of the graph, whether or not the file returns it.
            widened: whether images come as floats, though the file takes bytes. The graph begins
                by a cast to floats, so that it computes the same.
        """

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """Run the graph, see `ExportedModel`.

        Raises:
            UserError: the runtime cannot.
        """
        key = output, self.takes_bytes and images.dtype != "uint8"
        try:
            if key not in self._opened:
                self._opened[key] = self.open(*key)
            return self._opened[key](images)
        except MemoryError:
            raise
        except Exception as error:  # of many types, for a damaged graph
            why = str(error).strip().rpartition("\n")[2]
            raise UserError(
                f"{self.path} cannot be run on images of shape {images.shape}: {why}; use smaller "
                "tiles if memory is short, else export the model again"
            ) from error
