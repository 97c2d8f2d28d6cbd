"""FCN-32s, FCN-16s and FCN-8s: fuse class scores, not features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segkit.decoders.base import Decoder
from segkit.errors import UserError, unknown_name
from segkit.features import Sizes, Tensors, Wants, size_at, strides_above
from segkit.registry import register
from segkit.upsample import Interpolate, TransposedConv

FUSED = (8, 16, 32)  # strides whose scores may be fused


@register("decoder", "fcn")
class FCNDecoder(Decoder):
    """Score the coarsest map, then add the scores of finer maps after x2 steps.

    The last step, from `stride` to full resolution, is bilinear. Skip scores start at zero, so
    FCN-16s and FCN-8s start out as FCN-32s and need no training in stages.

    Args:
        in_channels, strides, num_classes: as for every `Decoder`; maps finer than `stride` are
            not read.
        stride: stride of the finest fused scores: 32 for FCN-32s, 16 for FCN-16s, 8 for FCN-8s.
        classifier: `conv` puts VGG's fc6 and fc7 as convolutions before the coarsest score
            (7x7 and 1x1, zero padding, so no offsets are cropped); `none` leaves them out.
        classifier_width: channels of fc6 and fc7.
        dropout: probability with which channels are dropped after fc6 and fc7.
        normalize_skips: put batch norm before the skip scores. Maps of an encoder with norm layers
            need none; those of a pretrained one without, such as plain VGG, are a hundred times
            larger at stride 8 than at 32, and so are their first scores. On street scenes it
            brought nothing, see README.md.
        classifier_weights: where a model built by `segkit.model` loads fc6 and fc7 from:
            `imagenet`, or a file of the whole VGG; None leaves them random.

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
        normalize_skips: bool = False,
        classifier_weights: str | None = None,
    ) -> None:
        super().__init__(in_channels, strides)
        fused = [s for s in reversed(strides) if s >= stride]  # climbing order
        every = [s for s in strides_above(2 * strides[-1]) if s >= stride]
        if fused != every or fused[-1:] != [stride]:
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
        if classifier_weights is not None and classifier == "none":
            raise UserError("classifier_weights needs classifier='conv', but classifier is 'none'")
        self.classifier_weights = classifier_weights
        channels = in_channels[-1]
        self.classifier = nn.Sequential()
        if classifier == "conv":
            self.classifier = _fully_convolutional(channels, classifier_width, dropout)
            channels = classifier_width
        self.score = nn.Conv2d(channels, num_classes, 1)
        skip_maps = [len(strides) - 1 - k for k in range(1, len(fused))]
        self.skip_scores = nn.ModuleList(
            nn.Conv2d(in_channels[i], num_classes, 1) for i in skip_maps
        )
        self.skip_norms = nn.ModuleList(
            nn.BatchNorm2d(in_channels[i]) if normalize_skips else nn.Identity() for i in skip_maps
        )
        for parameter in self.skip_scores.parameters():
            nn.init.zeros_(parameter)  # so that skips do not disturb the coarser scores at first
        self.ups = nn.ModuleList(TransposedConv(num_classes) for _ in skip_maps)
        self.last_up = Interpolate("bilinear", factor=stride)

    @staticmethod
    def wants(**options: Any) -> Wants:
        """Ask for the maps after the pools from `stride` to 32."""
        stride = options.get("stride", 8)
        if stride not in FUSED:
            raise UserError(f"FCN on an encoder has stride 8, 16 or 32, not {stride}")
        return Wants(tuple(s for s in FUSED if s >= stride), place="after_pool")

    def coarse_scores(self, x: Tensor) -> Tensor:
        """Score the coarsest map: with a classifier's weights, a heat map of its classes."""
        return self.score(self.classifier(x))

    def decode(self, maps: list[Tensor], sizes: Sizes | None, indices: Tensors | None) -> Tensor:
        """Return the logits; see `Decoder.forward`."""
        x = self.coarse_scores(maps.pop())  # N num_classes H/32 W/32
        for up, norm, score in zip(self.ups, self.skip_norms, self.skip_scores, strict=True):
            scores = score(norm(maps.pop()))
            x = up(x, scores.shape[-2:]) + scores  # N num_classes H/16 W/16, then H/8 W/8
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 is too coarse for scores
        return self.last_up(x, size_at(1, sizes))  # N num_classes H W

    def load_weights(self, encoder: nn.Module) -> None:
        """Load fc6 and fc7 as `classifier_weights` says, through the encoder's `read_weights`."""
        if self.classifier_weights is None:
            return
        read_weights: Any = getattr(encoder, "read_weights", None)
        if read_weights is None:
            raise UserError(
                "classifier_weights are those of a VGG, which this encoder is not; use a VGG "
                "encoder, or classifier_weights: null"
            )
        shape = (self.in_channels[-1], self.score.in_channels)
        if self.classifier_weights == "imagenet" and shape != (512, 4096):  # before the download
            raise UserError(
                "classifier_weights: imagenet needs maps of 512 channels and a classifier_width of "
                f"4096, but they are {shape[0]} and {shape[1]}; leave out the encoder's width and "
                "classifier_width, or use classifier_weights: null"
            )
        self.load_classifier(read_weights(self.classifier_weights))

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
                raise UserError(f"the weights have no '{name}'; a whole torchvision VGG file does")
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
