"""The same bits again on a GPU, where threads add up in the order in which they arrive."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segkit.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")  # those with which cuBLAS gives the same bits


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Have torch compute the same each time, and refuse what it cannot; then all is as before.

    Args:
        wanted: False changes nothing.

    Raises:
        UserError: an operation that torch can only compute in another order each time.
    """
    if not wanted:
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(WORKSPACE)
    search = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    if workspace not in WORKSPACES:
        os.environ[WORKSPACE] = WORKSPACES[0]
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"(.+?) does not have a deterministic implementation", str(error))
        if found is None:
            raise
        raise UserError(
            f"train.deterministic is true, but torch has no deterministic form of '{found[1]}'; "
            "use another decoder, loss or option that does without it, or set "
            "train.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = search
        os.environ.pop(WORKSPACE)
        if workspace is not None:
            os.environ[WORKSPACE] = workspace
