"""What each tensor operation does to the image rows (or columns) that its result can depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from segkit.errors import UserError

Rows = NDArray[np.int64]
FAR = 2**60  # first of nothing and last of everything: rules compare rows, they never add them
CUT = 2**59  # a row outside the image, as padding reads it


class Span(NamedTuple):
    """The first and last image row that each element of a tensor can depend on.

    Both arrays have as many axes as the tensor, each of the tensor's length or, where nothing
    varies along it, of length 1. `first > last` where an element depends on no row.
    """

    first: Rows
    last: Rows

    def each(self, change: Callable[[Rows], Rows]) -> Span:
        """Apply a change of shape or place to both ends."""
        return Span(change(self.first), change(self.last))


class Call(NamedTuple):
    """One operation: its arguments by name, its outputs, and where the rows of an image lie.

    Args:
        name: of the operation.
        arguments: with the schema's defaults filled in.
        outputs: the tensors it gave.
        axis: the axis of an `(N, C, H, W)` tensor that is followed, 2 or 3.
        span_of: looks up the span of a tensor.
    """

    name: str
    arguments: dict[str, Any]
    outputs: list[Tensor]
    axis: int
    span_of: Callable[[Tensor], Span]

    @property
    def tensor(self) -> Tensor:
        """The first tensor among the arguments."""
        return next(iter(self.tensors()))

    @property
    def span(self) -> Span:
        """The span of the first tensor.

        Raises:
            UserError: others depend on the image too; weights that do are nothing to follow.
        """
        _, *others = self.tensors()
        for other in others:
            self.check_constant(other)
        return self.span_of(self.tensor)

    def check_constant(self, tensor: Tensor) -> None:
        """Refuse a weight that depends on the image."""
        if self.span_of(tensor).first.min() < FAR:
            raise self.refuse(f"{self.name} with weights that depend on the image")

    def tensors(self) -> Iterator[Tensor]:
        """All tensors among the arguments."""
        return (leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Tensor))

    def along(self, name: str) -> int:
        """Of an argument that holds one number for each of H and W, the one that matters here."""
        numbers = self.arguments[name]
        return int(numbers[(self.axis - 2) % len(numbers)])

    def refuse(self, why: str) -> UserError:
        """Build the error for a case that the rules do not cover."""
        return UserError(f"cannot follow the receptive field through {why}")


def nothing(ndim: int) -> Span:
    """Depend on no row at all, as weights and constants do."""
    return Span(np.full((1,) * ndim, FAR), np.full((1,) * ndim, -FAR))


def everything(ndim: int) -> Span:
    """Depend on the whole image."""
    return Span(np.full((1,) * ndim, -FAR), np.full((1,) * ndim, FAR))


def image_span(length: int, axis: int) -> Span:
    """Depend on one row each, as the image itself does."""
    rows = np.arange(length).reshape([-1 if a == axis else 1 for a in range(4)])
    return Span(rows, rows)


def hull(spans: Sequence[Span]) -> Span:
    """Join what several tensors of one (broadcast) shape depend on."""
    firsts, lasts = zip(*spans, strict=True)
    return Span(reduce(np.minimum, firsts), reduce(np.maximum, lasts))


def hull_over(span: Span, axes: Sequence[int]) -> Span:
    """Join along axes, which stay with length 1."""
    kept = tuple(axes)
    return Span(span.first.min(axis=kept, keepdims=True), span.last.max(axis=kept, keepdims=True))


def only_along(span: Span, axis: int) -> Span:
    """Join along all axes but one."""
    return hull_over(span, [a for a in range(span.first.ndim) if a != axis])


def reduced(span: Span, axes: Sequence[int]) -> Span:
    """Sum along axes: along that of the image, a result depends on all of it, however long."""
    if any(span.first.shape[axis] > 1 for axis in axes) and span.first.min() < FAR:
        return everything(span.first.ndim)
    return hull_over(span, axes)


def taken(call: Call, rows: Sequence[Rows]) -> Span:
    """Join, for each row of a result, the rows of the first tensor that it reads.

    Args:
        call: of an operation on `(N, C, H, W)`.
        rows: arrays of one row number for each row of the result; numbers outside the tensor
            read padding, which marks the result as cut short by the border of the image.
    """
    if call.tensor.ndim != 4:
        raise call.refuse(f"{call.name} on {call.tensor.ndim} axes instead of N C H W")
    length = call.tensor.shape[call.axis]
    lines = only_along(call.span, call.axis).each(np.ravel)
    first, last = lines.each(lambda line: np.broadcast_to(line, length))
    # one row of padding above and below stands for all of it; -1 and length lead there
    first, last = np.r_[-CUT, first, CUT], np.r_[-CUT, last, CUT]
    shape = [-1 if a == call.axis else 1 for a in range(4)]
    reads = [np.clip(r, -1, length) + 1 for r in rows]
    return hull([Span(first[r], last[r]).each(lambda a: a.reshape(shape)) for r in reads])


def result_rows(call: Call) -> Rows:
    """Number the rows of the result."""
    return np.arange(call.outputs[0].shape[call.axis])


def paired_axes(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pair runs of axes of two shapes that hold equally many elements.

    >>> paired_axes([1, 8, 6, 1], [1, 2, 4, 6])
    [([0], [0]), ([1], [1, 2]), ([2], [3]), ([3], [])]
    """
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        i, j = i + len(before), j + len(after)
        while (a := int(np.prod([old[k] for k in before]))) != (
            b := int(np.prod([new[k] for k in after]))
        ):
            if (a < b or j >= len(new)) and i < len(old):
                before.append(i)
                i += 1
            else:
                after.append(j)
                j += 1
        found.append((before, after))
    return found
