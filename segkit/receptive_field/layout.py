"""Rules of operations that move elements: views, slices, joins, padding."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from segkit.receptive_field.spans import (
    CUT,
    FAR,
    Call,
    Rows,
    Span,
    hull,
    hull_over,
    result_rows,
    taken,
    without_repeats,
)


def view(call: Call) -> Span:
    """Regroup axes: only those of a group that varies are written out in full."""
    old, new = list(call.tensor.shape), list(call.outputs[0].shape)
    pairs = paired_axes(old, new)

    def change(rows: Rows) -> Rows:
        full: list[int] = []
        shape: list[int] = []
        for before, after in pairs:
            varies = any(rows.shape[a] > 1 for a in before)
            full += [old[a] if varies else 1 for a in before]
            shape += [new[a] if varies else 1 for a in after]
        return np.broadcast_to(rows, full).reshape(shape)

    return without_repeats(call.span.each(change))


def paired_axes(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """Pair runs of axes of two shapes that hold equally many elements.

    >>> [(*map(list, pair),) for pair in paired_axes([1, 8, 6, 1], [1, 2, 4, 6])]
    [([0], [0]), ([1], [1, 2]), ([2], [3]), ([3], [])]
    """
    pairs = []
    i = j = 0
    while i < len(old) or j < len(new):
        end, stop = min(i + 1, len(old)), min(j + 1, len(new))
        while (a := prod(old[i:end])) != (b := prod(new[j:stop])):
            if (a < b or stop == len(new)) and end < len(old):
                end += 1
            else:
                stop += 1
        pairs.append((range(i, end), range(j, stop)))
        i, j = end, stop
    return pairs


def permute(call: Call) -> Span:
    """Reorder axes."""
    order = list(range(call.tensor.ndim))
    if "dims" in call.arguments:
        order = [order[d] for d in call.arguments["dims"]]
    else:
        a, b = call.arguments["dim0"], call.arguments["dim1"]
        order[a], order[b] = order[b], order[a]
    return call.span.each(lambda rows: rows.transpose(order))


def expand(call: Call) -> Span:
    """Repeat along axes of one element, and put axes in front."""
    added = (1,) * (call.outputs[0].ndim - call.tensor.ndim)
    return call.span.each(lambda rows: rows.reshape(added + rows.shape))


def cut(call: Call) -> Span:
    """Keep a slice along an axis."""
    dim = call.arguments["dim"] % call.tensor.ndim
    kept = slice(*(call.arguments[name] for name in ("start", "end", "step")))
    varies = call.span.first.shape[dim] > 1
    return call.span.each(lambda rows: rows[(slice(None),) * dim + (kept,)] if varies else rows)


def concatenate(call: Call) -> Span:
    """Join tensors along an axis."""
    dim = call.arguments["dim"] % call.outputs[0].ndim
    spans = [call.span_of(tensor) for tensor in call.tensors]
    if dim == 1 and all(span.first.shape[1] == 1 for span in spans):  # channels of one grid
        return hull(spans)
    shapes = [tensor.shape for tensor in call.tensors]
    full = (map(np.broadcast_to, ends, shapes) for ends in zip(*spans, strict=True))
    return Span(*(np.concatenate(list(ends), axis=dim) for ends in full))


def stack(call: Call) -> Span:
    """Join tensors along a new axis."""
    dim = call.arguments["dim"] % call.outputs[0].ndim
    joined = hull([call.span_of(tensor) for tensor in call.tensors])
    return joined.each(lambda rows: np.expand_dims(rows, dim))


def constant_pad(call: Call) -> Span:
    """Surround by a constant, or crop where the padding is negative."""
    span, ndim = call.span, call.tensor.ndim
    pads = call.arguments["pad"]
    for axis, before, after in zip(range(ndim)[::-1], pads[::2], pads[1::2], strict=False):
        length, varies = call.tensor.shape[axis], span.first.shape[axis] > 1
        if length > 1 and not varies:  # along an axis that is not followed
            continue
        # an axis of one element is a cell to fill; the followed one ends at the image's border
        is_constant = length == 1 or (ndim == 4 and axis != call.axis)
        ends = ((FAR, FAR), (-FAR, -FAR)) if is_constant else ((-CUT, CUT), (-CUT, CUT))
        span = Span(*(_padded(*pair, axis, before, after) for pair in zip(span, ends, strict=True)))
    return span


def _padded(rows: Rows, values: tuple[int, int], axis: int, before: int, after: int) -> Rows:
    widths = [(int(a == axis),) * 2 for a in range(rows.ndim)]  # one row stands for all of them
    reads = np.arange(-before, rows.shape[axis] + after).clip(-1, rows.shape[axis]) + 1
    return np.pad(rows, widths, constant_values=values).take(reads, axis)


def border_pad(call: Call) -> Span:
    """Surround by copies of rows near the border."""
    left, _, top, _ = call.arguments["padding"]
    return taken(call, [result_rows(call) - (top if call.axis == 2 else left)])


def pixel_shuffle(call: Call) -> Span:
    """Spread channels over cells of pixels."""
    factor = call.arguments["upscale_factor"]
    span = hull_over(call.span, [call.tensor.ndim - 3])
    for axis in (-2, -1):
        if span.first.shape[axis] > 1:
            span = Span(*(rows.repeat(factor, axis) for rows in span))
    return span
