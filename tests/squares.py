"""A dataset of squares, some of which cannot be had, and its reading up to an error."""

import torch

from segkit.data.dataset import Sample
from segkit.errors import UserError


class Squares(torch.utils.data.Dataset):
    """Images of the sizes given; a size of 0 is a user's mistake, -1 one of ours."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def sample(self, index, epoch):
        size = self.sizes[index]
        if size == 0:
            raise UserError(f"image {index}: cannot be read; take it out")
        if size < 0:
            raise ZeroDivisionError
        return Sample(
            torch.full((3, size, 2 * size), index, dtype=torch.uint8),
            torch.full((size, 2 * size), index, dtype=torch.uint8),
            f"image {index}",
        )


def read_until_error(loader):
    """Read in a frame of its own: a traceback would hold the loader, and its workers, for long."""
    names = []
    try:
        for batch in loader:
            names.append(batch.names)
    except Exception as error:
        return names, error.with_traceback(None)
    raise AssertionError("no error came")
