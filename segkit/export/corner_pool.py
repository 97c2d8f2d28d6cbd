"""Max pooling with indices, of operations that every runtime has and computes fast."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CornerPool(nn.Module):
    """What `nn.MaxPool2d(2, return_indices=True)` gives for maps of even height and width.

    OpenVINO has only a slow reference for a pool with indices, the ONNX exporter writes each as two
    pools, and TensorRT has none.

    >>> import torch.nn.functional as F
    >>> x = torch.randn(2, 3, 4, 6)
    >>> all(map(torch.equal, CornerPool()(x), F.max_pool2d(x, 2, return_indices=True)))
    True
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest of each 2x2 cell, and its place, counted along rows."""
        # the four corners in reading order; of equals, the first one is taken
        a, b, c, d = (x[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
        top, bottom = torch.maximum(a, b), torch.maximum(c, d)
        lower = bottom > top
        right = (lower & (d > c)) | (~lower & (b > a))
        height, width = lower.shape[-2:]  # not half of that of x, which export cannot tell apart
        rows = 2 * torch.arange(height, device=x.device)[:, None] + lower
        columns = 2 * torch.arange(width, device=x.device) + right
        return torch.maximum(top, bottom), rows * (2 * width) + columns


def use_corner_pools(model: nn.Module) -> None:
    """Replace the 2x2 max pools that return indices."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d) and child.return_indices and child.kernel_size == 2:
                setattr(parent, name, CornerPool())
