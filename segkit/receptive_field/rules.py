"""Which rule each operation of ATen follows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segkit.receptive_field import compute, layout
from segkit.receptive_field.spans import Call, Span

Rule = Callable[[Call], Span | list[Span]]
RULES: dict[str, Rule] = {
    **dict.fromkeys(("convolution", "_convolution"), compute.convolution),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d"), compute.pool),
    "avg_pool3d": compute.pool_channels,
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_max_pool2d"), compute.adaptive_pool),
    **dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"), compute.batch_norm
    ),
    "_native_batch_norm_legit_no_training": compute.batch_norm,
    "native_group_norm": compute.group_norm,
    "native_layer_norm": compute.layer_norm,
    **dict.fromkeys(("_softmax", "_log_softmax"), compute.softmax),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std"), compute.mean),
    **dict.fromkeys(("mm", "addmm"), compute.matrix_product),
    **dict.fromkeys(
        ("view", "_unsafe_view", "_reshape_alias", "squeeze", "unsqueeze"), layout.view
    ),
    **dict.fromkeys(("permute", "transpose", "t"), layout.permute),
    "slice": layout.cut,
    "select": layout.select,
    "expand": layout.expand,
    **dict.fromkeys(("split", "split_with_sizes"), layout.parts),
    "cat": layout.concatenate,
    "stack": layout.stack,
    "constant_pad_nd": layout.constant_pad,
    **dict.fromkeys(("replication_pad2d", "reflection_pad2d"), layout.border_pad),
    **dict.fromkeys(("upsample_nearest2d", "_upsample_nearest_exact2d"), compute.nearest),
    "upsample_bilinear2d": lambda call: compute.smooth(call, 0, 1),
    "upsample_bicubic2d": lambda call: compute.smooth(call, 1, 2),
    "pixel_shuffle": layout.pixel_shuffle,
    "pixel_unshuffle": layout.pixel_unshuffle,
    **dict.fromkeys(("alias", "detach", "lift_fresh", "_to_copy", "copy_"), compute.alike),
    # element by element, but without the tag that says so
    **dict.fromkeys(("floor_divide", "hardswish", "hardswish_"), compute.alike),
    **dict.fromkeys(("hardsigmoid", "hardsigmoid_"), compute.alike),
    **dict.fromkeys(("zeros_like", "ones_like", "empty_like", "full_like"), compute.constant),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), compute.constant),
}


def find_rule(operation: torch._ops.OpOverload, from_image: bool) -> Rule | None:
    """Look up the rule of an operation; None if there is none.

    Args:
        operation: of ATen.
        from_image: whether one of its tensors depends on the image; if not, the result does not.
    """
    if not from_image:
        return compute.constant
    named = RULES.get(operation._schema.name.removeprefix("aten::"))
    return named or (compute.alike if torch.Tag.pointwise in operation.tags else None)
