"""Descriptors of images, against torchvision's features and an average over pixels by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

import segkit
from segkit.descriptors import Describer
from segkit.encoders import LeNetEncoder, VGGEncoder
from segkit.errors import UserError
from segkit.features import Wants
from segkit.model import create_encoder
from segkit.normalize import IMAGENET_MEAN, IMAGENET_STD
from segkit.streets import draw_scene


@pytest.mark.parametrize(("tap", "layers"), [("conv5", 20), ("pool5", 21)])
def test_a_descriptor_is_the_mean_of_torchvisions_features(tap, layers):
    torch.manual_seed(0)
    reference = make_layers(cfgs["A"])
    encoder = VGGEncoder("vgg11", ["conv1", tap])
    encoder.features.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        means = reference[:layers](images).mean((2, 3))
    expected = means / means.norm(dim=1, keepdim=True)
    found = segkit.describe(encoder, images)
    assert found.shape == (2, 512)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(33, 70), (47, 48), (5, 3), (1, 40)])
def test_every_pixel_counts_once_and_padding_does_not(size):
    torch.manual_seed(0)
    encoder = VGGEncoder("vgg11", width=1 / 8).eval()
    images = torch.randn(2, 3, *size)
    height, width = (-(-side // 16) * 16 for side in size)
    padded = np.pad(
        images.numpy(), [(0, 0), (0, 0), (0, height - size[0]), (0, width - size[1])], "edge"
    )
    with torch.no_grad():
        deepest = encoder(torch.from_numpy(padded)).maps[-1]
    of_pixels = deepest.repeat_interleave(16, 2).repeat_interleave(16, 3)
    expected = F.normalize(of_pixels[..., : size[0], : size[1]].mean((2, 3)))
    torch.testing.assert_close(segkit.describe(encoder, images), expected)


@pytest.mark.parametrize(
    "name", ["lenet", "alexnet", "resnet18", "mobilenet_v3_large", "timm:test_vit"]
)
def test_any_encoder_describes_images_of_any_size(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    encoder = create_encoder(name)
    for size in ((64, 64), (37, 75), (9, 20)):
        found = segkit.describe(encoder, torch.randn(2, 3, *size))
        assert found.shape == (2, encoder.specs[-1].channels)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_the_encoder_stays_as_it_was():
    encoder = VGGEncoder("vgg11_bn", width=1 / 8)
    encoder.features[1].eval()
    modes = [module.training for module in encoder.modules()]
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    images = torch.randn(3, 3, 32, 32)
    first = segkit.describe(encoder, images)
    assert not first.requires_grad
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    # by the statistics that were learned, not by those of the batch
    torch.testing.assert_close(segkit.describe(encoder, images[:1]), first[:1])
    with torch.autocast("cpu", torch.bfloat16):
        assert segkit.describe(encoder, images).dtype == torch.float32


def test_what_is_no_image_is_refused():
    encoder = LeNetEncoder()
    with pytest.raises(UserError, match=r"uint8; normalise them"):
        segkit.describe(encoder, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match="in_channels=3"):
        segkit.describe(encoder, torch.zeros(1, 4, 8, 8))


# An encoder by its name


def test_an_encoder_alone_is_that_of_a_model():
    torch.manual_seed(0)
    whole = segkit.create_model("unet", "vgg11", num_classes=2, encoder_options={"width": 1 / 8})
    torch.manual_seed(0)
    alone = create_encoder("vgg11", width=1 / 8)
    assert alone.specs == whole.encoder.specs
    for key, value in alone.state_dict().items():
        assert torch.equal(value, whole.encoder.state_dict()[key])
    with pytest.raises(UserError, match=r"option of the encoder 'vgg11'.*'widht'"):
        create_encoder("vgg11", widht=1)
    with pytest.raises(UserError, match="has no method load_weights"):
        create_encoder("lenet", weights="imagenet")


def test_weights_of_an_encoder_are_loaded(tmp_path):
    saved = create_encoder("vgg11", wants=Wants(coarsest=True)).state_dict()
    torch.save(saved, tmp_path / "weights.pth")
    loaded = create_encoder("vgg11", weights=str(tmp_path / "weights.pth")).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in saved.items())


def test_a_describer_normalises_and_resizes():
    image, _ = draw_scene(0, "train", 0)  # 120x160
    describer = Describer("lenet", None, "cpu")
    small = torch.from_numpy(image).permute(2, 0, 1)[None]
    scaled = F.interpolate(small.float(), (192, 256), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = segkit.describe(describer.encoder, (scaled / 255 - mean) / std)[0]
    np.testing.assert_allclose(describer(image), expected, atol=0.01)  # it may compute in bf16
    turned = np.ascontiguousarray(image.transpose(1, 0, 2))
    assert describer(turned) @ describer(turned) == pytest.approx(1, abs=1e-5)
    assert describer(image[:1]) @ describer(image[:1]) == pytest.approx(1, abs=1e-5)


def test_random_weights_are_the_same_each_time():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    state = torch.get_rng_state()
    found = [Describer("lenet", None, "cpu")(image) for _ in range(2)]
    assert np.array_equal(*found)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_describer_takes_the_mean_that_timm_publishes():
    timm = pytest.importorskip("timm")
    describer = Describer("timm:test_vit", None, "cpu")
    config = timm.get_pretrained_cfg("test_vit")
    assert isinstance(describer.normalize, nn.Module)
    assert describer.normalize.mean.flatten().tolist() == pytest.approx(config.mean)
    assert describer.normalize.std.flatten().tolist() == pytest.approx(config.std)
