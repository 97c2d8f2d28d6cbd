"""Decoded samples in memory that all loading processes share."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.errors import UserError
from segkit.limits import free_ram

ALIGNMENT = 16  # bytes; float32 pixels must not start at an odd address


class SharedCache:
    """Memory for every image and mask of a split, filled as each is first read.

    Args:
        shapes: (H, W, C) of each image.
        dtype: of the images; masks are uint8.
        split: name of the split, for the error when they do not fit into memory.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], dtype: type, split: str) -> None:
        self.shapes = np.array(shapes, np.int64)
        self.dtype = np.dtype(dtype)
        sizes = self.shapes.prod(1) * self.dtype.itemsize + self.shapes[:, 0] * self.shapes[:, 1]
        sizes = -(-sizes // ALIGNMENT) * ALIGNMENT
        self.ends = sizes.cumsum()
        need = int(self.ends[-1])
        free = free_memory()
        if need > free:
            raise UserError(
                f"data.cache: ram needs {_gib(need)} for the decoded images of '{split}', but "
                f"{_gib(free)} of shared memory is free, {_gib(need - free)} too little; use "
                "data.cache=none, or give the container more (docker run --shm-size)"
            )
        try:
            self.memory = torch.empty(need, dtype=torch.uint8).share_memory_()
            self.filled = torch.zeros(len(shapes), dtype=torch.bool).share_memory_()
        except RuntimeError as error:
            raise UserError(
                f"data.cache: ram cannot share memory between processes: {error}; use "
                "data.cache=none"
            ) from error

    def get(self, index: int) -> tuple[NDArray, NDArray[np.uint8]] | None:
        """Return image and mask, or None if they are not cached yet."""
        return self._views(index) if self.filled[index] else None

    def put(
        self, index: int, image: NDArray, mask: NDArray[np.uint8]
    ) -> tuple[NDArray, NDArray[np.uint8]]:
        """Cache image and mask, and return them."""
        if image.shape == tuple(self.shapes[index]):  # else the file has changed since the start
            cached_image, cached_mask = self._views(index)
            cached_image[...], cached_mask[...] = image, mask
            self.filled[index] = True
        return image, mask

    def _views(self, index: int) -> tuple[NDArray, NDArray[np.uint8]]:
        height, width, channels = self.shapes[index].tolist()
        start = int(self.ends[index - 1]) if index else 0
        middle = start + height * width * channels * self.dtype.itemsize
        memory = self.memory.numpy()
        image = memory[start:middle].view(self.dtype).reshape(height, width, channels)
        return image, memory[middle : middle + height * width].reshape(height, width)


def free_memory() -> float:
    """Return how many bytes may be shared; infinity if the system does not say."""
    known = free_ram()
    # not Linux: the system itself will say when there is no more
    free = math.inf if known is None else known
    with suppress(OSError):
        stat = os.statvfs("/dev/shm")
        free = min(free, stat.f_bavail * stat.f_frsize)
    return free


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
