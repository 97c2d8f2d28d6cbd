"""Batches, in an order and with an augmentation that depend on (seed, epoch, index) alone."""

from __future__ import annotations

import atexit
import multiprocessing
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from segkit.console import PlainConsole
from segkit.data.batch import Batch, Piped, collate, one_size, send, void_like
from segkit.data.dataset import Sample, as_sample
from segkit.data.dead_workers import fetch, raised_as_user_errors, silence_handler
from segkit.data.epoch_batches import EpochBatches, Key
from segkit.data.parallel import check_room, init_worker, signals_held
from segkit.errors import UserError

T = TypeVar("T")
WORKER_TIMEOUT_S = 180  # without a batch after that long, a worker counts as stuck
LOOK_EVERY_S = 2  # whether the workers are alive, while one waits


class Loader:
    """Reads a dataset in batches, in this process or by workers that live as long as it does.

    Reading raises `UserError` for a file that cannot be used, and a worker that died or is stuck.

    Args:
        dataset: a `SegmentationDataset`, or any that returns `(image, mask)`, see `as_sample`.
        sampler: chooses the samples of each batch.
        workers: number of loading processes; 0 loads in this one.
        pin_memory: put batches where a GPU copies them from without waiting.

    Attributes:
        tell: is called with a line where the system lacks what workers need.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: EpochBatches,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = _Guarded(dataset)
        self.sampler = sampler
        self.workers = workers
        self.pin_memory = pin_memory
        self.tell: Callable[[str], object] = PlainConsole(stderr=True).print
        self.loader = self._build()
        self._workers: list[BaseProcess] = []
        self._last: Batch | None = None
        self._told = False

    def _build(self) -> DataLoader[Any]:
        return DataLoader(
            self.dataset,
            batch_sampler=self.sampler,
            num_workers=self.workers,
            collate_fn=send,
            pin_memory=self.pin_memory,
            persistent_workers=self.workers > 0,
            worker_init_fn=init_worker,
            timeout=LOOK_EVERY_S if self.workers else 0,
            generator=torch.Generator(),  # else each epoch's start takes one of dropout's numbers
        )

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the sampler's epoch; one of several sizes comes as several."""
        for groups in self._read():
            yield from groups

    def steps(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield this process's micro-batches of each step of an epoch, from step `start` on.

        All processes get as many, as each forward pass of a synchronised norm waits for theirs:
        void ones fill up.
        """
        self.sampler.set_epoch(epoch, start)
        batches = self._read()
        for step in range(start, self.sampler.steps):
            micro_batches = [one_size(next(batches)) for _ in range(self.sampler.batches_in(step))]
            if micro_batches:
                self._last = micro_batches[0]
            elif self._last is None:
                [self._last] = _raised(collate([self.dataset[epoch, 0]]))
            missing = self.sampler.most_batches_in(step) - len(micro_batches)
            yield micro_batches + [void_like(self._last)] * missing

    def close(self) -> None:
        """End the workers; another epoch starts new ones."""
        if self._workers:
            self._end()
            self._workers.clear()
            self.loader = self._build()

    def _read(self) -> Iterator[list[Batch]]:
        """Yield each batch as one `Batch` per image size."""
        batches = self._start()
        while True:
            groups = fetch(batches, self._workers, WORKER_TIMEOUT_S)
            if groups is None:
                return
            yield [self._received(group) for group in _raised(groups)]

    def _start(self) -> Iterator[Any]:
        """Begin an epoch; the first time, start the workers, or do without."""
        with raised_as_user_errors(self._workers):
            if not self.workers or self._workers:
                return iter(self.loader)
            others = multiprocessing.active_children()
            try:
                check_room(self.workers)
                with signals_held():
                    try:
                        batches = iter(self.loader)
                        self._keep(_started_since(others), batches)
                    except BaseException:  # an interrupt that another thread took, for example
                        for worker in _started_since(others):
                            worker.kill()  # as the end of this process would await it for ever
                        raise
                    finally:
                        silence_handler()
            except OSError as error:
                self.tell(
                    f"WARNING: no loading processes can be started ({error.strerror}), so this one "
                    "loads; see to room in /dev/shm (docker run --shm-size) and to ulimit -n, or "
                    "set data.workers=0"
                )
                self.workers = 0
                self.loader = self._build()
                return iter(self.loader)
            return batches

    def _keep(self, workers: list[BaseProcess], batches: Any) -> None:
        """See to it that workers end with this process, and with the loader."""
        self._workers += workers
        for worker in workers:
            # at the end of this process, as SIGTERM, which would end it, is ignored; a
            # process of multiprocessing's has finalizers instead of atexit's functions
            atexit.register(worker.kill)
            Finalize(None, worker.kill, exitpriority=0)
        # before the garbage collector takes torch's iterator apart, whose workers it would
        # await for seconds each then
        self._end = weakref.finalize(self, batches._shutdown_workers)
        self._end.atexit = False

    def _received(self, batch: Batch | Piped) -> Batch:
        if isinstance(batch, Batch):
            return batch
        if not self._told:
            self._told = True
            self.tell(
                "WARNING: /dev/shm is too small for the batches of the loading processes, or too "
                "few files may be open, so they come through pipes, which is slower; see docker "
                "run --shm-size and ulimit -n, or lower data.workers"
            )
        return Batch(torch.from_numpy(batch.images), torch.from_numpy(batch.masks), batch.names)


def _started_since(others: list[BaseProcess]) -> list[BaseProcess]:
    return [process for process in multiprocessing.active_children() if process not in others]


class _Guarded(Dataset[Sample | UserError]):
    """Hands a user's mistake on as a value: raised in a worker, it would come with a traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample | UserError:
        epoch, index = key
        try:
            if hasattr(self.dataset, "sample"):
                sample: Sample = self.dataset.sample(index, epoch)
                return sample
            return as_sample(self.dataset[index], index)
        except UserError as error:
            return error


def _raised(found: list[T] | UserError) -> list[T]:
    if isinstance(found, UserError):
        raise found
    return found
