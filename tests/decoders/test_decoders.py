"""Every decoder and each of its modes: sizes, bits, gradients, symmetry, references, refusals."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.decoders import (
    FCNDecoder,
    InterpolateDecoder,
    TransposedDecoder,
    UNetDecoder,
    UnpoolDecoder,
)
from segkit.errors import UserError
from segkit.features import FeatureSpec, Wants
from segkit.model import SegmentationModel, create_model
from segkit.registry import find, names

CLASSES = 5
VARIANTS = {
    "interpolate-nearest": ("interpolate", {"mode": "nearest"}),
    "interpolate-bilinear": ("interpolate", {"mode": "bilinear"}),
    "interpolate-bicubic": ("interpolate", {"mode": "bicubic"}),
    "unpool-max": ("unpool", {"mode": "max"}),
    "unpool-nails": ("unpool", {"mode": "bed_of_nails"}),
    "transposed": ("transposed", {}),
    "unet-nearest": ("unet", {"upsample": "nearest"}),
    "unet-bilinear": ("unet", {"upsample": "bilinear"}),
    "unet-bicubic": ("unet", {"upsample": "bicubic"}),
    "unet-nails": ("unet", {"upsample": "bed_of_nails"}),
    "unet-transposed": ("unet", {"upsample": "transposed"}),
    "fcn-32": ("fcn", {"stride": 32}),
    "fcn-16": ("fcn", {"stride": 16}),
    "fcn-8": ("fcn", {"stride": 8}),
    "fcn-8-classifier": ("fcn", {"stride": 8, "classifier": "conv", "classifier_width": 24}),
}
# nails sit in the top-left corner, and so does the winner where a max pool sees four zeros
SYMMETRIC = [name for name in VARIANTS if "nails" not in name and name != "unpool-max"]
FAMILIES = ["interpolate-bilinear", "unpool-max", "transposed", "unet-bilinear", "fcn-8"]
SIZES = [(31, 31), (32, 32), (33, 65), (64, 96), (127, 127), (341, 512), (540, 960)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(
    variant: str, encoder: str = "vgg11", seed: int = 0, width: float = 1 / 8, **options
) -> SegmentationModel:
    """Put a decoder on a VGG an eighth as wide as the real one."""
    torch.manual_seed(seed)
    name, own = VARIANTS[variant]
    own = {**own, **options}
    own = {"depths": [2] * 5, **own} if name == "unpool" else own
    return create_model(name, encoder, num_classes=CLASSES, encoder_options={"width": width}, **own)


def perturb(module: nn.Module) -> nn.Module:
    """Move everything that starts at zero or one, so that a part left out shows."""
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor), alpha=0.1)
    return module


# Any size in, the same size out


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_have_the_size_of_the_input(variant, size):
    model = build(variant, width=1 / 16)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        for training in (True, False):
            logits = model.train(training)(image)
            assert logits.shape == (1, CLASSES, *size)
            assert logits.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_last_batch_of_one_tiny_image_trains_with_batch_norm_everywhere(variant):
    model = build(variant, encoder="vgg11_bn").train()
    model(torch.randn(1, 3, 31, 31)).mean().backward()


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_at_multiples_of_the_stride_padding_changes_no_bit(variant, size):
    model = build(variant).eval()
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        pyramid = model.encoder(image)
        unpadded = model.decoder(pyramid.maps, pyramid.sizes, pyramid.indices)
        assert torch.equal(model(image), unpadded)


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_sizes_are_padded_with_zeros_at_the_bottom_and_right_and_cropped(variant):
    model = build(variant).eval()
    image = torch.randn(2, 3, 33, 50)
    padded = torch.zeros(2, 3, 64, 64)
    if model.encoder.stride == 16:
        padded = padded[:, :, :48]
    padded[:, :, :33, :50] = image
    with torch.no_grad():
        assert torch.equal(model(image), model(padded)[:, :, :33, :50])


# The decoder alone: recorded odd sizes, and none


@pytest.mark.parametrize("size", [(45, 61), (63, 63), (95, 33), (64, 96)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_sizes_bring_odd_sizes_back_without_padding(variant, size):
    model = build(variant)
    maps, sizes, indices = model.encoder(torch.randn(2, 3, *size))
    assert sizes[0] == size  # floor pooling drops odd rows on the way down
    assert model.decoder(maps, sizes, indices).shape == (2, CLASSES, *size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_sizes_every_step_doubles(variant):
    model = build(variant).eval()
    maps, sizes, indices = model.encoder(torch.randn(2, 3, 64, 96))
    doubled = model.decoder(maps, None, indices)
    assert torch.equal(doubled, model.decoder(maps, sizes, indices))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "unpool-max"])
def test_without_sizes_odd_maps_work_too(variant):
    model = build(variant).eval()
    maps = model.encoder(torch.randn(1, 3, 77, 109)).maps
    expected = (77, 109)  # U-Net on VGG has a map at stride 1
    if variant.startswith(("interpolate", "transposed", "unpool")):
        expected = (77 // 32 * 32, 109 // 32 * 32)
    elif variant.startswith("fcn"):
        stride = VARIANTS[variant][1]["stride"]
        expected = (77 // stride * stride, 109 // stride * stride)
    assert model.decoder(maps).shape[-2:] == expected


@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "bed_of_nails", "transposed"])
def test_unet_climbs_to_stride_one_where_the_finest_map_is_coarser(upsample):
    decoder = UNetDecoder([8, 12, 16], [4, 8, 32], 3, upsample=upsample)
    maps = [torch.randn(2, c, 64 // s, 96 // s) for c, s in ((8, 4), (12, 8), (16, 32))]
    assert decoder(maps).shape == (2, 3, 64, 96)
    sizes = [(61, 93), (31, 47), (16, 24), (8, 12), (4, 6)]
    assert decoder(maps, sizes).shape == (2, 3, 61, 93)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("fcn-32", "fcn-16")])
def test_a_single_map_at_stride_one_needs_no_climb(variant):
    name, options = VARIANTS[variant]
    if name == "fcn":
        options = {**options, "stride": 1}
    decoder = find("decoder", name)([8], [1], CLASSES, **options)
    assert decoder([torch.randn(1, 8, 7, 5)], indices=[]).shape == (1, CLASSES, 7, 5)


# Training


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant):
    model = build(variant, encoder="vgg11_bn").train()
    logits = model(torch.randn(2, 3, 64, 96))
    F.cross_entropy(logits, torch.randint(0, CLASSES, (2, 64, 96))).backward()
    for name, parameter in model.named_parameters():
        # a batch norm cancels whatever bias the encoder's convolution before it has
        if name.startswith("encoder") and name.endswith("bias") and parameter.grad is not None:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.usefixtures("deterministic_algorithms")
def test_the_same_seed_gives_the_same_bits(variant):
    def run():
        model = build(variant, seed=3).train()
        logits = model(torch.randn(2, 3, 33, 47))
        logits.square().mean().backward()
        return [logits.detach(), *(p.grad for p in model.parameters())]

    first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], build(variant, seed=4)(torch.randn(2, 3, 33, 47)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_channels_last_gives_the_same_numbers(variant):
    model = build(variant).eval()
    image = torch.randn(2, 3, 33, 65)
    with torch.no_grad():
        expected = model(image)
        image = image.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)
        model = model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", FAMILIES)
def test_export_gives_the_same_logits(variant):
    model = build(variant).eval()
    image = torch.randn(1, 3, 33, 65)
    with torch.no_grad():
        exported = torch.export.export(model, (image,)).module()
        torch.testing.assert_close(exported(image), model(image), rtol=0, atol=1e-6)


# Symmetry: no way of climbing may shift the content


def mirrored(model: nn.Module, axis: int) -> nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.data = module.weight.data.flip(axis)
    return model


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("variant", SYMMETRIC)
def test_a_flipped_image_gives_flipped_logits_under_mirrored_kernels(variant, axis):
    model = perturb(build(variant)).double().eval()
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image).flip(axis)
        result = mirrored(model, axis)(image.flip(axis))
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_flip_passes_through_max_unpooling_where_no_pool_had_a_tie(axis):
    decoder = perturb(UnpoolDecoder([4, 6, 8], [2, 4, 8], CLASSES)).double().eval()
    before = [torch.randn(2, c, 64 // s, 96 // s).double() for c, s in ((4, 1), (6, 2), (8, 4))]

    def climb(decoder, before):
        pooled = [F.max_pool2d(x, 2, return_indices=True) for x in before]
        maps, indices = zip(*pooled, strict=True)
        return decoder(maps, None, indices)

    result = climb(mirrored(decoder, axis), [x.flip(axis) for x in before])
    torch.testing.assert_close(result, climb(decoder, before).flip(axis), rtol=1e-9, atol=1e-9)


# References, written with torch.nn.functional from the tensors of the state dict


def conv_norm_relu(x: torch.Tensor, state: dict, key: str) -> torch.Tensor:
    x = F.conv2d(x, state[f"{key}.0.weight"], state.get(f"{key}.0.bias"), padding=1)
    if f"{key}.1.weight" in state:
        parts = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(state[f"{key}.1.{part}"] for part in parts))
    return F.relu(x)


def head(x: torch.Tensor, state: dict) -> torch.Tensor:
    return F.conv2d(x, state["head.weight"], state["head.bias"])


def grown(x: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    x = x[:, :, : size[0], : size[1]]
    return F.pad(x, (0, size[1] - x.shape[3], 0, size[0] - x.shape[2]), mode=mode)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("name", ["interpolate", "transposed"])
def test_climbers_equal_a_reference(name, norm):
    decoder = find("decoder", name)([6, 24], [2, 8], CLASSES, norm=norm).double().eval()
    for key, tensor in decoder.state_dict().items():
        if ".up." not in key and tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor), alpha=0.01)
    state = decoder.state_dict()
    sizes = [(45, 50), (22, 25), (11, 12)]
    maps = [randn(2, 6, 22, 25), randn(2, 24, 5, 6)]
    x = maps[-1]
    for step, size in enumerate(reversed(sizes)):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = grown(x, size, "replicate")
        for conv in range(2):
            x = conv_norm_relu(x, state, f"steps.{step}.convs.{conv}")
    torch.testing.assert_close(decoder(maps, sizes), head(x, state), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_unet_equals_a_reference(norm):
    decoder = perturb(UNetDecoder([4, 6, 8], [1, 2, 4], CLASSES, norm=norm)).double().eval()
    state = decoder.state_dict()
    maps = [randn(2, 4, 23, 30), randn(2, 6, 11, 15), randn(2, 8, 5, 7)]
    x = maps[-1]
    for step, skip in enumerate((maps[1], maps[0])):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.cat([grown(x, skip.shape[-2:], "replicate"), skip], dim=1)
        for conv in range(2):
            x = conv_norm_relu(x, state, f"steps.{step}.convs.{conv}")
    torch.testing.assert_close(decoder(maps), head(x, state), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_segnet_equals_a_reference_with_torch_max_unpool(norm):
    decoder = UnpoolDecoder([4, 6, 8], [2, 4, 8], CLASSES, depths=[1, 2, 3], norm=norm)
    state = perturb(decoder).double().eval().state_dict()
    x, maps, indices, sizes = randn(2, 4, 45, 51), [], [], []
    for channels in (4, 6, 8):
        x = x[:, :1] * randn(1, channels, 1, 1)
        sizes.append(tuple(x.shape[-2:]))
        x, index = F.max_pool2d(x, 2, return_indices=True)
        maps.append(x)
        indices.append(index)
    x = maps[-1]
    for step, depth in enumerate((3, 2, 1)):
        x = F.max_unpool2d(x, indices[2 - step], 2, 2, output_size=sizes[2 - step])
        for conv in range(depth):
            x = conv_norm_relu(x, state, f"steps.{step}.convs.{conv}")
    torch.testing.assert_close(decoder(maps, sizes, indices), head(x, state), rtol=1e-9, atol=1e-9)


# What is built

# Badrinarayanan et al. 2017, figure 2: VGG16's thirteen convolutions, (in, out), read backwards.
SEGNET = [
    *[(512, 512), (512, 512), (512, 512)],
    *[(512, 512), (512, 512), (512, 256)],
    *[(256, 256), (256, 256), (256, 128)],
    *[(128, 128), (128, 64)],
    *[(64, 64), (64, 64)],
]


@pytest.mark.parametrize("mode", ["max", "bed_of_nails"])
def test_segnet_mirrors_the_thirteen_convolutions_of_vgg16(mode):
    with torch.device("meta"):
        decoder = UnpoolDecoder(
            [64, 128, 256, 512, 512], [2, 4, 8, 16, 32], 12, mode=mode, depths=[2, 2, 3, 3, 3]
        )
    convs = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convs] == [*SEGNET, (64, 12)]
    assert [m.kernel_size for m in convs] == [(3, 3)] * 13 + [(1, 1)]
    norms = [m.num_features for m in decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [out for _, out in SEGNET]


@pytest.mark.parametrize(
    ("cls", "joined"),
    [(InterpolateDecoder, [0, 0, 0, 0]), (UNetDecoder, [512, 256, 128, 64])],
)
def test_default_widths_halve_and_skips_add_theirs(cls, joined):
    with torch.device("meta"):
        decoder = cls([64, 128, 256, 512, 512], [1, 2, 4, 8, 16], 12)
    widths = [256, 128, 64, 32]
    ins = [512 + joined[0], 256 + joined[1], 128 + joined[2], 64 + joined[3]]
    expected = [pair for a, b in zip(ins, widths, strict=True) for pair in ((a, b), (b, b))] + [
        (32, 12)
    ]
    convs = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convs] == expected


@pytest.mark.parametrize("cls", [InterpolateDecoder, TransposedDecoder, UNetDecoder])
def test_widths_are_finest_first_and_depth_counts_convolutions(cls):
    decoder = cls([4, 8], [2, 8], 3, widths=[5, 6, 7], depth=3)
    outs = [m.out_channels for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    assert outs == [7, 7, 7, 6, 6, 6, 5, 5, 5, 3]
    assert decoder([torch.randn(1, 4, 8, 4), torch.randn(1, 8, 2, 1)]).shape == (1, 3, 16, 8)


@pytest.mark.parametrize(
    ("norm", "kind", "count"),
    [("batch", nn.BatchNorm2d, 4), ("group", nn.GroupNorm, 4), ("none", nn.BatchNorm2d, 0)],
)
def test_norms(norm, kind, count):
    decoder = InterpolateDecoder([48], [4], 3, widths=[12, 24], norm=norm)
    found = [m for m in decoder.modules() if isinstance(m, kind)]
    assert len(found) == count
    if norm == "group":
        assert [m.num_groups for m in found] == [8, 8, 4, 4]  # of 24 and 12 channels
    has_bias = [
        m[0].bias is not None for m in decoder.modules() if type(m).__name__ == "ConvNormAct"
    ]
    assert has_bias == [norm == "none"] * 4  # a norm brings its own bias
    assert decoder([torch.randn(1, 48, 2, 2)]).shape == (1, 3, 8, 8)


def test_he_initialisation():
    decoder = InterpolateDecoder([128], [2], 3, widths=[256])
    weight = decoder.steps[0].convs[0][0].weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("variant", "shown"),
    [
        ("interpolate-bicubic", "Interpolate(mode=bicubic, factor=2)"),
        ("unpool-max", "MaxUnpool()"),
        ("unpool-nails", "BedOfNails()"),
        ("transposed", "TransposedConv("),
        ("unet-nearest", "Interpolate(mode=nearest, factor=2)"),
        ("unet-transposed", "TransposedConv("),
        ("fcn-16", "Interpolate(mode=bilinear, factor=16)"),
        ("fcn-8", "TransposedConv("),
    ],
)
def test_print_shows_how_a_decoder_climbs(variant, shown):
    assert shown in str(build(variant))


@pytest.mark.parametrize(
    ("name", "options", "taps", "indices"),
    [
        ("unet", {}, ["conv1", "conv2", "conv3", "conv4", "conv5"], False),
        ("fcn", {}, ["pool3", "pool4", "pool5"], False),
        ("fcn", {"stride": 8}, ["pool3", "pool4", "pool5"], False),
        ("fcn", {"stride": 16}, ["pool4", "pool5"], False),
        ("fcn", {"stride": 32}, ["pool5"], False),
        ("interpolate", {}, ["pool5"], False),
        ("transposed", {}, ["pool5"], False),
        ("unpool", {}, ["pool1", "pool2", "pool3", "pool4", "pool5"], True),
        ("unpool", {"mode": "bed_of_nails"}, ["pool1", "pool2", "pool3", "pool4", "pool5"], False),
    ],
)
def test_vggs_taps_by_role(name, options, taps, indices):
    model = create_model(name, num_classes=2, encoder_options={"width": 1 / 64}, **options)
    pyramid = model.encoder(torch.randn(1, 3, 32, 32))
    assert [spec.name for spec in model.encoder.specs] == taps
    assert (pyramid.indices is not None) == indices


@pytest.mark.parametrize(
    ("name", "options", "wants"),
    [
        ("unet", {"depth": 1}, Wants()),
        ("fcn", {}, Wants((8, 16, 32), "after_pool")),
        ("fcn", {"stride": 32}, Wants((32,), "after_pool")),
        ("interpolate", {"mode": "nearest"}, Wants(place="after_pool", coarsest=True)),
        ("unpool", {}, Wants(place="after_pool", indices=True)),
        ("unpool", {"mode": "bed_of_nails"}, Wants(place="after_pool")),
    ],
)
def test_wants(name, options, wants):
    assert find("decoder", name).wants(**options) == wants


def test_unpool_mirrors_the_depths_it_is_told_and_takes_two_for_those_it_is_not():
    specs = [FeatureSpec("a", 8, 2, depth=1), FeatureSpec("b", 8, 8, depth=4)]
    assert UnpoolDecoder.options_from(specs) == {"depths": [1, 2, 4]}
    specs = [FeatureSpec("a", 8, 4), FeatureSpec("b", 8, 8)]
    assert UnpoolDecoder.options_from(specs) == {"depths": [2, 2, 2]}


# Refusals


def refusal(action) -> str:
    with pytest.raises(UserError) as error:
        action()
    return str(error.value)


@pytest.mark.parametrize("variant", VARIANTS)
def test_maps_of_other_channels_or_number_are_refused(variant):
    model = build(variant)
    maps, sizes, indices = model.encoder(torch.randn(1, 3, 32, 32))
    own = [m.shape[1] for m in maps]
    wrong = [*maps[:-1], torch.cat([maps[-1], maps[-1]], 1)]
    for given in (wrong, maps[:-1], [*maps, maps[-1]]):
        message = refusal(lambda given=given: model.decoder(given, sizes, indices))
        assert type(model.decoder).__name__ in message
        assert str(own) in message
        assert f"channels {[m.shape[1] for m in given]}" in message
        assert "pass the list of maps it was built for" in message


@pytest.mark.parametrize(
    ("maps", "remedy"),
    [
        (lambda: {"0": torch.zeros(1, 4, 2, 2)}, "got a dict; pass list(maps.values())"),
        (lambda: torch.zeros(1, 4, 2, 2), "got a Tensor; pass [maps]"),
        (lambda: [torch.zeros(1, 2, 3, 4)], "(N, H, W, C): pass each as m.permute(0, 3, 1, 2)"),
    ],
)
def test_what_is_no_list_of_nchw_maps_is_refused_with_the_way_to_get_one(maps, remedy):
    message = refusal(lambda: InterpolateDecoder([4], [2], 3)(maps()))
    assert "InterpolateDecoder" in message
    assert remedy in message


@pytest.mark.parametrize("cls", [find("decoder", name) for name in names("decoder")])
@pytest.mark.parametrize(
    ("channels", "strides", "part"),
    [
        ([8, 16], [16, 8], "rising powers of two"),
        ([8, 16], [8, 8], "leave out a map that repeats"),
        ([8, 16], [8, 24], "rising powers of two"),
        ([8, 16], [8], "one entry a map"),
        ([], [], "one entry a map"),
    ],
)
def test_bad_strides_are_refused_with_both_lists(cls, channels, strides, part):
    message = refusal(lambda: cls(channels, strides, 3))
    assert str(strides) in message
    assert part in message


@pytest.mark.parametrize("cls", [InterpolateDecoder, TransposedDecoder, UNetDecoder])
@pytest.mark.parametrize("widths", [[8, 8], [8, 8, 8, 8], [], [8, 0, 8], [8, -8, 8]])
def test_bad_widths_are_refused_with_the_strides_they_stand_for(cls, widths):
    message = refusal(lambda: cls([4, 8], [2, 8], 3, widths=widths))
    for part in (f"widths={widths}", "3 strides", "[1, 2, 4]", "positive"):
        assert part in message


@pytest.mark.parametrize("cls", [InterpolateDecoder, TransposedDecoder, UNetDecoder])
def test_a_depth_of_zero_is_refused(cls):
    message = refusal(lambda: cls([4, 8], [2, 8], 3, depth=0))
    assert "depth=0" in message
    assert "1 or more" in message


@pytest.mark.parametrize("depths", [[2, 2], [2] * 4, [2, 0, 2], []])
def test_unpool_refuses_bad_depths(depths):
    message = refusal(lambda: UnpoolDecoder([4, 8, 8], [2, 4, 8], 3, depths=depths))
    for part in (f"depths={depths}", "3 stages", "positive"):
        assert part in message


@pytest.mark.parametrize("count", [None, 0, 4, 6])
def test_unpool_without_the_indices_of_each_pool_says_how_to_get_them(count):
    model = build("unpool-max")
    maps, sizes, indices = model.encoder(torch.randn(1, 3, 32, 32))
    given = None if count is None else [*indices, indices[-1]][:count]
    message = refusal(lambda: model.decoder(maps, sizes, given))
    for part in ("5 pools", f"got {count or 0}", "Wants(indices=True)", "mode='bed_of_nails'"):
        assert part in message


def test_unpool_with_indices_in_the_wrong_order_names_both_shapes():
    model = build("unpool-max")
    maps, sizes, indices = model.encoder(torch.randn(1, 3, 64, 64))
    message = refusal(lambda: model.decoder(maps, sizes, indices[::-1]))
    assert str(tuple(maps[-1].shape)) in message
    assert str(tuple(indices[0].shape)) in message


@pytest.mark.parametrize("normalized", [True, False])
def test_unet_with_normalized_maps_does_not_see_their_scale(normalized):
    torch.manual_seed(0)
    decoder = UNetDecoder([4, 6, 8], [1, 2, 4], 3, normalize_maps=normalized)
    maps = [torch.rand(2, c, 32 // s, 32 // s) for c, s in ((4, 1), (6, 2), (8, 4))]
    scaled = [1000 * maps[0], 0.5 * maps[1], 30 * maps[2]]
    same = torch.allclose(decoder(maps), decoder(scaled), atol=1e-3)  # batch norm's epsilon shows
    assert same == normalized


def test_unet_refuses_to_normalize_maps_without_a_norm():
    with pytest.raises(UserError, match="needs norm='batch' or 'group'"):
        UNetDecoder([4, 6], [1, 2], 3, normalize_maps=True, norm="none")


def test_logits_smaller_than_the_image_are_refused_with_both_sizes():
    decoder = InterpolateDecoder([4], [8], 3)
    message = refusal(lambda: decoder([torch.randn(1, 4, 2, 3)], size=(17, 24)))
    for part in ("(16, 24)", "size=(17, 24)", "a multiple of 8", "recorded before each pool"):
        assert part in message


def test_unet_refuses_max_unpool_and_names_other_ways():
    message = refusal(lambda: UNetDecoder([4, 8], [1, 2], 3, upsample="max_unpool"))
    for part in ("U-Net cannot climb by max_unpool", "the decoder 'unpool'", "'bilinear'"):
        assert part in message


def test_unet_refuses_maps_whose_sizes_do_not_belong_together():
    decoder = UNetDecoder([4, 8], [1, 2], 3)
    message = refusal(lambda: decoder([torch.randn(1, 4, 33, 20), torch.randn(1, 8, 10, 10)]))
    for part in ("(20, 20)", "(33, 20)", "differ by less than 2"):
        assert part in message


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.startswith("unet")])
def test_sizes_of_another_image_are_refused(variant):
    model = build(variant)
    maps, _, indices = model.encoder(torch.randn(1, 3, 64, 64))
    sizes = [(128, 128), (64, 64), (32, 32), (16, 16), (8, 8)]
    message = refusal(lambda: model.decoder(maps, sizes, indices))
    assert "size recorded before pooling" in message


def test_too_few_recorded_sizes_are_refused():
    decoder = InterpolateDecoder([8], [8], 3)
    message = refusal(lambda: decoder([torch.randn(1, 8, 2, 2)], sizes=[(16, 16)]))
    for part in ("(16, 16)", "stride 4", "pass sizes=None"):
        assert part in message


@pytest.mark.parametrize(
    ("action", "parts"),
    [
        (lambda: UNetDecoder([8], [2], 3, upsample="bilinaer"), ["'bilinaer'", "'bilinear'"]),
        (lambda: InterpolateDecoder([8], [2], 3, mode="cubic"), ["'cubic'", "'bicubic'"]),
        (lambda: UnpoolDecoder([8], [2], 3, mode="maxx"), ["'maxx'", "'max'", "bed_of_nails"]),
        (lambda: FCNDecoder([8], [8], 3, classifier="cnv"), ["'cnv'", "'conv'", "none"]),
        (lambda: UNetDecoder([8], [2], 3, norm="bach"), ["'bach'", "'batch'", "group"]),
        (lambda: TransposedDecoder([8], [2], 3, kernel_size=3), ["kernel 3", "kernel of 4"]),
    ],
)
def test_misspelled_options_are_refused_with_the_nearest(action, parts):
    message = refusal(action)
    assert all(part in message for part in parts)


@torch.no_grad()
def test_segnet_undoes_pools_of_3x3():
    decoder = UnpoolDecoder([8, 8], [2, 4], 3, kernel_size=3).eval()
    x, maps, indices, sizes = torch.randn(1, 8, 21, 14), [], [], []
    for _ in range(2):
        sizes.append(tuple(x.shape[-2:]))
        x, argmax = F.max_pool2d(x, 3, 2, padding=1, return_indices=True)
        maps.append(x)
        indices.append(argmax)
    for step, size, argmax in zip(decoder.steps, sizes[::-1], indices[::-1], strict=True):
        grown = torch.zeros(1, 8, *size)
        for c, i, j in np.ndindex(*x.shape[1:]):
            row, column = divmod(int(argmax[0, c, i, j]), size[1])
            grown[0, c, row, column] = grown[0, c, row, column] + x[0, c, i, j]
        x = step.convs(grown)
    torch.testing.assert_close(decoder(maps, sizes, indices), decoder.head(x))
