"""One process, or several that torchrun started: who this one is, and summing over all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Args:
        rank: number of this one; 0 alone prints and writes.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, tensors: list[Tensor]) -> None:
        """Give every process the tensors of the first, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def gather(self, value: Any) -> list[Any]:
        """Give the values of all processes, in the order of their ranks."""
        values = [value]
        if self.count > 1:
            values = [None] * self.count
            dist.all_gather_object(values, value)
        return values

    def main_first(self, work: Callable[[], Any]) -> None:
        """Have the main process do something, and let the others go on once it is done.

        Where it fails, they end without a word; it says what there is to say.
        """
        if self.is_main:
            try:
                work()
            except BaseException:
                self.gather(False)
                raise
            self.gather(True)
        elif not self.gather(True)[0]:
            sys.exit(2)


ALONE = Processes()


@contextmanager
def join_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did: NCCL on CUDA, gloo on CPUs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if was_restarted() and os.environ.get("LOCAL_WORLD_SIZE") == str(count):
        # torchrun keeps its store, where the addresses of those that died still stand
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
    """Tell whether torchrun has started this process anew after another one died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
