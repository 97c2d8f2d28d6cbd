"""Upsampling modules, called as `up(x, size, indices)`, that change only the resolution.

Each multiplies the resolution by exactly its factor, then pads or crops at the bottom and right
to `size`. None changes the number of channels, so they are interchangeable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.channels_last import laid_out_like, replicate
from segkit.errors import UserError, unknown_name
from segkit.features import Size, crop_or_pad

InterpolationMode = Literal["nearest", "bilinear", "bicubic"]


def _restored(
    x: Tensor,
    source: Tensor,
    size: Size | None,
    factor: int,
    mode: Literal["constant", "replicate"],
) -> Tensor:
    """Pad or crop an upsampled map to the recorded size, which differs by less than one cell."""
    x = laid_out_like(source, x)
    if size is None:
        return x
    if any(abs(a - b) >= factor for a, b in zip(x.shape[-2:], size, strict=True)):
        raise UserError(
            f"upsampling x{factor} gave {tuple(x.shape[-2:])} but {tuple(size)} is to be restored; "
            f"sizes may differ by less than {factor}: pass the size recorded before pooling"
        )
    return crop_or_pad(x, size, mode)


class Interpolate(nn.Module):
    """Interpolation by a fixed factor, half-pixel centres (`align_corners=False`).

    Args:
        mode: `nearest`, `bilinear` or `bicubic`.
        factor: factor of upsampling along each axis.

    Shape: `(N, C, H, W)` to `(N, C, *size)`, or `(N, C, factor * H, factor * W)` without a size.

    >>> Interpolate("bilinear")(torch.ones(1, 8, 5, 5), size=(11, 10)).shape
    torch.Size([1, 8, 11, 10])
    """

    def __init__(self, mode: InterpolationMode = "bilinear", factor: int = 2) -> None:
        super().__init__()
        if mode not in (modes := get_args(InterpolationMode)):
            raise unknown_name("interpolation mode", mode, modes)
        self.mode, self.factor = mode, factor

    def forward(self, x: Tensor, size: Size | None = None, indices: Tensor | None = None) -> Tensor:
        """Upsample `x`; `indices` are ignored."""
        # autocast on CPUs would widen the map to fp32, and with it all that is concatenated to it
        with torch.autocast(x.device.type, enabled=False):
            upsampled = self._interpolate(x)
        return _restored(upsampled, x, size, self.factor, "replicate")

    def _interpolate(self, x: Tensor) -> Tensor:
        doubling = self.mode == "bilinear" and self.factor == 2
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
        # a trace cannot hold a gradient written in Python
        if doubling and x.is_cpu and x.requires_grad and not tracing:
            return cast(Tensor, _BilinearDoubling.apply(x))
        corners = None if self.mode == "nearest" else False
        # the size, because torch.export cannot compute it from a factor in bicubic mode
        size = [self.factor * side for side in x.shape[-2:]]
        return F.interpolate(x, size, mode=self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        """Describe the module in `print(model)`."""
        return f"mode={self.mode}, factor={self.factor}"


class _BilinearDoubling(torch.autograd.Function):
    """Bilinear x2 whose gradient is a convolution, several times faster on CPUs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """Double the resolution."""
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        """Save nothing; torch.func needs this method."""

    @staticmethod
    def jvp(ctx: object, tangent: Tensor) -> Tensor:
        """Double the tangent: the function is linear."""
        return _BilinearDoubling.forward(tangent)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Sum the outputs' gradients for each input, weighted by 1, 3, 3, 1 quarters an axis."""
        channels = gradient.shape[1]
        shares = torch.tensor([0.25, 0.75, 0.75, 0.25]).to(gradient)
        kernel = (shares[:, None] * shares).expand(channels, 1, 4, 4)
        # at the border, the value of the last cell replaces the missing neighbour
        around = replicate(gradient, (1, 1, 1, 1))
        return F.conv2d(around, kernel, stride=2, groups=channels)


class BedOfNails(nn.Module):
    """Put each value in the top-left corner of its 2x2 cell, with zeros elsewhere.

    Shape: `(N, C, H, W)` to `(N, C, *size)`, or `(N, C, 2H, 2W)` without a size.
    """

    def forward(self, x: Tensor, size: Size | None = None, indices: Tensor | None = None) -> Tensor:
        """Upsample `x`; `indices` are ignored."""
        n, c, h, w = x.shape
        nails = F.pad(x.reshape(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1))  # N C H 2 W 2
        return _restored(nails.reshape(n, c, 2 * h, 2 * w), x, size, 2, "constant")


class MaxUnpool(nn.Module):
    """Put each value back where its max pool of stride 2 found it, with zeros elsewhere.

    Equal to `torch.nn.functional.max_unpool2d(x, indices, kernel_size, 2, output_size=size)`, but
    without a scatter: the winner of a 2x2 cell is one of four corners, so four masks suffice. That
    makes it deterministic and exportable. Windows of 3x3 overlap, and values that several of them
    found in one place are added up.

    Args:
        kernel_size: of the pool, 2 or 3; of 3x3, whatever its padding and rounding are.

    Shape: `x` and `indices` `(N, C, H, W)` to `(N, C, *size)`; without a size `(N, C, 2H, 2W)`.

    Raises:
        UserError: no indices, or indices of another shape than `x`.

    Source: Zeiler and Fergus 2014; Badrinarayanan et al. 2017 (SegNet).

    >>> x = torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]])
    >>> pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    >>> MaxUnpool()(pooled, (2, 2), indices)[0, 0].tolist()
    [[0.0, 5.0], [0.0, 0.0]]
    """

    def __init__(self, kernel_size: int = 2) -> None:
        super().__init__()
        if kernel_size not in (2, 3):
            raise UserError(f"max-unpooling undoes pools of 2x2 or 3x3, not of {kernel_size}")
        self.kernel_size = kernel_size

    def forward(self, x: Tensor, size: Size | None = None, indices: Tensor | None = None) -> Tensor:
        """Upsample `x` to the places given by `indices`."""
        if indices is None:
            raise UserError(
                "max-unpooling needs the indices of the max pool it undoes, got none; build "
                "the encoder with Wants(indices=True) or use another way of upsampling"
            )
        if indices.shape != x.shape:
            raise UserError(
                f"max-unpooling got a map of shape {tuple(x.shape)} and indices of shape "
                f"{tuple(indices.shape)}; both must come from the same pool"
            )
        n, c, h, w = x.shape
        height, width = size or (2 * h, 2 * w)  # the indices count along rows this wide
        if self.kernel_size == 3:
            spread = x.new_zeros(n, c, height * width)
            spread = spread.scatter_add(2, indices.flatten(2), x.flatten(2))
            return laid_out_like(x, spread.unflatten(2, (height, width)))
        row = indices // width
        corner = row % 2 * 2 + (indices - row * width) % 2
        zero = x.new_zeros(())
        cells = torch.stack([torch.where(corner == k, x, zero) for k in range(4)], dim=2)
        # contiguous, because torch.export takes the reshape for a view, which other strides forbid
        unpooled = F.pixel_shuffle(cells.contiguous().reshape(n, 4 * c, h, w), 2)
        return _restored(unpooled, x, size, 2, "constant")


class TransposedConv(nn.Module):
    """Learned upsampling that starts out as bilinear interpolation.

    The kernel is a multiple of the stride, so that every output pixel sums equally many products
    (no checkerboard), and the border is replicated, so that a constant stays constant. At
    initialisation it equals `Interpolate("bilinear", stride)` up to the edge.

    Args:
        channels: channels of input and output.
        kernel_size: a multiple of `stride`; `kernel_size - stride` must be even.
        stride: factor of upsampling along each axis.

    Shape: `(N, channels, H, W)` to `(N, channels, *size)`; `stride` times larger without a size.

    Raises:
        UserError: a kernel size that would cause a checkerboard or a half-pixel shift.

    Source: Long et al. 2015 (FCN); Odena et al. 2016, "Deconvolution and Checkerboard Artifacts".
    """

    def __init__(self, channels: int, kernel_size: int = 4, stride: int = 2) -> None:
        super().__init__()
        if kernel_size < stride or kernel_size % stride or (kernel_size - stride) % 2:
            fitting = (2 + stride % 2) * stride
            raise UserError(
                f"a transposed convolution with kernel {kernel_size} and stride {stride} is uneven "
                f"(checkerboards, half-pixel shifts); use a kernel of {fitting}"
            )
        overlap = (kernel_size - stride) // 2  # how far a kernel reaches out of its own cell
        self.border = -(-overlap // stride)  # input pixels to replicate
        self.conv = nn.ConvTranspose2d(
            channels, channels, kernel_size, stride, padding=overlap + self.border * stride
        )
        self.factor = stride
        distance = (torch.arange(kernel_size) - (kernel_size - 1) / 2).abs() / stride
        ramp = (1 - distance).clamp(min=0).view(-1, stride)
        ramp = (ramp / ramp.sum(0)).flatten()  # the taps that meet in one pixel sum to one
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.conv.weight[range(channels), range(channels)] = torch.outer(ramp, ramp)

    def forward(self, x: Tensor, size: Size | None = None, indices: Tensor | None = None) -> Tensor:
        """Upsample `x`; `indices` are ignored."""
        upsampled = self.conv(replicate(x, (self.border,) * 4))
        return _restored(upsampled, x, size, self.factor, "replicate")


UPSAMPLERS: dict[str, Callable[[int], nn.Module]] = {
    "nearest": lambda channels: Interpolate("nearest"),
    "bilinear": lambda channels: Interpolate("bilinear"),
    "bicubic": lambda channels: Interpolate("bicubic"),
    "bed_of_nails": lambda channels: BedOfNails(),
    "max_unpool": lambda channels: MaxUnpool(),
    "transposed": TransposedConv,
}


def make_upsampler(name: str, channels: int) -> nn.Module:
    """Build the x2 upsampler called `name` for maps of `channels` channels."""
    if name not in UPSAMPLERS:
        raise unknown_name("upsampler", name, UPSAMPLERS)
    return UPSAMPLERS[name](channels)
