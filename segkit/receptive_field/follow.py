"""Run a network on tensors without data and carry along which image rows they depend on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from segkit.errors import UserError
from segkit.features import Size
from segkit.receptive_field.rules import find_rule
from segkit.receptive_field.spans import (
    FAR,
    Call,
    Rows,
    Span,
    image_span,
    nothing,
    only_along,
)

ACROSS = 256  # length of the axis that is not followed


class Lines(NamedTuple):
    """What the rows of a layer's output depend on.

    Args:
        layer: its name in the model; empty for the model's own output.
        first: image row, one a row of the output.
        last: image row.
    """

    layer: str
    first: Rows
    last: Rows


def without_data(model: nn.Module) -> tuple[nn.Module, FakeTensorMode]:
    """Copy a model without its weights, to run it at no cost in time or memory.

    The copy computes shapes alone, within the mode that comes with it.
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
    """Make images in the precision of a model's weights."""
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return torch.empty(count, in_channels, *size, dtype=dtypes[0] if dtypes else None)


def is_shown(module: nn.Module) -> bool:
    """Tell whether a module has no children and does something."""
    return not list(module.children()) and not isinstance(module, (nn.Identity, nn.Sequential))


def on_leaves(model: nn.Module, hook: Callable[[str, nn.Module, Tensor], None]) -> None:
    """Call `hook(name, module, output)` after each module without children, in running order.

    Of several outputs it gets the first. Modules that do nothing are left out.
    """

    def after(name: str, module: nn.Module, output: Any) -> None:
        found = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
        if found is not None:
            hook(name, module, found)

    for name, module in model.named_modules():
        if is_shown(module):
            module.register_forward_hook(lambda m, _, out, n=name: after(n, m, out))


def follow_rows(model: nn.Module, in_channels: int, length: int, axis: int) -> list[Lines]:
    """Find what each row of each layer's output depends on; the model's own output comes last.

    Args:
        model: image to map.
        in_channels: of the image.
        length: of the image along `axis`.
        axis: 2 for rows, 3 for columns.

    Raises:
        UserError: an operation that there is no rule for.
    """
    model, fake = without_data(model)
    model.eval()
    lines: list[Lines] = []
    size = (length, ACROSS) if axis == 2 else (ACROSS, length)
    with torch.no_grad(), fake:
        image = blank_images(model, 1, in_channels, size)
        follower = _Follower(axis)
        for constant in (*model.parameters(), *model.buffers()):
            follower.spans[constant] = nothing(constant.ndim)
        follower.spans[image] = image_span(length, axis)

        def record(name: str, module: nn.Module, output: Tensor) -> None:
            span = follower.span_of(output)
            if output.ndim > axis:
                ends = only_along(span, axis).each(np.ravel)
                ends = ends.each(lambda rows: np.broadcast_to(rows, output.shape[axis]))
            else:
                ends = Span(span.first.min().reshape(1), span.last.max().reshape(1))
            lines.append(Lines(name, *ends))

        on_leaves(model, record)
        with follower:
            output = model(image)
        if not isinstance(output, Tensor):
            raise UserError(
                f"the receptive field of a {type(output).__name__} is not told; the model must "
                "return one tensor"
            )
        record("", model, output)
    return lines


class _Follower(TorchDispatchMode):
    """Gives each tensor that an operation makes the span its rule says."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.spans = WeakTensorKeyDictionary()

    def span_of(self, tensor: Tensor) -> Span:
        """Look up what a tensor depends on."""
        if tensor not in self.spans:
            raise UserError(
                f"cannot follow the receptive field through a tensor of shape "
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
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        from_image = any(self.span_of(t).first.min() < FAR for t in tensors)
        rule = find_rule(func, from_image)
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
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not outputs:
            return result
        names = [argument.name for argument in func._schema.arguments]
        arguments = {a.name: a.default_value for a in func._schema.arguments}
        arguments |= {**dict(zip(names, args, strict=False)), **kwargs}
        found = rule(Call(str(func), arguments, outputs, self.axis, self.span_of))
        spans = found if isinstance(found, list) else [found] * len(outputs)
        for output, span in zip(outputs, spans, strict=True):
            assert _fits(span, output), (func, span.first.shape, output.shape)
            if func._schema.is_mutable and output in self.spans:
                self._check_alone(func, output, span)
            self.spans[output] = span
        return result

    def _check_alone(self, func: Any, changed: Tensor, span: Span) -> None:
        """Refuse to change in place what another tensor is a part of."""
        old = self.spans[changed]
        if all(np.array_equal(*ends) for ends in zip(old, span, strict=True)):
            return
        storage = changed.untyped_storage()._cdata
        for other in list(self.spans.keys()):
            if other is not changed and other.untyped_storage()._cdata == storage:
                raise UserError(
                    f"cannot follow the receptive field through {func} on a part of a tensor; "
                    "write it without changing the tensor in place"
                )


def _fits(span: Span, tensor: Tensor) -> bool:
    return span.first.ndim == tensor.ndim and all(
        a in (1, b) for ends in span for a, b in zip(ends.shape, tensor.shape, strict=True)
    )
