"""Rules of operations that compute: windows, interpolation, normalisation, sums."""

from __future__ import annotations

import numpy as np

from segkit.receptive_field.spans import (
    FAR,
    Call,
    Rows,
    Span,
    everything,
    hull,
    hull_over,
    nothing,
    reduced,
    result_rows,
    taken,
)


def window(call: Call, kernel: int, stride: int, padding: int, dilation: int) -> Span:
    """Slide a window over the rows."""
    starts = result_rows(call) * stride - padding
    return taken(call, [starts + k * dilation for k in range(kernel)])


def convolution(call: Call) -> Span:
    """Slide weights over the rows, or spread each row by them (transposed)."""
    if call.tensor.ndim != 4:
        raise call.refuse(f"{call.name} on {call.tensor.ndim} axes instead of N C H W")
    kernel, stride = call.arguments["weight"].shape[call.axis], call.along("stride")
    padding, dilation = call.along("padding"), call.along("dilation")
    if not call.arguments["transposed"]:
        return window(call, kernel, stride, padding, dilation)
    # row r of the result is reached from row i by weight k where r + padding = stride i + k
    targets = result_rows(call) + padding
    spans = []
    for k in range(kernel):
        rows, between = np.divmod(targets - k * dilation, stride)
        empty = (between > 0).reshape([-1 if a == call.axis else 1 for a in range(4)])
        read = taken(call, [rows])
        spans.append(Span(np.where(empty, FAR, read.first), np.where(empty, -FAR, read.last)))
    return hull(spans)


def pool(call: Call) -> Span:
    """Slide a pool over the rows; its argmax indices depend on the whole window, too."""
    stride = call.along("stride" if call.arguments["stride"] else "kernel_size")
    dilation = call.along("dilation") if "dilation" in call.arguments else 1
    return window(call, call.along("kernel_size"), stride, call.along("padding"), dilation)


def pool_channels(call: Call) -> Span:
    """Pool along the third last axis alone, as local response normalisation does."""
    if call.arguments["kernel_size"][1:] != [1, 1] or set(call.arguments["stride"]) - {1}:
        raise call.refuse("three-dimensional pooling")
    return hull_over(call.span, [call.tensor.ndim - 3])


def adaptive_pool(call: Call) -> Span:
    """Pool to a given size, whose windows grow with the image."""
    shapes = call.tensor.shape[-2:], call.outputs[0].shape[-2:]
    return call.span if shapes[0] == shapes[1] else everything(call.tensor.ndim)


def alike(call: Call) -> Span:
    """Depend on what the elements of the same place depend on."""
    return hull([call.span_of(tensor) for tensor in call.tensors()])


def constant(call: Call) -> list[Span]:
    """Depend on nothing, as what is made of nothing does."""
    return [nothing(output.ndim) for output in call.outputs]


def batch_norm(call: Call) -> list[Span]:
    """Scale by recorded statistics; by those of the image where none are recorded."""
    training = call.arguments.get("training", call.arguments.get("train", False))
    span = everything(call.tensor.ndim) if training else call.span
    return [span, *(nothing(output.ndim) for output in call.outputs[1:])]


def group_norm(call: Call) -> list[Span]:
    """Scale by statistics of the whole image."""
    return [everything(output.ndim) for output in call.outputs]


def layer_norm(call: Call) -> list[Span]:
    """Scale by statistics along the last axes."""
    axes = range(call.tensor.ndim - len(call.arguments["normalized_shape"]), call.tensor.ndim)
    return [reduced(call.span, axes)] * len(call.outputs)


def softmax(call: Call) -> Span:
    """Divide by a sum along an axis."""
    return reduced(call.span, [call.arguments["dim"]])


def mean(call: Call) -> Span:
    """Sum, average or take the largest along axes."""
    dims = call.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    ndim = call.tensor.ndim
    axes = [d % ndim for d in dims] if dims else list(range(ndim))
    span = reduced(call.span, axes)
    keep = call.arguments.get("keepdim", False)
    return span if keep else span.each(lambda a: a.squeeze(tuple(axes)))


def matrix_product(call: Call) -> Span:
    """Multiply by weights: a row of the result depends on the same row of the left matrix."""
    left = call.arguments["mat1" if "mat1" in call.arguments else "self"]
    for tensor in call.tensors():
        if tensor is not left:
            call.check_constant(tensor)
    return reduced(call.span_of(left), [1])


def interpolation(call: Call) -> tuple[Rows, int]:
    """Number the rows of the result and give the factor of upsampling, a whole number."""
    if call.arguments.get("align_corners"):
        raise call.refuse("interpolation with align_corners=True, which depends on the size")
    length, given = call.tensor.shape[call.axis], call.arguments.get("scale_factors")
    scale = given[call.axis - 2] if given else call.arguments.get("scales_" + "hw"[call.axis - 2])
    rows = result_rows(call)
    factor, rest = divmod(len(rows), length)
    if rest or scale not in (None, factor):
        raise call.refuse(f"interpolation by {scale or len(rows) / length}, not a whole number")
    return rows, factor


def nearest(call: Call) -> Span:
    """Repeat each row."""
    rows, factor = interpolation(call)
    return taken(call, [rows // factor])


def smooth(call: Call, before: int, after: int) -> Span:
    """Interpolate between rows `before` above and `after` below the one at or above a centre."""
    rows, factor = interpolation(call)
    above, between = np.divmod(2 * rows + 1 - factor, 2 * factor)  # half-pixel centres
    # at a centre of the input, the other rows weigh nothing
    reads = [np.where(between > 0, above + k, above) for k in range(-before, after + 1)]
    return taken(call, reads)
