"""Batches: made of samples, on their way from a loading process, or of a user's loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from segkit.data.dataset import Sample, as_class_indices
from segkit.errors import UserError
from segkit.labels import IGNORE_INDEX
from segkit.limits import open_files

FEW_FILES = 256  # each tensor in shared memory is an open file for a while


class Batch(NamedTuple):
    """Images of one size."""

    images: Tensor  # (N, C, H, W), uint8 or float32
    masks: Tensor  # class indices (N, H, W), uint8, 255 for void
    names: list[str]

    @property
    def is_void(self) -> bool:
        """Whether it weighs nothing and fills in for samples that the process does not have."""
        return not self.names


class Piped(NamedTuple):
    """A batch that comes from a worker through a pipe."""

    images: NDArray
    masks: NDArray
    names: list[str]


def collate(samples: list[Sample | UserError]) -> list[Batch] | UserError:
    """Make one batch a size, or return the first mistake among samples."""
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


def send(samples: list[Sample | UserError]) -> list[Batch] | list[Batch | Piped] | UserError:
    """Collate samples, in a worker for the way to the process that trains."""
    groups = collate(samples)
    if isinstance(groups, UserError) or get_worker_info() is None:
        return groups
    return [_shared(batch) for batch in groups]


def _shared(batch: Batch) -> Batch | Piped:
    """Move a batch to shared memory; torch would do so later, where an error loses the batch."""
    if open_files() >= FEW_FILES:
        try:
            return Batch(batch.images.share_memory_(), batch.masks.share_memory_(), batch.names)
        except RuntimeError:  # there is no room, or none that may be written to
            pass
    return Piped(batch.images.numpy(), batch.masks.numpy(), batch.names)


def one_size(groups: Sequence[Batch]) -> Batch:
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
