"""Encoders made of timm's networks give timm's own maps, and transformers a pyramid."""

import sys

import pytest
import torch
from torch import nn

from segkit.config import load_config
from segkit.errors import UserError
from segkit.features import Wants
from segkit.model import create_model
from segkit.receptive_field import sees_all
from segkit.registry import find
from segkit.testing import check_encoder

timm = pytest.importorskip("timm")

TINY = ("timm:test_resnet", "timm:test_convnext", "timm:test_efficientnet", "timm:test_vit")
LARGE = (
    *("timm:regnety_002", "timm:densenet121", "timm:mobilenetv4_conv_small", "timm:pvt_v2_b0"),
    *("timm:swin_tiny_patch4_window7_224", "timm:vit_small_patch14_dinov2"),
    *("timm:vit_small_patch16_dinov3", "timm:vit_tiny_patch16_224"),
)


@pytest.mark.parametrize(
    "name", [*TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_they_keep_the_contract(name):
    check_encoder(find("encoder", name))


def saved(name: str, path, **options) -> nn.Module:
    """A classifier of timm's, and its weights in a file."""
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    torch.save(network.state_dict(), path)
    return network


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_maps_are_those_of_timm(name, tmp_path):
    saved(name, tmp_path / "weights.pth")
    encoder = find("encoder", f"timm:{name}")().eval()
    encoder.load_weights(str(tmp_path / "weights.pth"))
    again = timm.create_model(
        name,
        features_only=True,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")},
    ).eval()
    image = torch.randn(1, 3, 65, 97)
    expected = dict(zip(again.feature_info.reduction(), again(image), strict=True))
    for spec, found in zip(encoder.specs, encoder(image).maps, strict=True):
        assert torch.equal(found, expected[spec.stride]), spec


@torch.no_grad()
def test_a_transformer_is_timm_s_and_its_pyramid_lies_on_the_grid(tmp_path):
    network = saved("test_vit", tmp_path / "weights.pth", dynamic_img_size=True)
    encoder = find("encoder", "timm:test_vit")().eval()
    encoder.load_weights(str(tmp_path / "weights.pth"))
    image = torch.randn(1, 3, 96, 160)
    [last] = network.forward_intermediates(image, indices=1, intermediates_only=True, norm=False)
    assert torch.allclose(encoder.network(image)[-1], last, atol=1e-5)
    for size in ((96, 160), (97, 161)):
        maps = encoder(torch.randn(1, 3, *size)).maps
        for spec, found in zip(encoder.specs, maps, strict=True):
            assert found.shape == (1, 256, *(-(-side // spec.stride) for side in size))
    assert sees_all(encoder)


@pytest.mark.parametrize(("taps", "blocks"), [("last", [5] * 4), ("spread", [0, 2, 3, 5])])
def test_maps_of_a_transformer_are_made_of_the_blocks_that_are_tapped(taps, blocks):
    encoder = find("encoder", "timm:test_vit")(pyramid_width=16, taps=taps).eval()
    image = torch.randn(1, 3, 64, 96)
    every = encoder.network.model.forward_intermediates(image, intermediates_only=True, norm=False)
    assert len(every) == 6
    for found, block, rescale in zip(encoder(image).maps, blocks, encoder.pyramid, strict=True):
        torch.testing.assert_close(found, rescale(every[block]))
    with pytest.raises(UserError, match="taps"):
        find("encoder", "timm:test_vit")(taps="first")


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_frozen_stages_change_nothing_that_their_maps_are_made_of(name):
    encoder = find("encoder", f"timm:{name}")(frozen_stages=2).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    image = torch.randn(2, 3, 128, 128)
    maps = encoder(image).maps
    sum(found.square().mean() for found in maps).backward()
    optimizer.step()
    after = encoder.eval()(image).maps
    encoder.load_state_dict(before)
    original = encoder(image).maps
    assert all(map(torch.equal, after[:2], original[:2]))
    assert not any(map(torch.equal, after[2:], original[2:]))
    with pytest.raises(UserError, match="frozen_stages must be 0 to"):
        find("encoder", f"timm:{name}")(frozen_stages=9)


@pytest.mark.slow
@torch.no_grad()
def test_patches_of_14_are_resampled(tmp_path):
    """Of a constant image, the embedding stays what it was, so that nothing is stretched."""
    name = "vit_small_patch14_dinov2"
    network = saved(name, tmp_path / "weights.pth", dynamic_img_size=True)
    encoder = find("encoder", f"timm:{name}")().eval()
    encoder.load_weights(str(tmp_path / "weights.pth"))
    embedding = encoder.network.model.patch_embed.proj
    assert embedding.weight.shape[-2:] == (16, 16)
    before = network.patch_embed.proj(torch.ones(1, 3, 14, 14))
    after = embedding(torch.ones(1, 3, 16, 16))
    torch.testing.assert_close(after, before, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("decoder", ["unet", "fcn", "interpolate", "transposed"])
@pytest.mark.parametrize("encoder", ["timm:test_vit", "timm:test_resnet"])
def test_every_decoder_runs_on_them(encoder, decoder):
    model = create_model(decoder, encoder, num_classes=3).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 41, 50)).shape == (1, 3, 41, 50)


def test_a_file_that_lacks_tensors_is_refused(tmp_path):
    network = saved("test_resnet", tmp_path / "weights.pth")
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("layer2")}
    torch.save(state, tmp_path / "weights.pth")
    encoder = find("encoder", "timm:test_resnet")()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(UserError, match="does not fit timm:test_resnet"):
        encoder.load_weights(str(tmp_path / "weights.pth"))
    after = encoder.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_what_cannot_be_had_is_told(monkeypatch):
    for name, wants, words in (
        ("timm:resnet81", Wants(), "timm has no network 'resnet81'; did you mean"),
        ("timm:inception_v3", Wants(), "has no padding"),
        ("timm:test_resnet", Wants(indices=True), "no indices for max-unpooling"),
        ("timm:test_resnet", Wants((1, 2)), "the encoder has strides"),
    ):
        with pytest.raises(UserError, match=words):
            find("encoder", name)(wants)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'segkit\[timm\]'"):
        find("encoder", "timm:test_resnet2")


def test_the_config_takes_its_mean_and_std(tiny_config):
    clip = "timm:vit_tiny_patch16_224"
    config = tiny_config({"model.encoder": {"name": clip}, "model.decoder": {"name": "unet"}})
    cfg = timm.get_pretrained_cfg("vit_tiny_patch16_224")
    assert tuple(load_config(config).data.mean) == tuple(cfg.mean) != (0.485, 0.456, 0.406)
    given = load_config(config, ["data.mean=[0.1,0.2,0.3]", "data.std=[0.4,0.5,0.6]"])
    assert tuple(given.data.mean) == (0.1, 0.2, 0.3)
