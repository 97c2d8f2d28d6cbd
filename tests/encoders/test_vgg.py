from __future__ import annotations

import copy
import inspect
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models.vgg as reference
from torch import Tensor, nn

from segkit.channels_last import GroupNorm
from segkit.encoders import VGGEncoder
from segkit.encoders.vgg_layout import NAMES
from segkit.errors import UserError
from segkit.features import Wants
from segkit.registry import find

TAPS = [f"{kind}{k}" for k in range(1, 6) for kind in ("conv", "pool")]
CONVS, POOLS = TAPS[::2], TAPS[1::2]
TORCHVISION = {  # name -> torchvision's own configuration letter
    name + suffix: letter
    for name, letter in {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}.items()
    for suffix in ("", "_bn")
}


def tiny(name: str = "vgg11", **options) -> VGGEncoder:
    torch.manual_seed(0)
    return VGGEncoder(name, **{"width": 1 / 8, **options})


def random_statistics(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)


def taps_of(features: nn.Sequential, x: Tensor) -> list[Tensor]:
    """All ten taps, read off torchvision's layers: around each pool."""
    maps = []
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            pooled = layer(x)
            maps += [x, pooled]
            x = pooled
        else:
            x = layer(x.clone())
    return maps


# ---------------------------------------------------------------- the family


@pytest.mark.parametrize("name", TORCHVISION)
@torch.no_grad()
def test_every_tap_is_torchvisions(name):
    torch.manual_seed(1)
    theirs = reference.make_layers(reference.cfgs[TORCHVISION[name]], name.endswith("_bn"))
    random_statistics(theirs)
    ours = VGGEncoder(name, taps=TAPS)
    ours.features.load_state_dict(theirs.state_dict())  # strict: the very same keys
    ours.eval()
    theirs.eval()
    for size in [(64, 96), (67, 45)]:
        x = torch.randn(1, 3, *size)
        before = x.clone()
        maps = ours(x).maps
        expected = taps_of(theirs, x)
        assert len(maps) == 10
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
        assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg11", 9_220_480),
        ("vgg11_lrn", 9_220_480),
        ("vgg13", 9_404_992),
        ("vgg16", 14_714_688),
        ("vgg19", 20_024_384),
        ("vgg16_bn", 14_723_136),
        # configuration C: D less 8 * C^2 weights in each of the three 1x1 layers
        ("vgg16_1x1", 14_714_688 - 8 * (256**2 + 2 * 512**2)),
    ],
)
def test_parameter_counts(name, count):
    with torch.device("meta"):
        encoder = VGGEncoder(name)
    assert sum(p.numel() for p in encoder.parameters()) == count


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("vgg11", (1, 1, 2, 2, 2)),
        ("vgg13", (2, 2, 2, 2, 2)),
        ("vgg16", (2, 2, 3, 3, 3)),
        ("vgg16_1x1", (2, 2, 3, 3, 3)),
        ("vgg19", (2, 2, 4, 4, 4)),
    ],
)
def test_depths(name, depths):
    for taps in (CONVS, POOLS, ["pool3"]):
        specs = tiny(name, taps=taps).specs
        assert [spec.depth for spec in specs] == [depths[int(spec.name[-1]) - 1] for spec in specs]


def test_configuration_c_ends_its_last_stages_with_1x1():
    kernels = [m.kernel_size[0] for m in tiny("vgg16_1x1").modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    maps = tiny("vgg16_1x1", taps=TAPS)(torch.randn(1, 3, 45, 67)).maps
    expected = [(45 >> k, 67 >> k) for k in (0, 1, 1, 2, 2, 3, 3, 4, 4, 5)]
    assert [tuple(m.shape[-2:]) for m in maps] == expected


def test_lrn_is_the_formula_and_keeps_vgg11s_keys():
    plain, lrn = tiny("vgg11", width=1), tiny("vgg11_lrn", width=1)
    lrn.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 16, 16) * 500  # large values, or the formula would be a constant
    a = plain(x).maps[0].detach().double().numpy()
    squares = np.zeros_like(a)
    for c in range(64):
        squares[:, c] = (a[:, max(0, c - 2) : c + 3] ** 2).sum(1)
    expected = a / (2 + 1e-4 / 5 * squares) ** 0.75
    assert np.ptp(squares) > 1e4
    np.testing.assert_allclose(lrn(x).maps[0].detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert sum(isinstance(m, nn.LocalResponseNorm) for m in lrn.modules()) == 1


def test_initialisation_is_kaiming_fan_out():
    torch.manual_seed(0)
    encoder = VGGEncoder("vgg11_bn", taps=["conv3"])
    for layer in encoder.features:
        if isinstance(layer, nn.Conv2d):
            std = (2 / (layer.out_channels * 9)) ** 0.5
            assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
            assert not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert not layer.bias.any()


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", NAMES)
def test_specs_announce_the_maps(name):
    encoder = tiny(name, taps=TAPS).eval()
    maps = encoder(torch.randn(1, 3, 64, 96)).maps
    assert [spec.name for spec in encoder.specs] == TAPS
    assert [spec.channels for spec in encoder.specs] == [m.shape[1] for m in maps]
    strides = [1, 2, 2, 4, 4, 8, 8, 16, 16, 32]
    assert [spec.stride for spec in encoder.specs] == strides
    assert [(64 // m.shape[2], 96 // m.shape[3]) for m in maps] == [(s, s) for s in strides]


@pytest.mark.parametrize(
    ("taps", "order", "stride", "pools"),
    [
        (["conv4", "pool3"], ["pool3", "conv4"], 8, 3),
        (["pool5", "pool4", "pool3"], ["pool3", "pool4", "pool5"], 32, 5),
        (["conv1"], ["conv1"], 1, 0),
        (["pool1"], ["pool1"], 2, 1),
        (CONVS, CONVS, 16, 4),
        (("pool5",), ["pool5"], 32, 5),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_maps_come_in_the_order_of_the_network(taps, order, stride, pools, checkpointing):
    encoder = tiny(taps=taps, checkpointing=checkpointing)
    full = tiny(taps=TAPS)
    full.load_state_dict(encoder.state_dict(), strict=False)
    x = torch.randn(2, 3, 67, 45)
    pyramid = encoder(x)
    assert [spec.name for spec in encoder.specs] == order
    assert encoder.stride == stride
    everything = dict(zip(TAPS, full(x).maps, strict=True))
    assert all(torch.equal(m, everything[n]) for n, m in zip(order, pyramid.maps, strict=True))
    assert pyramid.sizes == [(67 >> k, 45 >> k) for k in range(pools)]
    assert pyramid.indices is None


@pytest.mark.parametrize(
    ("tap", "layers"), [("conv1", 4), ("pool1", 5), ("conv5", 30), ("pool5", 31)]
)
def test_nothing_behind_the_deepest_tap_is_built(tap, layers):
    assert len(tiny("vgg16", taps=[tap]).features) == layers


@torch.no_grad()
def test_maps_not_asked_for_are_let_go():
    encoder = tiny(taps=["pool3", "pool5"]).eval()
    seen: dict[int, weakref.ref[Tensor]] = {}
    for i, layer in enumerate(encoder.features):
        layer.register_forward_hook(lambda _m, _x, out, i=i: seen.__setitem__(i, weakref.ref(out)))
    pyramid = encoder(torch.randn(1, 3, 64, 64))
    assert all(layer.inplace for layer in encoder.features if isinstance(layer, nn.ReLU))
    alive = [out() for out in seen.values() if out() is not None]
    assert len(seen) == len(encoder.features)
    # the in-place ReLU returns the very tensor it was given, so only the two pools may be left
    assert len(alive) == 2
    assert all(any(a is m for m in pyramid.maps) for a in alive)


@pytest.mark.parametrize("name", NAMES)
def test_factories_can_be_introspected(name):
    parameters = inspect.signature(find("encoder", name)).parameters
    options = ["pool", "activation", "dilate", "norm", "width", "checkpointing", "frozen_stages"]
    assert list(parameters) == ["wants", "in_channels", *options]
    assert all(parameters[option].kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    norms = {m.__class__ for m in find("encoder", name)(width=1 / 64).modules()}
    assert (nn.BatchNorm2d in norms) == name.endswith("_bn")


@pytest.mark.parametrize(
    ("wants", "taps"),
    [
        (Wants(), CONVS),
        (Wants(place="after_pool", indices=True), POOLS),
        (Wants((4, 16)), ["conv3", "conv5"]),
        (Wants((16, 4), "after_pool"), ["pool2", "pool4"]),
        (Wants(coarsest=True), ["conv5"]),
        (Wants(place="after_pool", coarsest=True), ["pool5"]),
        (Wants((2, 8), "after_pool", coarsest=True), ["pool3"]),
    ],
)
def test_a_role_becomes_taps(wants, taps):
    encoder = find("encoder", "vgg11")(wants, 2, width=1 / 64)
    assert [spec.name for spec in encoder.specs] == list(taps)
    indices = encoder(torch.randn(1, 2, 32, 32)).indices
    assert (indices is not None) == wants.indices


@pytest.mark.parametrize(
    ("wants", "words"),
    [
        (Wants((1, 2), "after_pool"), ["[1, 2] after a pool", "[2, 4, 8, 16, 32]"]),
        (Wants((32,)), ["[32] before a pool", "[1, 2, 4, 8, 16]"]),
        (Wants(()), ["strides []"]),
    ],
)
def test_strides_that_a_vgg_does_not_have_are_refused(wants, words):
    with pytest.raises(UserError) as caught:
        find("encoder", "vgg11")(wants)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("size", [(64, 96), (67, 45), (32, 32)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_indices_are_max_pool2ds(size, checkpointing):
    encoder = tiny(taps=TAPS, return_indices=True, checkpointing=checkpointing)
    pyramid = encoder(torch.randn(2, 3, *size))
    assert len(pyramid.indices) == len(pyramid.sizes) == 5
    for conv, pooled, indices, shape in zip(
        pyramid.maps[::2], pyramid.maps[1::2], pyramid.indices, pyramid.sizes, strict=True
    ):
        values, expected = F.max_pool2d(conv, 2, 2, return_indices=True)
        assert torch.equal(indices, expected)
        assert torch.equal(pooled, values)
        assert shape == tuple(conv.shape[-2:])


def test_indices_stop_with_the_pools():
    assert len(tiny(return_indices=True)(torch.randn(1, 3, 32, 32)).indices) == 4
    assert tiny(taps=["conv1"], return_indices=True)(torch.randn(1, 3, 9, 9)).indices == []


def test_average_pooling():
    maps = tiny(taps=TAPS, pool="avg")(torch.randn(1, 3, 67, 45)).maps
    for conv, pooled in zip(maps[::2], maps[1::2], strict=True):
        h, w = pooled.shape[-2:]
        mean = conv[:, :, : 2 * h, : 2 * w].unflatten(3, (w, 2)).unflatten(2, (h, 2)).mean((3, 5))
        torch.testing.assert_close(pooled, mean)


@pytest.mark.parametrize("width", [1 / 8, 1 / 64, 1e-6, 0.3, 1.5])
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_widths_and_norms(width, norm):
    encoder = tiny(width=width, norm=norm, taps=["conv3"])
    channels = max(1, round(256 * width))
    assert encoder.specs[0].channels == channels
    pyramid = encoder(torch.randn(2, 3, 8, 8))
    pyramid.maps[0].sum().backward()
    assert pyramid.maps[0].shape == (2, channels, 2, 2)
    kinds = {"none": (), "batch": (nn.BatchNorm2d,), "group": (nn.GroupNorm,)}
    assert sum(isinstance(m, kinds[norm]) for m in encoder.modules()) == (norm != "none") * 4


def test_group_norm_follows_each_convolution_and_takes_one_small_image():
    encoder = tiny("vgg16", norm="group", taps=["pool5"])
    kinds = [type(layer) for layer in encoder.features[:4]]
    assert kinds == [nn.Conv2d, GroupNorm, nn.ReLU, nn.Conv2d]
    with torch.device("meta"):
        full = VGGEncoder("vgg16", norm="group")
    assert {m.num_groups for m in full.modules() if isinstance(m, nn.GroupNorm)} == {32}
    x = torch.randn(2, 3, 32, 32)
    both = encoder(x).maps[0]
    alone = encoder(x[:1]).maps[0]
    torch.testing.assert_close(both[:1], alone)  # unlike batch norm, images do not mix


@pytest.mark.parametrize("in_channels", [1, 2, 3, 7])
def test_in_channels(in_channels):
    encoder = tiny(in_channels=in_channels)
    assert encoder.features[0].weight.shape[1] == in_channels
    assert encoder(torch.randn(1, in_channels, 16, 16)).maps[0].shape == (1, 8, 16, 16)


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("frozen", [0, 2])
def test_checkpointing_changes_no_bit(norm, mode, frozen):
    plain = tiny("vgg13", taps=["conv2", "pool3", "pool5"], norm=norm, frozen_stages=frozen)
    saving = copy.deepcopy(plain)
    saving.checkpointing = True
    x = torch.randn(3, 3, 64, 45)
    for encoder in (plain, saving):
        encoder.train(mode)
        for _ in range(2):  # the second pass starts from the statistics of the first
            sum(m.square().mean() for m in encoder(x).maps).backward()
    state = plain.state_dict()
    assert all(torch.equal(state[k], v) for k, v in saving.state_dict().items())
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert a.requires_grad == (a.grad is not None)
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad)
    counts = [v.item() for k, v in state.items() if k.endswith("num_batches_tracked")]
    assert counts == [2 * mode * (i >= 2 * frozen) for i in range(len(counts))]


def test_checkpointing_stores_less():
    def stored(encoder: VGGEncoder) -> int:
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: shapes.append(t.numel()) or t, lambda t: t
        ):
            encoder(torch.randn(1, 3, 64, 64, requires_grad=True))
        return sum(shapes)

    plain = tiny("vgg16", taps=["pool5"], norm="batch")
    saving = tiny("vgg16", taps=["pool5"], norm="batch", checkpointing=True)
    assert stored(saving) < stored(plain) / 4


@pytest.mark.parametrize("frozen", range(6))
def test_frozen_stages_neither_learn_nor_count(frozen):
    encoder = tiny("vgg16_bn", taps=["pool5"], frozen_stages=frozen)
    before = copy.deepcopy(encoder.state_dict())
    encoder.eval()
    assert encoder.train() is encoder
    assert encoder.training
    optimiser = torch.optim.SGD(
        [p for p in encoder.parameters() if p.requires_grad] or [nn.Parameter(torch.zeros(1))],
        lr=0.1,
    )
    maps = encoder(torch.randn(2, 3, 64, 64)).maps
    if frozen < 5:
        maps[0].square().mean().backward()
    optimiser.step()
    layers_of_stages = np.cumsum([2 * 3 + 1, 2 * 3 + 1, 3 * 3 + 1, 3 * 3 + 1, 3 * 3 + 1])
    boundary = 0 if frozen == 0 else layers_of_stages[frozen - 1]
    for key, value in encoder.state_dict().items():
        moved = not torch.equal(value, before[key])
        # a convolution's bias has no gradient but rounding when batch norm follows it
        if int(key.split(".")[1]) < boundary:
            assert not moved, key
        elif "running" in key or "tracked" in key or value.ndim == 4:
            assert moved, key


def test_freezing_more_stages_than_were_built_freezes_all():
    encoder = tiny(taps=["conv2"], frozen_stages=5)
    assert not any(p.requires_grad for p in encoder.parameters())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "vgg61"}, ["unknown encoder 'vgg61'", "vgg16"]),
        ({"taps": ["conv5", "conv6"]}, ["unknown tap 'conv6'", "did you mean", "pool5"]),
        ({"taps": []}, ["at least one"]),
        ({"taps": ["conv1", "conv1"]}, ["each one once", "conv1"]),
        ({"taps": "conv5"}, ["list", "['conv5']"]),
        ({"in_channels": 0}, ["in_channels", "0"]),
        ({"in_channels": -3}, ["in_channels", "-3"]),
        ({"width": 0}, ["width", "0"]),
        ({"width": -0.5}, ["width", "-0.5"]),
        ({"width": float("nan")}, ["width", "nan"]),
        ({"frozen_stages": 6}, ["frozen_stages", "0 to 5", "6"]),
        ({"frozen_stages": -1}, ["frozen_stages", "-1"]),
        ({"pool": "maxx"}, ["unknown pool 'maxx'", "'max'"]),
        ({"norm": "bach"}, ["unknown norm 'bach'", "'batch'"]),
        ({"pool": "avg", "return_indices": True}, ["return_indices", "'avg'", "'max'"]),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(UserError) as caught:
        tiny(**options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 4, 32, 32), ["in_channels=3", "(1, 4, 32, 32)"]),
        ((3, 32, 32), ["in_channels=3", "(3, 32, 32)"]),
        ((1, 3, 15, 32), ["15x32", "16"]),
        ((1, 3, 32, 15), ["32x15", "16"]),
    ],
)
def test_bad_inputs_are_refused(shape, words):
    with pytest.raises(UserError) as caught:
        tiny()(torch.zeros(shape))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_smallest_inputs_pass():
    assert tiny()(torch.zeros(1, 3, 16, 17)).maps[-1].shape[-2:] == (1, 1)
    assert tiny(taps=["pool5"])(torch.zeros(1, 3, 33, 32)).maps[-1].shape[-2:] == (1, 1)


@torch.no_grad()
@pytest.mark.parametrize(
    ("dilate", "pools", "convs"), [(16, [30], []), (8, [23, 30], [24, 26, 28])]
)
def test_a_dilated_vgg_is_torchvision_s_with_later_pools_taken_out(dilate, pools, convs):
    torch.manual_seed(0)
    theirs = reference.vgg16(weights=None).features.eval()
    ours = find("encoder", "vgg16")(dilate=dilate).eval()
    ours.features.load_state_dict(theirs[: len(ours.features)].state_dict())
    for number in pools:
        theirs[number] = nn.Identity()
    for number in convs:
        theirs[number].dilation = theirs[number].padding = (2, 2)
    image = torch.randn(1, 3, 64, 96)
    assert [spec.stride for spec in ours.specs] == [s for s in (1, 2, 4, 8, 16) if s <= dilate]
    maps = ours(image).maps
    assert maps[-1].shape[-2:] == (64 // dilate, 96 // dilate)
    assert torch.equal(maps[-1], theirs(image))


@pytest.mark.parametrize("place", ["before_pool", "after_pool"])
def test_dilated_encoders_answer_decoders(place):
    encoder = find("encoder", "vgg11")(Wants(place=place), dilate=8, width=1 / 16)
    assert encoder.specs[-1].name == ("conv5" if place == "before_pool" else "pool5")
    assert encoder.stride == 8


@pytest.mark.parametrize(
    ("activation", "function"),
    [("leaky_relu", F.leaky_relu), ("gelu", F.gelu), ("silu", F.silu)],
)
def test_another_activation(activation, function):
    encoder = find("encoder", "vgg11")(Wants((1,)), activation=activation, width=1 / 16)
    image = torch.randn(1, 3, 8, 8)
    [found] = encoder(image).maps
    torch.testing.assert_close(found, function(encoder.features[0](image)))
    with pytest.raises(UserError, match="with ReLU and its own norm"):
        encoder.load_weights("imagenet")


def test_taps_of_one_stride_are_refused():
    with pytest.raises(UserError, match="leave out those that repeat one"):
        VGGEncoder("vgg16", ["conv4", "conv5"], dilate=8)
