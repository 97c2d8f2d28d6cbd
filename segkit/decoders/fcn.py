"""FCN-32s, FCN-16s and FCN-8s: fuse class scores, not features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from segkit.errors import UserError, unknown_name
from segkit.features import Size, Wants, check_maps, check_strides, size_at
from segkit.upsample import Interpolate, TransposedConv


class FCNDecoder(nn.Module):
    """Score the coarsest map, then add the scores of finer maps after x2 steps.

    The last step, from `stride` to full resolution, is bilinear. Skip scores start at zero, so the
    finer forms start out as FCN-32s and need no training in stages.

    Args:
        in_channels: channels of the maps, finest first.
        strides: their strides; maps finer than `stride` are not read.
        num_classes: channels of the logits.
        stride: of the finest fused scores: 32, 16 or 8 under a coarsest map of stride 32.
        classifier: `conv` puts VGG's fc6 and fc7 as convolutions before the coarsest score
            (7x7 and 1x1, zero padding, so no offsets are cropped); `none` leaves them out.
        classifier_width: channels of fc6 and fc7.
        dropout: after fc6 and fc7.

    Shape: maps `(N, in_channels[i], H / strides[i], W / strides[i])` to `(N, num_classes, H, W)`.

    Raises:
        UserError: channels and strides that do not fit together, or no map for a fused stride.

    Source: Long et al. 2015.

    >>> decoder = FCNDecoder([16, 32, 64], [8, 16, 32], num_classes=3)
    >>> decoder([torch.rand(2, 16, 12, 8), torch.rand(2, 32, 6, 4), torch.rand(2, 64, 3, 2)]).shape
    torch.Size([2, 3, 96, 64])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        *,
        stride: int = 8,
        classifier: Literal["none", "conv"] = "none",
        classifier_width: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_strides(in_channels, strides)
        self.in_channels = tuple(in_channels)
        fused = [s for s in reversed(strides) if s >= stride]  # climbing order
        if (
            not fused
            or fused != [strides[-1] >> k for k in range(len(fused))]
            or fused[-1] != stride
        ):
            raise UserError(
                f"FCN with stride={stride} fuses the scores of every x2 stride from the coarsest "
                f"map to {stride}, but strides={list(strides)}; pass those maps or another stride"
            )
        if classifier not in ("none", "conv"):
            raise unknown_name("classifier", classifier, ("none", "conv"))
        if not 0 <= dropout < 1 or classifier_width < 1:
            raise UserError(
                f"dropout={dropout} must be from 0 to below 1 and "
                f"classifier_width={classifier_width} positive"
            )
        channels = in_channels[-1]
        self.classifier = nn.Sequential()
        if classifier == "conv":
            self.classifier = _fully_convolutional(channels, classifier_width, dropout)
            channels = classifier_width
        self.score = nn.Conv2d(channels, num_classes, 1)
        self.skip_maps = [len(strides) - 1 - k for k in range(1, len(fused))]
        self.skip_scores = nn.ModuleList(
            _zero_score(in_channels[i], num_classes) for i in self.skip_maps
        )
        self.ups = nn.ModuleList(TransposedConv(num_classes) for _ in self.skip_maps)
        self.last_up = Interpolate("bilinear", factor=stride)

    @staticmethod
    def wants(stride: int = 8, **options: object) -> Wants:
        """Ask a VGG encoder for the pooled maps from `stride` on."""
        taps = {8: "pool3", 16: "pool4", 32: "pool5"}
        if stride not in taps:
            raise UserError(f"FCN on a VGG encoder has stride 8, 16 or 32, not {stride}")
        return Wants(tuple(tap for s, tap in taps.items() if s >= stride))

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Score the coarsest map: with a classifier's weights, a heat map of its classes.

        Shape: `(N, in_channels[-1], H, W)` to `(N, num_classes, H, W)`.
        """
        return self.score(self.classifier(x))

    def forward(
        self,
        maps: Sequence[Tensor],
        sizes: Sequence[Size] | None = None,
        indices: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Turn maps into logits at stride 1."""
        check_maps(maps, self.in_channels, self)
        x = self.coarse_scores(maps[-1])  # N num_classes H/32 W/32
        for i, up, score in zip(self.skip_maps, self.ups, self.skip_scores, strict=True):
            x = up(x, maps[i].shape[-2:]) + score(maps[i])  # N num_classes H/16 W/16, then H/8 W/8
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 is too coarse for scores
        return self.last_up(x, size_at(1, sizes))  # N num_classes H W

    @torch.no_grad()
    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """Load the fully connected layers of a torchvision VGG (`classifier.0`, `.3`, `.6`).

        The last layer is loaded only where it has as many classes as this decoder.

        Raises:
            UserError: no fc6 and fc7 here, none in the file, or of another shape.
        """
        if not self.classifier:
            raise UserError("there is no fc6 and fc7 to load into; build with classifier='conv'")
        own = {"classifier.0": self.classifier[0], "classifier.3": self.classifier[3]}
        if len(weights.get("classifier.6.bias", ())) == self.score.out_channels:
            own["classifier.6"] = self.score
        targets = {f"{key}.{name}": p for key, m in own.items() for name, p in m.named_parameters()}
        for name, target in targets.items():
            if name not in weights:
                raise UserError(
                    f"the weights have no '{name}'; a whole torchvision VGG file has it"
                )
            if weights[name].numel() != target.numel():
                raise UserError(
                    f"'{name}' has shape {tuple(weights[name].shape)}, which does not fill "
                    f"{tuple(target.shape)}; a reduced classifier_width cannot load it"
                )
        for name, target in targets.items():
            target.copy_(weights[name].view_as(target))


def _fully_convolutional(in_channels: int, width: int, dropout: float) -> nn.Sequential:
    """Build VGG's fc6 and fc7 as convolutions that keep the size."""
    fc6 = nn.Conv2d(in_channels, width, 7, padding=3)
    fc7 = nn.Conv2d(width, width, 1)
    for conv in (fc6, fc7):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return nn.Sequential(
        *(fc6, nn.ReLU(inplace=True), nn.Dropout2d(dropout)),
        *(fc7, nn.ReLU(inplace=True), nn.Dropout2d(dropout)),
    )


def _zero_score(in_channels: int, num_classes: int) -> nn.Conv2d:
    """Build the score of a skip, zero at first so that it cannot disturb the coarser one."""
    score = nn.Conv2d(in_channels, num_classes, 1)
    assert score.bias is not None
    nn.init.zeros_(score.weight)
    nn.init.zeros_(score.bias)
    return score
