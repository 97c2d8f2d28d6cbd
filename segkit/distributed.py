"""Collective operations over the processes that torchrun started, or over a single one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The process group of a run; with a single process, every collective does nothing."""

    rank: int = 0  # rank of this process; only rank 0 prints and writes
    count: int = 1  # number of processes (the world size)

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Copy the tensors of rank 0 to all processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def all_gather(self, value: Any) -> list[Any]:
        """Gather a picklable value from each process, in order of rank."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until all processes reach this call."""
        self.all_gather(None)

    def main_first(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process first, and then in the others.

        If it fails in the main process, the others exit silently with code 2; the main process
        reports the error.
        """
        if self.is_main:
            try:
                result = work()
            except BaseException:
                self.all_gather(False)
                raise
            self.all_gather(True)
            return result
        if not self.all_gather(True)[0]:
            sys.exit(2)
        return work()


SINGLE = Processes()


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """Join the process group of torchrun, if it started this process: NCCL on CUDA, else gloo."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if was_restarted() and os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        # torchrun keeps its store, which still holds the addresses of the processes that died
        store, rank, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    else:
        dist.init_process_group(backend)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def was_restarted() -> bool:
    """Whether torchrun restarted this process after another one died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
