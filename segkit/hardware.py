"""The device and precision to compute in, chosen by what the machine has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from segkit.errors import UserError, unknown_name

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
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

    @contextmanager
    def autocast(self, search: bool = False) -> Iterator[None]:
        """Compute a forward pass, and its backward pass, in the precision; all else is as before.

        Args:
            search: let cuDNN try its algorithms, which is worth it for many passes of one size,
                unless torch is to be deterministic: the fastest is not the same each time.
        """
        is_fp32 = self.precision == "fp32"
        with ExitStack() as stack:
            if self.device.type == "cuda":
                stack.enter_context(_cuda_switches(not is_fp32, search))
            dtype = DTYPES[self.precision]
            stack.enter_context(torch.autocast(self.device.type, dtype, enabled=not is_fp32))
            yield

    def scaler(self) -> torch.amp.GradScaler:
        """Build the gradient scaler; it does nothing unless gradients are fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def to_device(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in the memory format of `load`."""
        return model.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]

    def load(self, pixels: Tensor) -> Tensor:
        """Move a batch of images to the device, in the memory format of the model."""
        return self.copy(pixels).contiguous(memory_format=self.memory_format)

    def copy(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device; to CUDA from pinned memory without waiting."""
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Begin to copy a tensor to the CPU, and return what waits for the copy."""
        if self.device.type != "cuda":
            copied = tensor.cpu()
            return lambda: copied
        copied = torch.empty_like(tensor, device="cpu", pin_memory=True)
        copied.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> Tensor:
            done.synchronize()
            return copied

        return wait

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def __str__(self) -> str:
        tf32 = ", TF32 off" if self.device.type == "cuda" and self.precision == "fp32" else ""
        layout = str(self.memory_format).removeprefix("torch.")
        return f"{self.name}, {self.precision} ({self.why}){tf32}, {layout}"

    @property
    def memory_format(self) -> torch.memory_format:
        """That in which convolutions are fastest; on MPS some gradients need the default one."""
        return torch.contiguous_format if self.device.type == "mps" else torch.channels_last

    @property
    def widest_float(self) -> torch.dtype:
        """The data type for sums over many steps; MPS has no float64."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    @property
    def name(self) -> str:
        """Name of the device, such as that of the GPU."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        if self.device.type == "mps":
            return "MPS"
        return f"CPU with {thread_count()}"


def thread_count() -> str:
    """Say how many threads torch computes with; the other runtimes are given the same number."""
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''}"


def hardware_of(model: nn.Module) -> Hardware:
    """Return the device of a model's parameters, to compute in fp32."""
    parameter = next(model.parameters(), torch.zeros(0))
    return Hardware(parameter.device, "fp32", "where the model is")


def choose_hardware(
    device: DeviceName = "auto", precision: PrecisionName = "auto", *, adapt: bool = False
) -> Hardware:
    """Choose the device and the precision.

    Args:
        device: `auto` is CUDA where available, else MPS, Apple's GPU, else the CPU.
        precision: `auto` is bf16 where the hardware supports it, else fp16 on CUDA with tensor
            cores, else fp32. MPS computes in fp32.
        adapt: compute in fp32 what the device cannot compute in the precision, instead of an error:
            for a model that was trained elsewhere.

    Raises:
        UserError: an unknown device, one that is not available, or a precision that it lacks.
    """
    kind = _choose_device(device)
    # torchrun numbers the processes of a machine; each uses a device of its own
    rank = os.environ.get("LOCAL_RANK")
    if kind == "cuda" and rank is not None and int(rank) >= (count := torch.cuda.device_count()):
        raise UserError(
            f"there is no GPU for process {rank} of this machine, which shows {count}; use "
            f"torchrun --nproc_per_node={count}"
        )
    target = torch.device("cuda", int(rank)) if kind == "cuda" and rank else torch.device(kind)
    chosen: Any = (precision, "as configured")
    if (kind, precision) in (("cpu", "fp16"), ("mps", "fp16"), ("mps", "bf16")):
        if not adapt:
            raise UserError(
                f"precision {precision} cannot be had on {kind.upper()}; use fp32 or auto"
            )
        chosen = "fp32", f"{precision} cannot be had on {kind.upper()}"
    elif precision == "auto" and kind == "mps":
        chosen = "fp32", "auto: the only one used on MPS"
    elif precision == "auto":
        chosen = _best_on_cuda(target) if kind == "cuda" else _best_on_cpu()
    return Hardware(target, *chosen)


@contextmanager
def _cuda_switches(tf32: bool, search: bool) -> Iterator[None]:
    """Set torch's switches, which are those of the process, for a while.

    fp32 means fp32; beside bf16 and fp16, TF32's 10 bits of mantissa lose nothing.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32, cudnn.allow_tf32 = tf32, tf32
    cudnn.benchmark = before[2] or (search and not torch.are_deterministic_algorithms_enabled())
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def _choose_device(name: DeviceName) -> str:
    if name not in get_args(DeviceName):
        raise unknown_name("device", name, get_args(DeviceName))
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    available = [*["cuda"] * has_cuda, *["mps"] * has_mps, "cpu"]
    if name == "auto":
        return available[0]
    if name not in available:
        others = " or ".join(f"--device {other}" for other in available)
        raise UserError(f"there is no {name.upper()} device here; use {others}, or auto")
    return name


def _best_on_cuda(device: torch.device) -> tuple[Literal["fp32", "bf16", "fp16"], str]:
    capability = torch.cuda.get_device_capability(device)
    shown = f"auto: compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return "bf16", shown
    return ("fp16", shown) if capability >= (7, 0) else ("fp32", shown)


def _best_on_cpu() -> tuple[Literal["fp32", "bf16"], str]:
    found = torch.cpu.get_capabilities()
    for name, shown in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if found.get(name):
            return "bf16", f"auto: the CPU has {shown}"
    if found.get("bf16"):  # ARM's name; nobody has measured convolutions there
        return "fp32", "auto: bf16 on ARM must be asked for"
    return "fp32", "auto: the CPU has no bf16 instructions"
