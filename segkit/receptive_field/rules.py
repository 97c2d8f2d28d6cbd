"""Which rule each operation of ATen follows, and the rules of those that compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from segkit.receptive_field import layout
from segkit.receptive_field.spans import (
    FAR,
    Call,
    Rows,
    Span,
    along_axis,
    everything,
    hull,
    hull_over,
    nothing,
    result_rows,
    taken,
)


def alike(call: Call) -> Span:
    """Depend on what the elements at the same index depend on."""
    return hull([call.span_of(tensor) for tensor in call.tensors])


def constant(call: Call) -> list[Span]:
    """Depend on no row, as a result of weights and constants does."""
    return [nothing(output.ndim) for output in call.outputs]


def whole(call: Call) -> list[Span]:
    """Depend on the whole image, such as by its statistics."""
    return [everything(output.ndim) for output in call.outputs]


def window(call: Call, kernel: int, stride: int, padding: int, dilation: int) -> Span:
    """Slide a window over the rows."""
    starts = result_rows(call) * stride - padding
    return taken(call, [starts + k * dilation for k in range(kernel)])


def convolution(call: Call) -> Span:
    """Slide weights over the rows, or spread each row by them (transposed)."""
    call.check_grid()
    kernel, stride = call.arguments["weight"].shape[call.axis], call.along("stride")
    padding, dilation = call.along("padding"), call.along("dilation")
    if not call.arguments["transposed"]:
        return window(call, kernel, stride, padding, dilation)
    # row r of the result is reached from row i by weight k where r + padding = stride i + k
    targets = result_rows(call) + padding
    spans = []
    for k in range(kernel):
        rows, between = np.divmod(targets - k * dilation, stride)
        empty, read = along_axis(between > 0, call.axis), taken(call, [rows])
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


def batch_norm(call: Call) -> list[Span]:
    """Scale by recorded statistics; by those of the image where none are recorded."""
    training = call.arguments.get("training", call.arguments.get("train", False))
    span = everything(call.tensor.ndim) if training else call.span
    return [span, *(nothing(output.ndim) for output in call.outputs[1:])]


def matrix_product(call: Call) -> Span:
    """Mix the columns of each row, by weights that are the same for all rows."""
    name = "mat1" if "mat1" in call.arguments else "self"
    rows, weights = (call.span_of(call.arguments[each]) for each in (name, "mat2"))
    if weights.first.min() < FAR:
        raise call.refuse("a product of two maps")
    return hull_over(rows, [1])


def layer_norm(call: Call) -> list[Span]:
    """Scale by the statistics of the last axes; over the image's own axis, see all of it."""
    ndim = call.tensor.ndim
    axes = tuple(range(ndim - len(call.arguments["normalized_shape"]), ndim))
    if any(call.span.first.shape[axis] > 1 for axis in axes):
        return whole(call)
    return [hull_over(call.span, axes)] * len(call.outputs)


def reduction(call: Call) -> Span:
    """Sum, average or take the largest along axes; over the image's own axis, see all of it."""
    ndim, span = call.tensor.ndim, call.span
    axes = tuple(d % ndim for d in call.arguments.get("dim") or range(ndim))
    if any(span.first.shape[axis] > 1 for axis in axes) and span.first.min() < FAR:
        return everything(call.outputs[0].ndim)
    span = hull_over(span, axes)
    return span if call.outputs[0].ndim == ndim else span.each(lambda rows: rows.squeeze(axes))


def interpolation(call: Call) -> tuple[Rows, int]:
    """Number the rows of the result and return the factor of upsampling, a whole number."""
    if call.arguments.get("align_corners"):
        raise call.refuse("interpolation with align_corners=True, which depends on the size")
    scale = call.arguments.get("scales_" + "hw"[call.axis - 2])
    rows = result_rows(call)
    factor, rest = divmod(len(rows), length := call.tensor.shape[call.axis])
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


Rule = Callable[[Call], Span | list[Span]]
RULE_OF: dict[str, Rule] = {
    "convolution _convolution": convolution,
    "max_pool2d_with_indices avg_pool2d": pool,
    "avg_pool3d": pool_channels,
    "native_batch_norm _native_batch_norm_legit cudnn_batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "native_layer_norm": layer_norm,
    "addmm mm": matrix_product,
    "native_group_norm _adaptive_avg_pool2d adaptive_max_pool2d": whole,
    "mean sum amax amin": reduction,
    "upsample_nearest2d _upsample_nearest_exact2d": nearest,
    "upsample_bilinear2d": lambda call: smooth(call, 0, 1),
    "upsample_bicubic2d": lambda call: smooth(call, 1, 2),
    "view _unsafe_view _reshape_alias squeeze unsqueeze": layout.view,
    "permute transpose": layout.permute,
    "slice": layout.cut,
    "expand": layout.expand,
    "cat": layout.concatenate,
    "stack": layout.stack,
    "constant_pad_nd": layout.constant_pad,
    "replication_pad2d reflection_pad2d": layout.border_pad,
    "pixel_shuffle": layout.pixel_shuffle,
    # element by element, but without the tag that says so
    "alias detach lift_fresh _to_copy copy_ floor_divide": alike,
    "hardswish hardswish_ hardsigmoid hardsigmoid_": alike,
    "zeros_like ones_like empty_like full_like": constant,
    "new_zeros new_ones new_empty new_full": constant,
}
RULES = {name: rule for names, rule in RULE_OF.items() for name in names.split()}


def find_rule(operation: Any, spans: Sequence[Span]) -> Rule | None:
    """Look up the rule of an overload of ATen on tensors of these spans; None if there is none."""
    seeing = [span for span in spans if span.first.min() < FAR]
    if not seeing:
        return constant
    rule = RULES.get(operation._schema.name.removeprefix("aten::"))
    if rule is None and torch.Tag.pointwise in operation.tags:
        return alike
    if rule is None and all((span.first == -FAR).all() for span in seeing):
        return whole  # whatever is computed from the whole image
    return rule
