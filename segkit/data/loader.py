"""Batches, in an order and with an augmentation that depend on (seed, epoch, index) alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data._utils import signal_handling

from segkit.data.dataset import Sample
from segkit.errors import UserError


class Batch(NamedTuple):
    """Images of one size.

    Args:
        images: uint8 `(N, C, H, W)`.
        masks: uint8 class indices `(N, H, W)`, 255 for void.
        names: of the files.
    """

    images: Tensor
    masks: Tensor
    names: list[str]


Key = tuple[int, int]  # epoch and index of a sample


class EpochBatches(Sampler[list[Key]]):
    """Yields the batches of one process in an epoch, as keys (epoch, index).

    A step takes a global batch, `count * accumulate` batches of all processes, so the samples of a
    step depend on its size alone. The last step of an epoch may have fewer, shared out evenly, and
    then some process may have no batch in it. The epoch travels with the index, so workers that
    live on know it too.

    Args:
        length: number of samples.
        batch_size: of one process.
        seed: of the order.
        shuffle: False keeps the order of the data set.
        rank: number of this process.
        count: of processes.
        accumulate: batches of each process in a step.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        count: int = 1,
        accumulate: int = 1,
    ) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.count = count
        self.part = batch_size * count  # samples that all processes take at once
        self.step_size = self.part * accumulate
        self.epoch = 0
        self.skip = 0  # steps of the epoch that an interrupted run has done already

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-self.length // self.step_size)

    def batches_in(self, step: int) -> int:
        """Tell how many batches this process has in a step."""
        return sum(1 for _ in self._parts(step))

    def __len__(self) -> int:
        return sum(self.batches_in(step) for step in range(self.skip, self.steps))

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.length)
        if self.shuffle:
            seed = int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0])
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(self.length, generator=generator).numpy()
        for step in range(self.skip, self.steps):
            for places in self._parts(step):
                yield [(self.epoch, index) for index in order[places].tolist()]

    def _parts(self, step: int) -> Iterator[slice]:
        """Give the places in the order that make up the batches of a step."""
        end = min((step + 1) * self.step_size, self.length)
        for start in range(step * self.step_size, end, self.part):
            mine = slice(start + self.rank, min(start + self.part, end), self.count)
            if mine.start < mine.stop:
                yield mine


class _Guarded(Dataset[Sample | UserError]):
    """Hands a user's mistake on as a value: raised in a worker, it would come with a traceback."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> Sample | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


WORKER_TIMEOUT_S = 180  # without a batch after that long, a worker counts as stuck

# torch types a loader by its data set's items, not by what collating makes of them
Loader = DataLoader[Any]


def make_loader(
    dataset: Dataset[Sample], sampler: EpochBatches, workers: int, pin_memory: bool = False
) -> Loader:
    """Build a loader; read it through `batches`."""
    return DataLoader(
        _Guarded(dataset),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_init_worker,
        timeout=WORKER_TIMEOUT_S if workers else 0,
        generator=torch.Generator(),  # else each start of an epoch takes one of dropout's numbers
    )


def batches(loader: Loader) -> Iterator[list[Batch]]:
    """Read the loader: each time a batch, as one `Batch` per image size.

    Raises:
        UserError: a file that cannot be read or used.
        RuntimeError: a worker died, see `worker_errors`.
    """
    try:
        for item in loader:
            if isinstance(item, UserError):
                raise item
            yield item
    except (ConnectionError, EOFError) as error:  # it died while we fetched what it had made
        raise RuntimeError("DataLoader worker ended before its batch was fetched") from error


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turn the end of a loading process into a sentence; torch tells it wherever we are just then.

    Raises:
        UserError: a worker died, or gave nothing for `WORKER_TIMEOUT_S` seconds.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        _tell_no_more()
        first = str(error).partition("\n")[0].rstrip(". ")
        raise UserError(
            f"loading stopped: {first}; if memory ran out, lower data.workers or use "
            "data.workers=0; if the disk is slow, data.cache=ram reads each file once"
        ) from error


def _tell_no_more() -> None:
    """Keep torch from raising once more for the same worker, in whatever we do after the error."""
    with suppress(ValueError, AttributeError):  # not in the main thread; not a Unix
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal_handling._SIGCHLD_handler_set = False  # the next loader sets it again


def _collate(samples: list[Sample | UserError]) -> list[Batch] | UserError:
    by_size: dict[torch.Size, list[Sample]] = {}
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        by_size.setdefault(sample.mask.shape, []).append(sample)
    return [
        Batch(
            torch.stack([s.image for s in group]),
            torch.stack([s.mask for s in group]),
            [s.name for s in group],
        )
        for group in by_size.values()
    ]


def _init_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us ...
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ... by this, whatever it does itself
    cv2.setNumThreads(0)
