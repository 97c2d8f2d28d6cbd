"""How many pixels there is memory for, by what the network takes for small tiles."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import partial
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.inference.backends.base import Backend
from segkit.inference.prediction import to_prediction
from segkit.limits import free_ram

SIDES = (256, 512)  # of the tiles to measure
INTERVAL = 0.001  # seconds between two looks at the memory; a layer of such a tile takes longer
M_MMAP_THRESHOLD = -3  # glibc's number for the option
RETURNED = 2**22  # bytes from which an allocation is returned when it is freed
STATM = Path("/proc/self/statm")


class Room(NamedTuple):
    """The memory that one tile may take, and what it takes for each pixel, in bytes."""

    memory: float
    per_pixel: float

    @property
    def pixels(self) -> int:
        """The number of pixels that can be computed at once."""
        return int(self.memory / self.per_pixel)

    def __str__(self) -> str:
        return f"{self.memory / 1e9:.1f} GB at {self.per_pixel:,.0f} bytes a pixel"


def find_room(backend: Backend, image: Tensor, memory: float | None = None) -> Room | None:
    """Measure what a network takes for each pixel, with all that can be asked of a prediction.

    On a CPU this is the memory of the process, not that of PyTorch's tensors: so it serves any
    runtime, and what libraries need inside is counted. A small tile takes more for each pixel, so
    the tiles grow as far as memory allows, and the last one counts.

    Args:
        backend: the network.
        image: `(C, H, W)`, of the kind to predict.
        memory: that a tile may take, in bytes; None: half of what is free.

    Returns:
        None where memory cannot be measured; it can on CUDA, and under Linux on a CPU.
    """
    free = free_memory(backend.device)
    if free is None:
        return None
    memory = free / 2 if memory is None else memory
    _predict(backend, image, 64)  # the first time, a runtime also prepares itself
    if backend.device.type == "cpu":
        _return_what_is_freed()
    before = held_memory(backend.device)  # some runtimes keep what a smaller tile took
    taken = 1
    for side in SIDES:
        run = partial(_predict, backend, image, side)
        taken = max(taken, peak_memory(run, backend.device) - before)
        if 4 * taken > memory:
            break
    return Room(memory, taken / side**2)


def _predict(backend: Backend, image: Tensor, side: int) -> None:
    blank = image.new_zeros((1, len(image), side, side))
    scores = backend.logits(blank)[0]
    to_prediction(scores, False, confidence=True, probabilities=True)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that the process can still take; None where nothing tells."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return free_ram() if device.type == "cpu" and STATM.exists() else None


def held_memory(device: torch.device) -> int:
    """Return the bytes that the process holds, where `free_memory` is known."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(STATM.read_text().split()[1]) * PAGESIZE


def peak_memory(run: Callable[[], None], device: torch.device) -> int:
    """Return the bytes that the process holds at the peak of a call, as `held_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    peak = held_memory(device)
    done = threading.Event()

    def watch() -> None:  # the kernel's own peak is for others to read: resetting it would spoil it
        nonlocal peak
        while not done.wait(INTERVAL):
            peak = max(peak, held_memory(device))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return peak


def _return_what_is_freed() -> None:
    """Let glibc return maps to the system when they are freed, and all that it has kept so far.

    It would keep those below 32 MB, and the gaps between them would cost a third more memory.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, RETURNED)
        libc.malloc_trim(0)
