"""A network whose logits are not finite: where that begins, and what it was read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from segkit.errors import UserError
from segkit.inference.backends.base import Backend
from segkit.inference.backends.pytorch import TorchBackend
from segkit.inference.prediction import Prediction

SEARCHED = 512  # pixels of a side in which the first layer is looked for


class NotFinite(UserError):
    """The logits of a network are not finite, and so its classes mean nothing."""


def check_finite(found: Prediction, pixels: Tensor, backend: Backend, origin: str) -> None:
    """Refuse a prediction from logits that are not finite.

    Args:
        found: the prediction.
        pixels: that it is of, `(C, H, W)`.
        backend: that made it.
        origin: what the network was read from; may be empty.
    """
    if found.is_finite is None or found.is_finite:
        return
    layer = _first_layer(backend, pixels[:, :SEARCHED, :SEARCHED])
    where = f", first after the layer {layer}" if layer else ""
    raise NotFinite(
        f"the logits of {origin or 'the network'} are not finite{where}; take an earlier "
        "checkpoint, or train anew with a lower learning rate or with train.clip_norm"
    )


def _first_layer(backend: Backend, pixels: Tensor) -> str | None:
    """Return the name of the first layer whose output is not finite.

    None where it is not to be seen: in an exported file, or in this part of the image.
    """
    if not isinstance(backend, TorchBackend):
        return None
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        def look(module: nn.Module, given: Any, output: Any) -> None:
            if not all(tensor.isfinite().all() for tensor in _tensors(output)):
                found.append(f"{name} ({type(module).__name__})")

        return module.register_forward_hook(look)

    plain = copy(backend)
    plain.network = backend.model  # a compiled one would pass hooks by
    handles = [watch(name, module) for name, module in backend.model.named_modules()]
    try:
        plain.logits(pixels[None])
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of what a layer returns, in lists and mappings too."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from chain.from_iterable(map(_tensors, output.values()))
    elif isinstance(output, (list, tuple)):
        yield from chain.from_iterable(map(_tensors, output))
