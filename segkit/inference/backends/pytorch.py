"""A network in PyTorch, as it was trained or built."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segkit.errors import UserError
from segkit.hardware import Hardware, hardware_of
from segkit.inference.tiles import exact_halo
from segkit.model import eval_mode, logits_of
from segkit.normalize import make_normalize
from segkit.receptive_field import Halo


class TorchBackend:
    """Runs a module in eval mode, and restores its own mode after each batch.

    Args:
        model: from images `(N, C, H, W)` to logits, or a mapping that holds them under `out`; on
            the hardware's device. An attribute `stride` says which multiples tiles begin at;
            without one, that is every pixel, and it cannot be cut exactly.
        hardware: where and how precisely to compute; None: where the model's parameters are, in
            fp32.
        mean: per channel, of images scaled to 0 ... 1; None: images come normalised, as float32.
        std: the same.
        compile: make it faster by `torch.compile`, which takes its time at the first image.

    Raises:
        UserError: no compiler is there.
    """

    def __init__(
        self,
        model: nn.Module,
        hardware: Hardware | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        compile: bool = False,
    ) -> None:
        self.model = model
        self.hardware = hardware or hardware_of(model)
        self.device = self.hardware.device
        self.normalize = make_normalize(mean, std, self.device)
        stride = getattr(model, "stride", 1)
        self.network: Any = model  # the model as it is called
        if compile:
            _check_compiler(self.device)
            self.network = torch.compile(model, dynamic=True)
        self.stride: int = stride if isinstance(stride, int) else 1  # a bare convolution has a pair

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits of a batch `(N, C, H, W)`, see `Backend`."""
        if self.normalize is None and not pixels.is_floating_point():
            raise UserError(
                f"an image is {pixels.dtype}, but this predictor takes normalised floats; pass "
                "mean and std"
            )
        batch = self.hardware.load(pixels)
        with eval_mode(self.model), self.hardware.autocast():
            return logits_of(self.network(self.normalize(batch) if self.normalize else batch))

    def halo(self, channels: int | None) -> Halo:
        """Follow the model, see `Backend`."""
        return exact_halo(self.model, channels)

    def __str__(self) -> str:
        compiled = ", compiled" if self.network is not self.model else ""
        return f"{self.hardware}{compiled}"


def has_compiler() -> bool:
    """Return whether a C++ compiler is there, as torch needs for code of its own on a CPU."""
    return any(map(shutil.which, ("g++", "clang++", "cl")))


def _check_compiler(device: torch.device) -> None:
    if device.type == "cpu" and not has_compiler():
        raise UserError(
            "compiling a network for the CPU needs a C++ compiler such as g++; install one, or "
            "leave out --fast"
        )
