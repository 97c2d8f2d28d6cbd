"""What a predictor asks of a network and the runtime that computes it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from segkit.receptive_field import Halo


class Backend(Protocol):
    """A network on a runtime; `str()` says where and how precisely it computes.

    Attributes:
        device: of the logits.
        stride: multiples of it are where tiles may begin, in pixels.
    """

    device: torch.device
    stride: int

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits of a batch, with the normalisation inside.

        Shape: uint8, or float32 from 0 to 1, `(N, C, H, W)` to `(N, num_classes, H, W)`.
        """
        ...

    def halo(self, channels: int | None) -> Halo:
        """Return what an exact tile needs around it.

        Raises:
            UserError: it cannot be said, so the network cannot be cut into exact tiles.
        """
        ...
