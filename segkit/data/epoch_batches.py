"""The order of a data set's samples in an epoch, cut into steps and batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch.utils.data import Sampler

Key = tuple[int, int]  # epoch and index of a sample


@dataclass(eq=False)
class EpochBatches(Sampler[list[Key]]):
    """Yields the batches of one process in an epoch, as keys (epoch, index).

    A step takes one global batch, the `count * accumulate` batches of all processes, so which
    samples a step has depends on its size alone. The last step of an epoch may have fewer, which
    the processes share evenly; some of them may then have a batch less than others, or none. The
    epoch is part of the key, so that persistent workers know it too.
    """

    length: int  # number of samples
    batch_size: int  # of one process
    _: KW_ONLY
    seed: int = 0  # of the order
    shuffle: bool = True  # False keeps the order of the data set
    rank: int = 0  # number of this process
    count: int = 1  # number of processes
    accumulate: int = 1  # batches that each process has in a step

    def __post_init__(self) -> None:
        self.part = self.batch_size * self.count  # samples that all processes take at once
        self.step_size = self.part * self.accumulate
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch that is read next, without its first `skip` steps."""
        self.epoch, self.skip = epoch, skip

    @property
    def steps(self) -> int:
        """Number of steps in an epoch."""
        return -(-self.length // self.step_size)

    def batches_in(self, step: int) -> int:
        """Return how many batches this process has in a step."""
        return sum(1 for _ in self._parts(step))

    def most_batches_in(self, step: int) -> int:
        """Return how many batches the process with the most has in a step."""
        samples = min(self.step_size, self.length - step * self.step_size)
        return -(-samples // self.part)

    def __len__(self) -> int:
        return sum(self.batches_in(step) for step in range(self.skip, self.steps))

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.length)
        if self.shuffle:
            seed = int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0])
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(self.length, generator=generator).numpy()
        for step in range(self.skip, self.steps):
            for part in self._parts(step):
                yield [(self.epoch, index) for index in order[part].tolist()]

    def _parts(self, step: int) -> Iterator[slice]:
        """Yield the slices of the order that are the batches of a step."""
        end = min((step + 1) * self.step_size, self.length)
        for start in range(step * self.step_size, end, self.part):
            mine = slice(start + self.rank, min(start + self.part, end), self.count)
            if mine.start < mine.stop:
                yield mine
