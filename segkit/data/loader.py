"""Batches, in an order and with an augmentation that depend on (seed, epoch, index) alone."""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segkit.data.dataset import Sample, as_class_indices, as_sample
from segkit.data.dead_workers import raised_as_user_errors
from segkit.data.epoch_batches import EpochBatches, Key
from segkit.data.parallel import init_worker, signals_held
from segkit.errors import UserError
from segkit.labels import IGNORE_INDEX


class Batch(NamedTuple):
    """Images of one size."""

    images: Tensor  # (N, C, H, W), uint8 or float32
    masks: Tensor  # class indices (N, H, W), uint8, 255 for void
    names: list[str]

    @property
    def is_void(self) -> bool:
        """Whether it weighs nothing and fills in for samples that the process does not have."""
        return not self.names


WORKER_TIMEOUT_S = 180  # without a batch after that long, a worker counts as stuck


class Loader:
    """Reads a dataset in batches, in this process or by workers that live as long as it does.

    Reading raises `UserError` for a file that cannot be used, and a worker that died or is stuck.

    Args:
        dataset: a `SegmentationDataset`, or any that returns `(image, mask)`, see `as_sample`.
        sampler: chooses the samples of each batch.
        workers: number of loading processes; 0 loads in this one.
        pin_memory: put batches where a GPU copies them from without waiting.
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
        self.loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=init_worker,
            timeout=WORKER_TIMEOUT_S if workers else 0,
            generator=torch.Generator(),  # else each epoch's start takes one of dropout's numbers
        )
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._last: Batch | None = None

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
            micro_batches = [_one_size(next(batches)) for _ in range(self.sampler.batches_in(step))]
            if micro_batches:
                self._last = micro_batches[0]
            elif self._last is None:
                [self._last] = _raised(_collate([self.dataset[epoch, 0]]))
            missing = self.sampler.most_batches_in(step) - len(micro_batches)
            yield micro_batches + [void_like(self._last)] * missing

    def _read(self) -> Iterator[list[Batch]]:
        """Yield each batch as one `Batch` per image size."""
        with raised_as_user_errors(self._workers):
            others = multiprocessing.active_children()
            with signals_held():
                batches = iter(self.loader)
            if not self._workers:
                self._workers += [p for p in multiprocessing.active_children() if p not in others]
                for worker in self._workers:
                    # at the end of this process, as SIGTERM, which would end it, is ignored; a
                    # process of multiprocessing's has finalizers instead of atexit's functions
                    atexit.register(worker.kill)
                    Finalize(None, worker.kill, exitpriority=0)
        while True:
            with raised_as_user_errors(self._workers):
                groups = next(batches, None)
            if groups is None:
                return
            yield _raised(groups)


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


def _raised(found: list[Batch] | UserError) -> list[Batch]:
    if isinstance(found, UserError):
        raise found
    return found


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


def _one_size(groups: Sequence[Batch]) -> Batch:
    """Return the only batch of a list; refuse one of several sizes."""
    if len(groups) > 1:
        sizes = " and ".join(str(tuple(g.masks.shape[-2:])) for g in groups[:2])
        raise UserError(
            f"training images of one batch differ in size, e.g. {sizes}; end "
            "data.train_transforms with a RandomCrop (pad_if_needed: true) or a Resize"
        )
    return groups[0]


def void_like(batch: Batch) -> Batch:
    """Return a batch that weighs nothing, with the first image of another and a void mask."""
    masks = torch.full_like(batch.masks[:1], IGNORE_INDEX)
    return Batch(batch.images[:1], masks, [])


def as_batch(item: Any, start: int = 0) -> Batch:
    """Convert what a user's `DataLoader` yields.

    Args:
        item: a `Batch`, or `(images, masks)` or `(images, masks, names)` as tensors
            `(N, C, H, W)`, uint8 or float, and `(N, H, W)`, whole numbers, 255 for void.
        start: number of images before this batch; images without a name are numbered from it.
    """
    if isinstance(item, Batch):
        return item
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise UserError(
            f"a batch is of type {type(item).__name__}; a loader must yield (images, masks) or "
            "(images, masks, names)"
        )
    images, masks = item[0], as_class_indices(item[1], f"the batch from sample {start} on")
    shape = images.shape if isinstance(images, Tensor) else ()
    if len(shape) != 4 or masks.shape != (shape[0], *shape[2:]):
        raise UserError(
            f"a batch has images {tuple(shape)} and masks {tuple(masks.shape)}; a loader must "
            "yield tensors (N, C, H, W) and (N, H, W)"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise UserError(f"a batch has images of {images.dtype}; yield uint8 or float32")
    if len(item) == 3:
        names = [str(name) for name in item[2]]
    else:  # sorted by name, they keep their order
        names = [f"{number:06}" for number in range(start, start + shape[0])]
    return Batch(images, masks, names)
