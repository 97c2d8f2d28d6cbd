"""Spans: the image rows (or columns) that each element of a tensor can depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segkit.dry_run import tensors_in
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
        """Apply a change of shape or order to both ends."""
        return Span(change(self.first), change(self.last))


class Call(NamedTuple):
    """One operation on tensors."""

    name: str
    arguments: dict[str, Any]  # by name, the schema's defaults filled in
    outputs: list[Tensor]
    axis: int  # of `(N, C, H, W)`, the one that is followed: 2 or 3
    span_of: Callable[[Tensor], Span]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return tensors_in(self.arguments)

    @property
    def tensor(self) -> Tensor:
        """The first tensor among the arguments."""
        return self.tensors[0]

    @property
    def span(self) -> Span:
        """The span of the first tensor; no other one may depend on the image, too."""
        first, *others = self.tensors
        if any(self.span_of(other).first.min() < FAR for other in others):
            raise self.refuse(f"{self.name} with weights that depend on the image")
        return self.span_of(first)

    def along(self, name: str) -> int:
        """Return the entry for the followed axis of an argument for both axes, or for each."""
        numbers = self.arguments[name]
        return int(numbers[(self.axis - 2) % len(numbers)])

    def check_grid(self) -> None:
        """Refuse a tensor that is not `(N, C, H, W)`."""
        if self.tensor.ndim != 4:
            raise self.refuse(f"{self.name} on {self.tensor.ndim} axes instead of N C H W")

    def refuse(self, why: str) -> UserError:
        """Build the error for a case that the rules do not cover."""
        return UserError(f"cannot follow the receptive field through {why}")


def nothing(ndim: int) -> Span:
    """Depend on no row at all, as weights and constants do."""
    return Span(np.full((1,) * ndim, FAR), np.full((1,) * ndim, -FAR))


def everything(ndim: int) -> Span:
    """Depend on the whole image."""
    return Span(np.full((1,) * ndim, -FAR), np.full((1,) * ndim, FAR))


def along_axis(numbers: np.ndarray, axis: int) -> np.ndarray:
    """Reshape a line so that it lies along an axis of an `(N, C, H, W)` tensor."""
    return numbers.reshape([-1 if a == axis else 1 for a in range(4)])


def hull(spans: Sequence[Span]) -> Span:
    """Join what several tensors of one (broadcast) shape depend on."""
    firsts, lasts = zip(*spans, strict=True)
    return Span(reduce(np.minimum, firsts), reduce(np.maximum, lasts))


def hull_over(span: Span, axes: Sequence[int]) -> Span:
    """Join along axes, which stay with length 1."""
    joined = tuple(axes)
    return Span(span.first.min(joined, keepdims=True), span.last.max(joined, keepdims=True))


def varying_axes(span: Span) -> list[int]:
    """List the axes along which a span differs."""
    return [axis for axis, length in enumerate(span.first.shape) if length > 1]


def without_repeats(span: Span) -> Span:
    """Keep one entry of each axis along which all are equal."""
    for axis in varying_axes(span):
        one = Span(span.first.take([0], axis), span.last.take([0], axis))
        if (one.first == span.first).all() and (one.last == span.last).all():
            span = one
    return span


def joined_along(span: Span, axis: int, length: int) -> Span:
    """Join along all axes but one, which is written out in full: the ends are lines."""
    others = tuple(a for a in range(span.first.ndim) if a != axis)
    ends = Span(span.first.min(others), span.last.max(others))
    return ends.each(lambda rows: np.broadcast_to(rows, length))


def taken(call: Call, rows: Sequence[Rows]) -> Span:
    """Join, for each row of a result, the rows of the first tensor that it reads.

    Each array of `rows` has one row number for each row of the result; numbers outside the tensor
    read padding, which marks the result as cut short by the border of the image.
    """
    call.check_grid()
    length = call.tensor.shape[call.axis]
    first, last = joined_along(call.span, call.axis, length)
    # one row of padding above and below stands for all of it; -1 and length lead there
    first, last = np.r_[-CUT, first, CUT], np.r_[-CUT, last, CUT]
    reads = [np.clip(r, -1, length) + 1 for r in rows]
    joined = hull([Span(first[r], last[r]) for r in reads])
    return joined.each(lambda ends: along_axis(ends, call.axis))


def result_rows(call: Call) -> Rows:
    """Number the rows of the result."""
    return np.arange(call.outputs[0].shape[call.axis])
