"""Run a model on tensors without data, to see its shapes, its layers and what autograd keeps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves

from segkit.features import Size


def without_data(model: nn.Module) -> tuple[nn.Module, FakeTensorMode]:
    """Copy a model without its weights, to run it at no cost in time or memory.

    Returns:
        The copy, and the mode to run it in, where operations compute shapes alone.
    """
    mode = FakeTensorMode()
    memo: dict[int, Any] = {}
    with mode:
        for p in model.parameters():
            empty = torch.empty(p.shape, dtype=p.dtype)
            memo[id(p)] = nn.Parameter(empty, requires_grad=p.requires_grad)
        for b in model.buffers():
            memo[id(b)] = torch.empty(b.shape, dtype=b.dtype)
    return copy.deepcopy(model, memo), mode


def blank_images(model: nn.Module, count: int, in_channels: int, size: Size) -> Tensor:
    """Allocate images `(count, in_channels, *size)` in the dtype of a model's weights."""
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return torch.empty(count, in_channels, *size, dtype=dtypes[0] if dtypes else None)


def is_layer(module: nn.Module) -> bool:
    """Whether a module has no children and does something."""
    return not list(module.children()) and not isinstance(module, (nn.Identity, nn.Sequential))


def on_layers(model: nn.Module, hook: Callable[[str, nn.Module, Tensor], None]) -> None:
    """Call `hook(name, module, output)` after each layer (`is_layer`), in running order.

    Of several outputs the hook gets the first; a layer that returns no tensor is left out.
    """

    def after(name: str, module: nn.Module, output: Any) -> None:
        if found := tensors_in(output):
            hook(name, module, found[0])

    for name, module in model.named_modules():
        if is_layer(module):
            module.register_forward_hook(lambda m, _, out, n=name: after(n, m, out))


def tensors_in(tree: Any) -> list[Tensor]:
    """List the tensors in nested lists, tuples and dictionaries."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def storage_key(tensor: Tensor) -> int:
    """Identify the memory of a tensor, which views of it share."""
    return tensor.untyped_storage()._cdata
