"""Collective operations over the processes that torchrun started, or over a single one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from segkit.errors import OutOfMemory, UserError, as_mistake

TIMEOUT_S = 1800.0  # for another process, which may be reading all masks
LATE_S, GONE_S = 20, 3  # until all have noticed that one does not answer, or has ended

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The process group of a run; with a single process, every collective does nothing.

    A process that does not take part in a collective ends the others with a `UserError`, see
    `join_processes`.

    Args:
        rank: of this process; only rank 0 prints and writes.
        count: number of processes (the world size).
        waiting: a gloo group, for waiting that is none of a GPU's.
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

    def require_equal(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Compare what must be the same in all processes.

        Args:
            facts: returns short values by what they say, picklable.

        Raises:
            UserError: names the first fact that differs, and the process.
        """
        if self.count == 1:
            return
        gathered = self.all_gather(dict(facts()))
        for rank, other in enumerate(gathered):
            for name in {**gathered[0], **other}:
                values = gathered[0].get(name), other.get(name)
                if values[0] != values[1]:
                    raise UserError(
                        f"process {rank} differs from process 0 in {name}: {values[1]!r:.100} "
                        f"instead of {values[0]!r:.100}; give all the same command, files and "
                        "versions"
                    )

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
def join_processes(device: torch.device, timeout_s: float = TIMEOUT_S) -> Iterator[Processes]:
    """Join the process group of torchrun, if it started this process: NCCL on CUDA, else gloo.

    A `UserError` that several processes meet leaves the block in one of them; the others exit
    silently with code 2. A process that died, or does not answer, is such an error on gloo; NCCL
    ends the others itself.

    Args:
        device: of this process.
        timeout_s: seconds to wait for another process.
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
    timeout = timedelta(seconds=timeout_s)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    try:
        with _missing_told(store, rank, count, timeout_s):
            yield Processes(rank, count, dist.new_group(backend="gloo", timeout=timeout))
    except Exception as error:
        mistake = as_mistake(error)
        if mistake is None:
            raise
        if not _is_first(store, str(mistake)):
            _leave()
        if isinstance(mistake, OutOfMemory):
            mistake = OutOfMemory(f"process {rank}: {mistake}")
        mistake.is_common = False
        if mistake is error:
            raise
        raise mistake from error
    finally:
        dist.destroy_process_group()


@contextmanager
def _missing_told(store: Any, rank: int, count: int, timeout_s: float) -> Iterator[None]:
    """Tell which process is missing where a collective fails."""
    try:
        yield
    except RuntimeError as error:
        # gloo has no error of its own
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        is_late = "imed out" in str(error)
        missing = _find_missing(store, rank, count, LATE_S if is_late else GONE_S)
        named = f"process{'es' if missing[1:] else ''} {', '.join(map(str, missing))}"
        if not missing:  # each runs, but one has given up waiting for another
            why = (
                f"the processes lost each other: one waited for {timeout_s:g} s, or the network "
                "between them failed; if another was slow, raise train.timeout"
            )
        elif is_late:
            why = (
                f"{named} did not answer for {timeout_s:g} s; if it was slow and neither stopped "
                "nor cut off, raise train.timeout"
            )
        else:
            why = f"{named} ended before the others; see what it said"
        raise UserError(f"{why}; checkpoints stay as they were") from error


def _find_missing(store: Any, rank: int, count: int, patience_s: float) -> list[int]:
    """Return the processes that do not notice a failure within some seconds."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")

    def look() -> list[int]:
        store.set(f"failed {attempt} {rank}", "")
        time.sleep(patience_s)
        return [other for other in range(count) if not store.check([f"failed {attempt} {other}"])]

    missing = _ask(look, 2 * patience_s)
    if missing is None:
        return [] if rank == 0 or "TORCHELASTIC_RUN_ID" in os.environ else [0]
    return missing


def _ask(question: Callable[[], T], patience_s: float) -> T | None:
    """Return what the store says; None if torchrun, or else process 0, which holds it, is gone.

    Where that one is stopped, torch waits for ever.
    """
    answers = []

    def ask() -> None:
        with suppress(RuntimeError):  # the connection is lost
            answers.append(question())

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience_s)
    return answers[0] if answers else None


def _leave() -> NoReturn:
    """Exit, but give the process that tells the mistake time to do so before torchrun ends it."""
    time.sleep(30)
    sys.exit(2)


def _is_first(store: Any, message: str) -> bool:
    """Return whether no other process has told a message since torchrun started them."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return _ask(lambda: int(store.add(f"told {attempt} {message}", 1)) == 1, GONE_S) is not False


def was_restarted() -> bool:
    """Whether torchrun restarted this process after another one died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
