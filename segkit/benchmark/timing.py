"""Timing calls in turns, the convolution peak of the machine, and the memory of a process."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segkit.data.parallel import end_with_parent
from segkit.hardware import Hardware
from segkit.registry import import_parts, imported

ROUNDS = 5  # each figure is the median of so many, taken in turns
SECONDS = 3.0  # of a round
BETWEEN_WAITS = 0.2  # seconds of calls that a GPU is given at once
PEAK = (8, 256, 64, 64)  # of the input of the convolution that stands for the peak


def race(works: Mapping[str, Callable[[], object]], hardware: Hardware) -> dict[str, float]:
    """Time calls in turns, so that what slows the machine meets all; returns medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(measure_seconds(work, hardware))
    return {name: median(each) for name, each in times.items()}


def peak_convolution(
    hardware: Hardware, backward: bool = True
) -> tuple[Callable[[], object], float]:
    """Build a large 3x3 convolution in bf16, and count its GFLOP."""
    layer = nn.Conv2d(PEAK[1], PEAK[1], 3, padding=1, bias=False).bfloat16()
    hardware.to_device(layer)
    x = hardware.load(torch.randn(PEAK)).bfloat16().requires_grad_()
    gradient = torch.randn_like(x)

    def work() -> None:
        x.grad = layer.weight.grad = None
        if backward:
            layer(x).backward(gradient)
        else:
            with torch.no_grad():
                layer(x)

    return work, count_gflop(work)


def count_gflop(work: Callable[[], object]) -> float:
    """Count the operations of convolutions and matrix products in a call, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e9


def measure_seconds(work: Callable[[], object], hardware: Hardware) -> float:
    """Time a call, as the mean over a few seconds."""
    work()  # the first call may pay for others
    hardware.synchronize()
    at_once = 1
    if hardware.device.type != "cpu":  # waiting for a GPU takes as long as a short call
        start = time.perf_counter()
        work()
        hardware.synchronize()
        at_once = max(1, round(BETWEEN_WAITS / (time.perf_counter() - start)))
    calls, start = 0, time.perf_counter()
    while True:
        for _ in range(at_once):
            work()
        hardware.synchronize()
        calls += at_once
        if (spent := time.perf_counter() - start) > SECONDS:
            return spent / calls


def measure_memory(make_work: Callable[..., Callable[[], object]], *arguments: Any) -> int | None:
    """Measure the bytes that three calls need, in a process that has allocated nothing before.

    Args:
        make_work: builds the function to call; it and its arguments go to the other process.
    """
    # unlike a multiprocessing.Pool's, its processes may have children, which read the data
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=end_with_parent) as pool:
        return pool.submit(_memory, make_work, arguments, imported()).result()


def _memory(
    make_work: Callable[..., Callable[[], object]],
    arguments: tuple[Any, ...],
    imports: tuple[str, ...],
) -> int | None:
    before = _resident()
    import_parts(imports)
    work = make_work(*arguments)
    for _ in range(3):
        work()
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    after = _resident()
    return None if before is None or after is None else after - before


def _resident() -> int | None:
    """Return the most bytes this process ever held; None on Windows, which does not tell so."""
    try:  # Linux: getrusage's figure would be the parent's, where that is larger
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
