"""Run a network on tensors without data and carry along which image rows they depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from segkit.dry_run import blank_images, on_layers, storage_key, tensors_in, without_data
from segkit.errors import UserError
from segkit.receptive_field.rules import find_rule
from segkit.receptive_field.spans import Call, Span, along_axis, joined_along, nothing, varying_axes

ACROSS = 256  # length of the axis that is not followed


def follow_rows(
    model: nn.Module, in_channels: int, length: int, axis: int
) -> list[tuple[str, Span]]:
    """Find the image rows that each row of each layer's output depends on.

    Args:
        model: maps images to one tensor.
        in_channels: of the image.
        length: of the image along `axis`, in pixels.
        axis: 2 for rows, 3 for columns.

    Returns:
        Names of layers in running order, with spans of one entry for each row of the output; last
        the model's own output, under an empty name.
    """
    model, fake = without_data(model)
    model.eval()
    found: list[tuple[str, Span]] = []
    size = (length, ACROSS) if axis == 2 else (ACROSS, length)
    with torch.no_grad(), fake:
        image = blank_images(model, 1, in_channels, size)
        follower = _Follower(axis)
        for constant in (*model.parameters(), *model.buffers()):
            follower.spans[constant] = nothing(constant.ndim)
        rows = along_axis(np.arange(length), axis)
        follower.spans[image] = Span(rows, rows)

        def record(name: str, module: nn.Module, output: Tensor) -> None:
            span = follower.span_of(output)
            varying = varying_axes(span)
            along = varying[0] if len(varying) == 1 else axis  # not `axis` where channels come last
            height = output.shape[along] if output.ndim > along else 1
            found.append((name, joined_along(span, along, height)))

        on_layers(model, record)
        with follower:
            output = model(image)
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            raise UserError(f"a {kind} has no receptive field; the model must return one tensor")
        record("", model, output)
    return found


class _Follower(TorchDispatchMode):
    """Record the span of each tensor that an operation makes, by the operation's rule."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.spans = WeakTensorKeyDictionary()

    def span_of(self, tensor: Tensor) -> Span:
        """Look up what a tensor depends on."""
        if tensor not in self.spans:
            raise UserError(
                "cannot follow the receptive field through a tensor of shape "
                f"{tuple(tensor.shape)} that is neither parameter, buffer nor computed on the way; "
                "register it as a buffer"
            )
        return self.spans[tensor]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # asks for the device and the like
            return func(*args, **kwargs)
        rule = find_rule(func, [self.span_of(tensor) for tensor in tensors_in((args, kwargs))])
        if rule is None:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
            raise UserError(
                f"cannot follow the receptive field through {func}: there is no rule for it in "
                "segkit.receptive_field"
            )
        result = func(*args, **kwargs)
        outputs, schema = tensors_in(result), func._schema
        arguments = {a.name: a.default_value for a in schema.arguments}
        arguments |= {**dict(zip(arguments, args, strict=False)), **kwargs}
        spans = rule(Call(str(func), arguments, outputs, self.axis, self.span_of))
        spans = spans if isinstance(spans, list) else [spans] * len(outputs)
        for output, span in zip(outputs, spans, strict=True):
            assert len(span.first.shape) == output.ndim, func
            assert np.broadcast_shapes(span.first.shape, output.shape) == output.shape, func
            if schema.is_mutable and output in self.spans:
                self._check_alone(func, output, span)
            self.spans[output] = span
        return result

    def _check_alone(self, func: Any, changed: Tensor, span: Span) -> None:
        """Refuse to change in place what another tensor is a part of."""
        if all(map(np.array_equal, self.spans[changed], span)):
            return
        storage = storage_key(changed)
        if any(t is not changed and storage_key(t) == storage for t in list(self.spans.keys())):
            raise UserError(
                f"cannot follow the receptive field through {func} on a part of a tensor; "
                "write it without changing the tensor in place"
            )
