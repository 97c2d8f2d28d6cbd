"""Images as vectors: what an encoder sees in them, to find images that look alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.errors import UserError
from segkit.features import Pyramid, Wants, padding_to
from segkit.hardware import DeviceName, choose_hardware
from segkit.model import create_encoder, eval_mode
from segkit.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from segkit.registry import find

LONG_SIDE = 256  # pixels


@torch.no_grad()
def describe(encoder: nn.Module, images: Tensor) -> Tensor:
    """Describe images by the encoder's deepest map, averaged over the pixels, of unit length.

    The scalar product of two descriptors is the cosine similarity of the images.

    Images whose sides are no multiple of the encoder's stride are padded by repeating the last row
    and column, and a cell of the map counts by how many pixels of the image it covers. So padding
    has no part in the average, though the cells at the border see it.

    The encoder runs in eval mode, and is left in the mode that it was in.

    Shape: normalised images `(N, in_channels, H, W)`, float, of any size, on the encoder's device,
        to float32 `(N, D)`; D is the number of channels of the deepest map.

    Args:
        encoder: any that returns a `Pyramid` and declares its maps as `specs`.
        images: as in training, with mean and std of the encoder's weights.

    Raises:
        UserError: images that are no floats, or of other channels than the encoder's.

    >>> from segkit.encoders import VGGEncoder
    >>> describe(VGGEncoder("vgg11", width=1 / 8), torch.rand(2, 3, 45, 70)).shape
    torch.Size([2, 64])
    """
    if not images.is_floating_point():
        raise UserError(f"images are {images.dtype}; normalise them to floats before")
    stage: Any = encoder
    bottom, right = padding_to(stage.stride, images)
    with eval_mode(encoder):
        pyramid: Pyramid = encoder(F.pad(images, (0, right, 0, bottom), mode="replicate"))
    deepest = pyramid.maps[-1].float()  # N D h w
    rows, columns = (
        _shares(side, cells, stage.specs[-1].stride).to(deepest)
        for side, cells in zip(images.shape[-2:], deepest.shape[-2:], strict=True)
    )
    # no matrix product, which autocast would compute in half precision
    return F.normalize((deepest * rows[:, None] * columns).sum((2, 3)))


def _shares(side: int, cells: int, stride: int) -> Tensor:
    """Return the share of an image's rows, or columns, that each cell of a map covers."""
    covered = (side - stride * torch.arange(cells)).clamp(0, stride)
    return covered / side


class Describer:
    """Describes images from files by a registered encoder.

    Images are resized to a longer side of 256 pixels, near to what networks have seen of ImageNet.
    So a copy in another size gets the same descriptor, and a large image costs as little as a small
    one.

    Args:
        encoder: its registered name.
        weights: None (random, the same each time), `imagenet`, or a weight file.
        device: see `choose_hardware`.

    Raises:
        UserError: an unknown encoder, weights that cannot be loaded, or a device that is not there.
    """

    def __init__(
        self, encoder: str, weights: str | None = "imagenet", device: DeviceName = "auto"
    ) -> None:
        self.name = f"{encoder} with {f'weights {weights}' if weights else 'random weights'}"
        self.hardware = choose_hardware(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = create_encoder(encoder, weights=weights, wants=Wants(coarsest=True))
        self.encoder = self.hardware.to_device(network)
        published = getattr(find("encoder", encoder), "normalization", None)
        mean, std = published or (IMAGENET_MEAN, IMAGENET_STD)
        self.normalize = Normalize(mean, std).to(self.hardware.device)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe an image.

        Shape: RGB `(H, W, 3)` to `(D,)`.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        height, width = pixels.shape[-2:]
        scale = LONG_SIDE / max(height, width)
        size = max(1, round(scale * height)), max(1, round(scale * width))
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        batch = self.normalize(self.hardware.load(pixels))
        with self.hardware.autocast():
            [descriptor] = describe(self.encoder, batch)
        return descriptor.cpu().numpy()
