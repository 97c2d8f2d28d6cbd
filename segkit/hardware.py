"""The device and precision to compute in, chosen by what the machine has."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segkit.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Hardware:
    """A device and the data type that convolutions compute in.

    Args:
        device: holds the model and the batches.
        precision: `fp32`, or the dtype of autocast. Losses are computed in fp32 in any case.
        why: reason for the choice, shown in the log.
    """

    device: torch.device
    precision: Literal["fp32", "bf16", "fp16"]
    why: str

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context manager for a forward pass."""
        enabled = self.precision != "fp32"
        return torch.autocast(self.device.type, DTYPES[self.precision], enabled=enabled)

    def scaler(self) -> torch.amp.GradScaler:
        """Build the gradient scaler; it does nothing unless gradients are fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def to_device(self, model: nn.Module) -> nn.Module:
        """Move a model to the device in channels-last layout, in which convolutions are faster."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def load(self, pixels: Tensor) -> Tensor:
        """Move a batch of images to the device in channels-last layout."""
        pixels = pixels.to(self.device, non_blocking=True)
        return pixels.contiguous(memory_format=torch.channels_last)

    def __str__(self) -> str:
        tf32 = ", TF32 off" if self.device.type == "cuda" and self.precision == "fp32" else ""
        return f"{self.name}, {self.precision} ({self.why}){tf32}, channels_last"

    @property
    def name(self) -> str:
        """Name of the device, such as that of the GPU."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"CPU with {threads} thread{'s' if threads > 1 else ''}"


def choose_hardware(device: DeviceName = "auto", precision: PrecisionName = "auto") -> Hardware:
    """Choose the device and the precision.

    Args:
        device: `auto` is CUDA where available, else the CPU.
        precision: `auto` is bf16 where the hardware supports it, else fp16 on CUDA with tensor
            cores, else fp32.

    Raises:
        UserError: CUDA is requested but not available, or fp16 on a CPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device here; use --device cpu, or auto")
    use_cuda = device != "cpu" and torch.cuda.is_available()
    # torchrun numbers the processes of a machine; each uses a device of its own
    number = f":{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""
    target = torch.device(f"cuda{number}" if use_cuda else "cpu")
    if precision == "fp16" and not use_cuda:
        raise UserError("precision fp16 needs a CUDA device; use bf16, fp32 or auto on a CPU")
    chosen: Any = (precision, "as configured")
    if precision == "auto":
        chosen = _best_on_cuda(target) if use_cuda else _best_on_cpu()
    hardware = Hardware(target, *chosen)
    # fp32 means fp32; beside bf16 and fp16, TF32's 10 bits of mantissa lose nothing
    torch.backends.cudnn.allow_tf32 = hardware.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = hardware.precision != "fp32"
    return hardware


def _best_on_cuda(device: torch.device) -> tuple[Literal["fp32", "bf16", "fp16"], str]:
    capability = torch.cuda.get_device_capability(device)
    shown = f"auto: compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return "bf16", shown
    return ("fp16", shown) if capability >= (7, 0) else ("fp32", shown)


def _best_on_cpu() -> tuple[Literal["fp32", "bf16"], str]:
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    for name, shown in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if found.get(name):
            return "bf16", f"auto: the CPU has {shown}"
    return "fp32", "auto: the CPU has no bf16 instructions"
