"""Collective operations over the processes that torchrun started, or over a single one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from segkit.errors import UserError

STEP_TIMEOUT = timedelta(minutes=10)  # for the others in the midst of a step
WAIT_TIMEOUT = timedelta(hours=12)  # while one process reads all masks, or finishes its images

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The process group of a run; with a single process, every collective does nothing.

    Args:
        rank: of this process; only rank 0 prints and writes.
        count: number of processes (the world size).
        waiting: a gloo group, for the collectives that may have to wait long for a process.
    """

    rank: int = 0
    count: int = 1
    waiting: Any = None

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
            dist.all_gather_object(values, value, group=self.waiting)
        return values

    def barrier(self) -> None:
        """Wait until all processes reach this call."""
        self.all_gather(None)

    def main_first(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process first, and then in the others.

        If it fails in the main process, the others exit silently with code 2.
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
            _leave()
        return work()


SINGLE = Processes()


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """Join the process group of torchrun, if it started this process: NCCL on CUDA, else gloo.

    A `UserError` that several processes meet leaves the block in one of them; the others exit
    silently with code 2.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE
        return
    if device.type == "mps":
        raise UserError("MPS serves a single process; leave out torchrun, or use --device cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    if was_restarted() and os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        # torchrun keeps its store, which still holds the addresses of the processes that died
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        store = dist.PrefixStore(f"attempt {attempt}", store)  # type: ignore[attr-defined]
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=STEP_TIMEOUT)
    try:
        yield Processes(rank, count, dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT))
    except UserError as error:
        if not _is_first(store, str(error)):
            _leave()
        error.is_common = False
        raise
    finally:
        dist.destroy_process_group()


def _leave() -> NoReturn:
    """Exit, but give the process that tells the mistake time to do so before torchrun ends it."""
    time.sleep(30)
    sys.exit(2)


def _is_first(store: Any, message: str) -> bool:
    """Return whether no other process has told a message since torchrun started them."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        return int(store.add(f"told {attempt} {message}", 1)) == 1
    except RuntimeError:  # the process that holds the store is gone
        return True


def was_restarted() -> bool:
    """Whether torchrun restarted this process after another one died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
