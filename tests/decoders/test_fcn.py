"""FCN against torchvision's own classifier and against a chain of torch.nn.functional calls."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from segkit.decoders import FCNDecoder
from segkit.encoders import VGGEncoder
from segkit.errors import UserError

CHANNELS, STRIDES = [8, 12, 16], [8, 16, 32]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_maps(h: int = 4, w: int = 3, stride: int = 8) -> list[torch.Tensor]:
    sizes = [(c, s) for c, s in zip(CHANNELS, STRIDES, strict=True) if s >= stride]
    return [torch.randn(2, c, h * 32 // s, w * 32 // s) for c, s in sizes]


def bilinear(x: torch.Tensor, factor: int) -> torch.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def score(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    return torch.einsum("nchw,kc->nkhw", x, conv.weight[:, :, 0, 0]) + conv.bias.view(-1, 1, 1)


# Fusion


def test_fcn8_starts_as_fcn32_climbed_in_steps():
    coarse = FCNDecoder(CHANNELS[2:], [32], 5, stride=32)
    fine = FCNDecoder(CHANNELS, STRIDES, 5, stride=8)
    fine.score.load_state_dict(coarse.score.state_dict())
    maps = random_maps()
    scores = coarse.coarse_scores(maps[-1])
    torch.testing.assert_close(scores, score(maps[-1], coarse.score))
    torch.testing.assert_close(coarse(maps[-1:]), bilinear(scores, 32), rtol=0, atol=1e-5)
    expected = bilinear(bilinear(bilinear(scores, 2), 2), 8)
    torch.testing.assert_close(fine(maps), expected, rtol=0, atol=1e-5)


def test_normalised_skips_do_not_depend_on_the_scale_of_their_maps():
    decoder = FCNDecoder(CHANNELS, STRIDES, 5, stride=8, normalize_skips=True).train()
    for conv in decoder.skip_scores:
        nn.init.normal_(conv.weight)
    maps = random_maps()
    scaled = [100 * maps[0], 10 * maps[1], maps[2]]
    torch.testing.assert_close(decoder(scaled), decoder(maps), rtol=1e-3, atol=1e-4)
    by_hand = [(m - m.mean((0, 2, 3), keepdim=True)) for m in maps[:2]]
    by_hand = [m / (m.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt() for m in by_hand]
    plain = FCNDecoder(CHANNELS, STRIDES, 5, stride=8)
    plain.load_state_dict(decoder.state_dict(), strict=False)
    torch.testing.assert_close(decoder(maps), plain([*by_hand, maps[2]]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_skip_scores_are_added_where_their_map_lies(stride):
    maps = random_maps(stride=stride)
    decoder = FCNDecoder(CHANNELS[-len(maps) :], STRIDES[-len(maps) :], 5, stride=stride)
    for conv in decoder.skip_scores:
        assert not conv.weight.any()
        assert not conv.bias.any()
        nn.init.normal_(conv.weight)
        nn.init.normal_(conv.bias)
    x = score(maps[-1], decoder.score)
    for skip, conv in zip(reversed(maps[:-1]), decoder.skip_scores, strict=True):
        x = bilinear(x, 2) + score(skip, conv)  # the transposed convolutions start as bilinear
    torch.testing.assert_close(decoder(maps), bilinear(x, stride), rtol=1e-5, atol=1e-5)


def test_odd_maps_are_padded_and_not_stretched():
    decoder = FCNDecoder([8, 12], [16, 32], 5, stride=16)
    nn.init.normal_(decoder.skip_scores[0].weight)
    maps = [torch.randn(1, 8, 5, 7), torch.randn(1, 12, 2, 3)]
    climbed = F.pad(bilinear(score(maps[1], decoder.score), 2), (0, 1, 0, 1), mode="replicate")
    logits = bilinear(climbed + score(maps[0], decoder.skip_scores[0]), 16)
    expected = F.pad(logits, (0, 3, 0, 1), mode="replicate")
    torch.testing.assert_close(decoder(maps, [(81, 115)]), expected, rtol=1e-5, atol=1e-5)


def test_maps_finer_than_the_stride_are_not_read():
    decoder = FCNDecoder([4, *CHANNELS], [4, *STRIDES], 5, stride=16)
    maps = [torch.randn(2, 4, 16, 24), *random_maps(2, 3)]
    expected = decoder(maps)
    for unread in maps[:2]:
        unread.fill_(float("nan"))
    assert torch.equal(decoder(maps), expected)
    assert len(decoder.skip_scores) == 1


def test_skip_scores_learn_from_the_first_step():
    decoder = FCNDecoder(CHANNELS, STRIDES, 5)
    maps = [m.requires_grad_() for m in random_maps()]
    decoder(maps).square().mean().backward()
    for conv in decoder.skip_scores:
        assert conv.weight.grad.abs().min() > 0
    assert maps[-1].grad.abs().max() > 0
    assert not maps[0].grad.any()  # a zero score passes nothing down to its map yet


@pytest.mark.parametrize(
    ("channels", "strides", "stride"),
    [
        ([8, 16], [8, 32], 8),  # no map at 16
        ([8, 16], [16, 32], 8),  # no map at 8
        ([16], [16], 32),
        ([8, 16], [8, 16], 4),
        ([8, 16], [16, 32], 12),
    ],
)
def test_a_stride_without_its_maps_is_refused_with_both_sides(channels, strides, stride):
    with pytest.raises(UserError) as error:
        FCNDecoder(channels, strides, 5, stride=stride)
    for part in (f"stride={stride}", f"strides={strides}", "pass those maps or another stride"):
        assert part in str(error.value)


@pytest.mark.parametrize("stride", [4, 64, 12])
def test_a_vgg_has_no_other_strides(stride):
    with pytest.raises(UserError, match=f"8, 16 or 32, not {stride}"):
        FCNDecoder.wants(stride=stride)


# The classifier as convolutions


@pytest.mark.slow
def test_the_classifier_equals_torchvision_at_the_centre_and_slides_over_larger_images():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    with torch.device("meta"):  # 123 M parameters, drawn once
        whole = models.vgg16()
        decoder = FCNDecoder([512], [32], 1000, stride=32, classifier="conv")
        encoder = VGGEncoder("vgg16", taps=["pool5"])
    whole.to_empty(device="cpu").eval()
    with torch.no_grad():
        for module in whole.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                module.weight.normal_(std=(2 / fan_in) ** 0.5)
                module.bias.normal_()
    weights = whole.state_dict()
    encoder.load_state_dict(
        {k: v for k, v in weights.items() if k.startswith("features.")}, assign=True
    )
    decoder.to_empty(device="cpu").eval().load_classifier(weights)
    image = torch.randn(1, 3, 256, 320)
    with torch.no_grad():
        maps = encoder(image[:, :, :224, :224]).maps
        heat = decoder.coarse_scores(maps[0])
        expected = whole(image[:, :, :224, :224])
        assert heat.shape == (1, 1000, 7, 7)
        assert expected.std() > 0.5  # well scaled, so that the tolerance means something
        error = (heat[:, :, 3, 3] - expected).abs().max() / expected.abs().max()
        assert error < 1e-4
        assert decoder.coarse_scores(encoder(image).maps[0]).shape == (1, 1000, 8, 10)


def vgg_file(width: int = 6, channels: int = 16, classes: int = 5) -> dict[str, torch.Tensor]:
    """The fully connected layers of a small VGG, as torchvision names them."""
    layers = {"0": (width, channels * 49), "3": (width, width), "6": (classes, width)}
    return {
        f"classifier.{number}.{part}": torch.randn(shape if part == "weight" else shape[:1])
        for number, shape in layers.items()
        for part in ("weight", "bias")
    }


def small(classes: int = 5, width: int = 6, **options) -> FCNDecoder:
    return FCNDecoder(
        [16], [32], classes, stride=32, classifier="conv", classifier_width=width, **options
    )


def test_a_reduced_classifier_equals_linear_layers():
    decoder, weights = small().eval(), vgg_file()
    decoder.load_classifier(weights)
    x = torch.randn(3, 16, 7, 7)
    expected = x.flatten(1)
    for number in "036":
        layer = (weights[f"classifier.{number}.weight"], weights[f"classifier.{number}.bias"])
        expected = F.linear(F.relu(expected) if number != "0" else expected, *layer)
    result = decoder.coarse_scores(x)[:, :, 3, 3]
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_the_score_is_left_alone_where_the_classes_differ():
    decoder = small(classes=3)
    before = decoder.score.weight.clone()
    decoder.load_classifier(vgg_file(classes=5))
    assert torch.equal(decoder.score.weight, before)


def test_dropout_drops_whole_channels_after_fc6_and_fc7_in_training_alone():
    decoder = small(width=64, dropout=0.5)
    x = torch.randn(1, 16, 3, 3)
    for layers in (decoder.classifier[:3], decoder.classifier):  # up to fc6, and to fc7
        kept = layers.eval()(x)
        dropped = layers.train()(x)
        zero = (dropped == 0).all(dim=(2, 3)) & (kept != 0).any(dim=(2, 3))
        assert 10 < zero.sum() < 54
    kept = decoder.classifier[:3].eval()(x)
    dropped = decoder.classifier[:3].train()(x)
    alive = (dropped != 0).any(dim=(2, 3))[0]
    torch.testing.assert_close(dropped[:, alive], 2 * kept[:, alive])
    decoder.eval()
    assert torch.equal(decoder.coarse_scores(x), decoder.coarse_scores(x))


@torch.no_grad()
def test_fcn32_scores_as_torchvisions_head():
    """Ours lacks what torchvision's has before the score: a 3x3 convolution, norm and dropout."""
    theirs = FCNHead(32, 5).eval()
    *before, score = theirs
    ours = FCNDecoder([8], [32], 5, stride=32).eval()
    ours.score.load_state_dict(score.state_dict())
    x = torch.randn(2, 32, 3, 4)
    expected = F.interpolate(theirs(x), size=(96, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours([nn.Sequential(*before)(x)]), expected)


def test_no_classifier_means_no_fc6():
    decoder = FCNDecoder(CHANNELS, STRIDES, 5)
    assert all(m.kernel_size != (7, 7) for m in decoder.modules() if isinstance(m, nn.Conv2d))
    with pytest.raises(UserError, match="no fc6 and fc7 to load into; build with classifier='conv"):
        decoder.load_classifier(vgg_file())


@pytest.mark.parametrize("missing", ["classifier.0.weight", "classifier.3.bias"])
def test_a_file_without_the_classifier_is_refused(missing):
    weights = vgg_file()
    del weights[missing]
    with pytest.raises(UserError) as error:
        small().load_classifier(weights)
    assert f"have no '{missing}'" in str(error.value)
    assert "whole torchvision VGG file" in str(error.value)


@pytest.mark.parametrize("broken", ["classifier.0.weight", "classifier.3.weight"])
def test_a_file_of_another_shape_is_refused_with_both_shapes_and_changes_nothing(broken):
    weights = vgg_file()
    weights[broken] = torch.randn(10, 10)
    decoder = small()
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    own = {"classifier.0.weight": (6, 16, 7, 7), "classifier.3.weight": (6, 6, 1, 1)}[broken]
    with pytest.raises(UserError) as error:
        decoder.load_classifier(weights)
    for part in (f"'{broken}'", "(10, 10)", str(own), "reduced classifier_width"):
        assert part in str(error.value)
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(tensor, before[name])
