"""What the masks of a split hold: read before a first step, remembered while the files stay."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkit.data.dataset import SegmentationDataset, check_sizes
from segkit.data.labels import IGNORE_INDEX
from segkit.data.parallel import in_parallel
from segkit.data.raster import raster_size
from segkit.data.remember import remembered, state_of
from segkit.errors import UserError


class Survey(NamedTuple):
    """Counts over a split, one entry a class.

    Args:
        pixels: of the class.
        pixels_of_images: of all images in which the class occurs, void left out.
        images: in which the class occurs.
        void: pixels that are ignored.
    """

    pixels: list[int]
    pixels_of_images: list[int]
    images: list[int]
    void: int


def survey(dataset: SegmentationDataset) -> Survey:
    """Look at every mask and the size of every image, or remember that one has.

    Raises:
        UserError: all problems, one a line, the first ten in full.
    """
    settings = (
        Survey._fields,
        dataset.card.label_map,
        dataset.card.classes,
        dataset.card.lossy_masks,
    )
    files = (str(path) for pair in dataset.pairs for path in (pair.image, pair.mask))
    try:
        state = state_of(settings, files)
    except OSError as error:
        raise UserError(f"a file of '{dataset.card.name}' is gone: {error}") from error
    return Survey(*remembered("survey", state, lambda: _survey(dataset)))


def _survey(dataset: SegmentationDataset) -> Survey:
    classes = dataset.card.num_classes
    pixels, pixels_of_images, images = (np.zeros(classes, np.int64) for _ in range(3))
    void, problems = 0, []
    for found in in_parallel(lambda index: _look(dataset, index), len(dataset)):
        if isinstance(found, str):
            problems.append(found)
            continue
        counts = found[:classes]
        present = counts > 0
        pixels += counts
        pixels_of_images[present] += counts.sum()
        images += present
        void += int(found[IGNORE_INDEX])
    if problems:
        more = [f"... and {len(problems) - 10} more files"] if len(problems) > 10 else []
        raise UserError("\n".join(problems[:10] + more))
    return Survey(pixels.tolist(), pixels_of_images.tolist(), images.tolist(), void)


def _look(dataset: SegmentationDataset, index: int) -> NDArray[np.int64] | str:
    """Count the classes of a mask, or say what is wrong with it."""
    pair = dataset.pairs[index]
    try:
        mask = dataset.labels.read(pair.mask)
        check_sizes(raster_size(pair.image), mask.shape, pair)
    except UserError as error:
        return str(error)
    return np.bincount(mask.ravel(), minlength=256)
