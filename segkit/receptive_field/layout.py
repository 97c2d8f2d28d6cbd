"""Rules of operations that move elements: views, slices, joins, padding."""

from __future__ import annotations

import numpy as np

from segkit.receptive_field.spans import (
    CUT,
    FAR,
    Call,
    Rows,
    Span,
    hull,
    hull_over,
    paired_axes,
    result_rows,
    taken,
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

    return call.span.each(change)


def permute(call: Call) -> Span:
    """Reorder axes."""
    ndim = call.tensor.ndim
    if "dims" in call.arguments:
        order = [d % ndim for d in call.arguments["dims"]]
    else:
        order = list(range(ndim))
        a, b = (call.arguments.get(name, k) % ndim for k, name in enumerate(("dim0", "dim1")))
        order[a], order[b] = b, a
    return call.span.each(lambda rows: rows.transpose(order))


def cut(call: Call) -> Span:
    """Keep a slice along an axis."""
    dim = call.arguments["dim"] % call.tensor.ndim
    kept = slice(*(call.arguments[name] for name in ("start", "end", "step")))
    span = call.span
    if span.first.shape[dim] == 1:
        return span
    return span.each(lambda rows: rows[(slice(None),) * dim + (kept,)])


def select(call: Call) -> Span:
    """Keep one element along an axis, which goes."""
    dim = call.arguments["dim"] % call.tensor.ndim
    index = call.arguments["index"] if call.span.first.shape[dim] > 1 else 0
    return call.span.each(lambda rows: rows.take([index], axis=dim).squeeze(dim))


def expand(call: Call) -> Span:
    """Repeat along axes of one element, and put axes in front."""
    added = (1,) * (call.outputs[0].ndim - call.tensor.ndim)
    return call.span.each(lambda rows: rows.reshape(added + rows.shape))


def parts(call: Call) -> list[Span]:
    """Cut a tensor along an axis into pieces."""
    dim = call.arguments["dim"] % call.tensor.ndim
    span = call.span
    if span.first.shape[dim] == 1:
        return [span] * len(call.outputs)
    ends = np.cumsum([output.shape[dim] for output in call.outputs])[:-1]
    first, last = (np.split(rows, ends, axis=dim) for rows in span)
    return [Span(*pair) for pair in zip(first, last, strict=True)]


def concatenate(call: Call) -> Span:
    """Join tensors along an axis."""
    tensors = call.arguments["tensors"]
    dim = call.arguments["dim"] % call.outputs[0].ndim
    spans = [call.span_of(tensor) for tensor in tensors]
    if dim == 1 and all(span.first.shape[1] == 1 for span in spans):  # channels of one grid
        return hull(spans)

    full = [
        [np.broadcast_to(rows, tuple(tensor.shape)) for rows in span]
        for span, tensor in zip(spans, tensors, strict=True)
    ]
    return Span(*(np.concatenate(ends, axis=dim) for ends in zip(*full, strict=True)))


def stack(call: Call) -> Span:
    """Join tensors along a new axis."""
    dim = call.arguments["dim"] % call.outputs[0].ndim
    joined = hull([call.span_of(tensor) for tensor in call.arguments["tensors"]])
    return joined.each(lambda rows: np.expand_dims(rows, dim))


def constant_pad(call: Call) -> Span:
    """Surround by a constant, or crop where the padding is negative."""
    span, ndim = call.span, call.tensor.ndim
    pads = list(call.arguments["pad"])
    for axis, (before, after) in zip(
        range(ndim - 1, -1, -1), zip(pads[::2], pads[1::2], strict=True), strict=False
    ):
        length, varies = call.tensor.shape[axis], span.first.shape[axis] > 1
        if length > 1 and not varies:  # along an axis that is not followed
            continue
        # an axis of one element is a cell to fill; the followed one ends at the image's border
        constant = length == 1 or (ndim == 4 and axis != call.axis)
        ends = ((FAR, FAR), (-FAR, -FAR)) if constant else ((-CUT, CUT), (-CUT, CUT))
        span = Span(*(_padded(*pair, axis, before, after) for pair in zip(span, ends, strict=True)))
    return span


def _padded(rows: Rows, values: tuple[int, int], axis: int, before: int, after: int) -> Rows:
    length = rows.shape[axis]
    kept = rows.take(range(max(0, -before), length - max(0, -after)), axis=axis)
    widths = [(0, 0)] * rows.ndim
    widths[axis] = (max(0, before), max(0, after))
    constants = [(0, 0)] * rows.ndim
    constants[axis] = values
    return np.pad(kept, widths, constant_values=constants)


def border_pad(call: Call) -> Span:
    """Surround by copies of rows near the border."""
    left, _, top, _ = call.arguments["padding"]
    return taken(call, [result_rows(call) - (top if call.axis == 2 else left)])


def pixel_shuffle(call: Call) -> Span:
    """Spread channels over cells of pixels."""
    factor = call.arguments["upscale_factor"]
    span = hull_over(call.span, [call.tensor.ndim - 3])

    def spread(rows: Rows) -> Rows:
        for axis in (-2, -1):
            rows = rows.repeat(factor, axis) if rows.shape[axis] > 1 else rows
        return rows

    return span.each(spread)


def pixel_unshuffle(call: Call) -> Span:
    """Gather cells of pixels into channels."""
    factor = call.arguments["downscale_factor"]
    return taken(call, [result_rows(call) * factor + k for k in range(factor)])
