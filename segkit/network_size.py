"""A bound on what a network may hold, kept while it is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from segkit.errors import UserError


@contextmanager
def at_most(values: int, tensors: int, problem: str) -> Iterator[None]:
    """Refuse to build a network beyond a size.

    A layer is counted when it takes its weights, which is before they are drawn: until then, the
    system has promised their memory but not given it.

    Args:
        values: of all weights and buffers together.
        tensors: number of weights and buffers.
        problem: the error's text.

    Raises:
        UserError: the network is larger.
    """

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal values, tensors
        if tensor is not None:
            values -= tensor.numel()
            tensors -= 1
        if values < 0 or tensors < 0:
            raise UserError(problem)

    with (
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ):
        yield
