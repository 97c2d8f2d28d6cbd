"""The decoders on backbones that know nothing of segkit: torchvision's and timm's."""

import pytest
import torch
from torch import nn

from segkit.errors import UserError
from segkit.registry import find

CLASSES = 4
VARIANTS = {
    "interpolate": ("interpolate", {"widths": [4, 4, 8, 8, 16]}),
    "unpool": ("unpool", {"mode": "bed_of_nails", "depths": [1, 1, 1, 1, 1]}),
    "transposed": ("transposed", {"kernel_size": 2, "widths": [4, 4, 8, 8, 16]}),
    "unet": ("unet", {"widths": [4, 4, 8, 8, 16]}),
    "unet-transposed": ("unet", {"upsample": "transposed", "widths": [4, 4, 8, 8, 16]}),
    "fcn-8": ("fcn", {"stride": 8}),
    "fcn-32": ("fcn", {"stride": 32}),
}
SIZES = [(64, 96), (65, 97), (63, 95), (45, 77), (33, 33)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def resnet():
    """A torchvision ResNet-50 with the channels and strides of its five maps."""
    models = pytest.importorskip("torchvision.models")
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    nodes = ["relu", "layer1", "layer2", "layer3", "layer4"]
    extractor = extraction.create_feature_extractor(models.resnet50(weights=None), nodes)
    return _Listed(extractor).eval(), [64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]


@pytest.fixture(scope="module")
def mobilenet():
    """A timm backbone, which lists channels and strides itself."""
    timm = pytest.importorskip("timm")
    backbone = timm.create_model("mobilenetv3_small_050", features_only=True, pretrained=False)
    info = backbone.feature_info
    return backbone.eval(), info.channels(), info.reduction()


class _Listed(nn.Module):
    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.extractor(x).values())


def rounded_up(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes at strides 1, 2, 4, ...: strided convolutions round up where pools round down."""
    return [(-(-size[0] // 2**k), -(-size[1] // 2**k)) for k in range(5)]


def decoder_for(variant: str, channels, strides) -> nn.Module:
    name, options = VARIANTS[variant]
    return find("decoder", name)(channels, strides, CLASSES, **options).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backbone", ["resnet", "mobilenet"])
def test_recorded_sizes_give_logits_of_the_size_of_the_image(backbone, variant, request):
    network, channels, strides = request.getfixturevalue(backbone)
    with torch.no_grad():
        decoder = decoder_for(variant, channels, strides)
        for size in SIZES if backbone == "mobilenet" else SIZES[:2]:
            maps = network(torch.randn(1, 3, *size))
            assert [m.shape[1] for m in maps] == list(channels)
            assert [tuple(m.shape[-2:]) for m in maps[:4]] == rounded_up(size)[1:]
            logits = decoder(maps, rounded_up(size))
            assert logits.shape == (1, CLASSES, *size)
            assert logits.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backbone", ["resnet", "mobilenet"])
def test_without_sizes_even_images_come_back_exactly(backbone, variant, request):
    network, channels, strides = request.getfixturevalue(backbone)
    with torch.no_grad():
        decoder = decoder_for(variant, channels, strides)
        assert decoder(network(torch.randn(1, 3, 64, 96))).shape == (1, CLASSES, 64, 96)


@pytest.mark.parametrize("variant", ["unet", "unet-transposed"])
def test_without_sizes_unet_doubles_the_finest_map_of_an_odd_image(variant, mobilenet):
    network, channels, strides = mobilenet
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 45, 77))
        assert decoder_for(variant, channels, strides)(maps).shape == (1, CLASSES, 46, 78)


@pytest.mark.parametrize("with_sizes", [False, True], ids=["doubled", "recorded"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_size_of_the_image_crops_the_logits(variant, with_sizes, mobilenet):
    network, channels, strides = mobilenet
    image = torch.randn(1, 3, 45, 77)
    with torch.no_grad():
        decoder = decoder_for(variant, channels, strides)
        maps, sizes = network(image), rounded_up((45, 77)) if with_sizes else None
        logits = decoder(maps, sizes)
        cropped = decoder(maps, sizes, size=image.shape[-2:])
        assert cropped.shape == (1, CLASSES, 45, 77)
        assert torch.equal(cropped, logits[..., :45, :77])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_the_backbone(variant, mobilenet):
    network, channels, strides = mobilenet
    network.zero_grad()
    decoder = decoder_for(variant, channels, strides)
    decoder(network(torch.randn(1, 3, 64, 64))).square().mean().backward()
    first = next(network.parameters())
    assert first.grad is not None
    assert first.grad.abs().max() > 0


def test_max_unpooling_says_what_a_backbone_without_indices_can_do(mobilenet):
    network, channels, strides = mobilenet
    decoder = find("decoder", "unpool")(channels, strides, CLASSES)
    with pytest.raises(UserError, match="mode='bed_of_nails'"):
        decoder(network(torch.randn(1, 3, 64, 64)))
