"""The whole network from a config: wiring, options, weights, padding, refusals."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from segkit.config import ModelConfig
from segkit.errors import UserError
from segkit.features import FeatureSpec, Pyramid, Wants
from segkit.model import SegmentationModel, build_model, create_model
from segkit.registry import names, register, unregister
from segkit.upsample import BedOfNails, MaxUnpool

DECODERS = {
    "interpolate": {"name": "interpolate"},
    "unpool": {"name": "unpool"},
    "transposed": {"name": "transposed"},
    "unet": {"name": "unet"},
    "fcn": {"name": "fcn"},
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def config(decoder: str | dict = "unet", in_channels: int = 3, **encoder) -> ModelConfig:
    section = DECODERS[decoder] if isinstance(decoder, str) else decoder
    encoder = {"name": "vgg11", "width": 1 / 16, **encoder}
    return ModelConfig.model_validate(
        {"in_channels": in_channels, "encoder": encoder, "decoder": section}
    )


def convolutions(module: nn.Module) -> list[tuple[int, int]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [(m.in_channels, m.out_channels) for m in module.modules() if isinstance(m, kinds)]


# Wiring


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", [name for name in names("encoder") if "vgg" in name])
def test_every_decoder_fits_every_vgg(encoder, decoder):
    model = build_model(config(decoder, name=encoder), num_classes=7)
    assert model(torch.randn(1, 3, 33, 47)).shape == (1, 7, 33, 47)


@pytest.mark.parametrize("in_channels", [1, 3, 4])
@pytest.mark.parametrize("decoder", DECODERS)
def test_any_number_of_input_channels(decoder, in_channels):
    model = build_model(config(decoder, in_channels), num_classes=2)
    assert model(torch.randn(2, in_channels, 32, 33)).shape == (2, 2, 32, 33)
    with pytest.raises(UserError) as error:
        model(torch.randn(2, in_channels + 1, 32, 32))
    for part in (f"in_channels={in_channels}", f"(2, {in_channels + 1}, 32, 32)"):
        assert part in str(error.value)


# channels that VGG's taps have in the paper, finest first
CHANNELS = {
    "unet": [64, 128, 256, 512, 512],
    "unpool": [64, 128, 256, 512, 512],
    "fcn": [256, 512, 512],
    "interpolate": [512],
    "transposed": [512],
}
STRIDES = {
    "unet": [1, 2, 4, 8, 16],
    "unpool": [2, 4, 8, 16, 32],
    "fcn": [8, 16, 32],
    "interpolate": [32],
    "transposed": [32],
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_channels_and_strides_come_from_the_encoder(decoder):
    model = build_model(config(decoder, width=1 / 8), num_classes=2)
    assert [spec.stride for spec in model.encoder.specs] == STRIDES[decoder]
    assert list(model.decoder.in_channels) == [c // 8 for c in CHANNELS[decoder]]
    assert model.encoder.stride == STRIDES[decoder][-1]


@pytest.mark.parametrize(
    ("encoder", "stages"),
    [
        ("vgg11", [1, 1, 2, 2, 2]),
        ("vgg13", [2, 2, 2, 2, 2]),
        ("vgg16", [2, 2, 3, 3, 3]),
        ("vgg19", [2, 2, 4, 4, 4]),
    ],
)
def test_segnet_mirrors_its_encoder(encoder, stages):
    with torch.device("meta"):
        model = build_model(config("unpool", name=encoder, width=1), num_classes=12)
    down = convolutions(model.encoder)
    assert len(down) == sum(stages)
    mirror = [(out, into) for into, out in reversed(down)]
    mirror[-1] = (64, 64)  # where the encoder has the image's channels, a 1x1 head follows
    assert convolutions(model.decoder) == [*mirror, (64, 12)]


def test_segnet_takes_depths_from_the_config_where_given():
    section = {"name": "unpool", "depths": [1, 1, 1, 1, 2]}
    model = build_model(config(section), num_classes=12)
    assert len(convolutions(model.decoder)) == 6 + 1


@pytest.mark.parametrize(("mode", "kind"), [("max", MaxUnpool), ("bed_of_nails", BedOfNails)])
def test_only_max_unpooling_asks_the_encoder_for_indices(mode, kind):
    model = build_model(config({"name": "unpool", "mode": mode}), num_classes=2)
    assert (model.encoder(torch.randn(1, 3, 32, 32)).indices is not None) == (mode == "max")
    assert sum(isinstance(m, kind) for m in model.modules()) == 5


@pytest.mark.parametrize(
    ("section", "shown", "count"),
    [
        ({"name": "unet", "upsample": "nearest"}, "Interpolate(mode=nearest, factor=2)", 4),
        ({"name": "unet", "depth": 1, "widths": [5, 6, 7, 8]}, "Conv2d(5, 3, kernel", 1),
        ({"name": "unet", "norm": "group"}, "GroupNorm", 8),
        ({"name": "unet", "norm": "none"}, "Norm2d", 0),
        ({"name": "interpolate", "mode": "bicubic"}, "Interpolate(mode=bicubic, factor=2)", 5),
        ({"name": "transposed", "kernel_size": 6}, "kernel_size=(6, 6), stride=(2, 2)", 5),
        ({"name": "fcn", "stride": 32}, "Interpolate(mode=bilinear, factor=32)", 1),
        ({"name": "fcn", "classifier": "conv", "classifier_width": 9}, "Conv2d(32, 9, kernel_s", 1),
        ({"name": "fcn", "classifier": "conv", "dropout": 0.25}, "Dropout2d(p=0.25", 2),
    ],
)
def test_decoder_options_reach_the_decoder(section, shown, count):
    if section.get("classifier") == "conv":
        section = {"classifier_width": 16, **section}
    model = build_model(config(section), num_classes=3)
    leaves = [str(m) for m in model.decoder.modules() if not list(m.children())]
    assert sum(shown in leaf for leaf in leaves) == count


@pytest.mark.parametrize(
    ("options", "shown"),
    [({"norm": "group"}, "GroupNorm"), ({"norm": "batch"}, "Norm2d"), ({"pool": "avg"}, "AvgPool")],
)
def test_encoder_options_reach_the_encoder(options, shown):
    assert shown in str(build_model(config(**options), num_classes=2).encoder)
    assert shown not in str(build_model(config(), num_classes=2).encoder)


def test_frozen_stages_get_no_gradient():
    model = build_model(config(frozen_stages=1), num_classes=2)
    model(torch.randn(1, 3, 32, 32)).mean().backward()
    frozen = [name for name, p in model.named_parameters() if p.grad is None]
    assert frozen == ["encoder.features.0.weight", "encoder.features.0.bias"]


def test_no_tensor_is_in_the_state_twice():
    for decoder in DECODERS:
        state = build_model(config(decoder, name="vgg11_bn"), num_classes=2).state_dict()
        places = [tensor.data_ptr() for tensor in state.values()]
        assert len(places) == len(set(places))
        assert all(key.startswith(("encoder.", "decoder.")) for key in state)


# What goes through the door


class Recorder(nn.Module):
    """An encoder that remembers what it was given, and a decoder that gives it back."""

    stride = 8

    def forward(self, x, sizes=None, indices=None):
        if isinstance(x, list):
            return x[0]
        self.seen = x
        return Pyramid([x], [x.shape[-2:]])


@pytest.mark.parametrize(
    ("size", "padded"),
    [((8, 16), (8, 16)), ((1, 1), (8, 8)), ((9, 16), (16, 16)), ((15, 23), (16, 24))],
)
def test_padding_is_zeros_at_the_bottom_and_right_up_to_the_stride(size, padded):
    recorder = Recorder()
    image = torch.randn(2, 3, *size)
    logits = SegmentationModel(recorder, recorder)(image)
    assert torch.equal(logits, image)
    assert recorder.seen.shape[-2:] == padded
    assert torch.equal(recorder.seen[:, :, : size[0], : size[1]], image)
    assert recorder.seen.abs().sum() == pytest.approx(image.abs().sum().item(), rel=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_compiles_without_a_graph_break(decoder):
    torch._dynamo.reset()
    model = build_model(config(decoder), num_classes=3).eval()
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(image), model(image), rtol=0, atol=1e-6)


def test_torch_func_sees_the_gradients_of_backward():
    model = build_model(config(), num_classes=3).eval()
    image = torch.randn(1, 3, 33, 47)
    weights = dict(model.named_parameters())
    result = torch.func.grad(lambda w: functional_call(model, w, image).square().mean())(weights)
    model(image).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.any(), name
        torch.testing.assert_close(result[name], parameter.grad)


@pytest.mark.parametrize("decoder", DECODERS)
def test_forward_leaves_train_and_eval_mode_alone(decoder):
    model = build_model(config(decoder, name="vgg11_bn"), num_classes=3)
    for mode in (True, False):
        model.train(mode)
        model(torch.randn(2, 3, 64, 64))
        assert all(m.training == mode for m in model.modules())


# Weights


def features_file(folder, decoder: str | dict = "unet"):
    """A weight file with torchvision's key names for the tiny VGG, and what it holds."""
    state = {
        key: torch.randn_like(value)
        for key, value in build_model(config(decoder), 2).encoder.state_dict().items()
    }
    torch.save(state, folder / "vgg.pth")
    return folder / "vgg.pth", state


def test_encoder_weights_are_loaded_from_a_file(tmp_path):
    path, state = features_file(tmp_path)
    model = build_model(config(weights=str(path)), num_classes=2)
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("weights", ["imagenet", "nowhere/vgg.pth"])
def test_a_checkpoint_needs_no_weight_files(weights, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    section = {"name": "fcn", "classifier": "conv", "classifier_width": 4}
    section["classifier_weights"] = weights
    build_model(config(section, weights=weights), num_classes=2, load_weights=False)


def test_a_missing_weight_file_is_named():
    with pytest.raises(UserError, match=r"nowhere/vgg\.pth"):
        build_model(config(weights="nowhere/vgg.pth"), num_classes=2)


def test_the_classifier_is_loaded_from_a_file(tmp_path):
    state = {
        f"classifier.{number}.{part}": torch.randn(shape if part == "weight" else shape[:1])
        for number, shape in {"0": (6, 32 * 49), "3": (6, 6), "6": (5, 6)}.items()
        for part in ("weight", "bias")
    }
    torch.save(state, tmp_path / "vgg.pth")
    section = {"name": "fcn", "classifier": "conv", "classifier_width": 6}
    section["classifier_weights"] = str(tmp_path / "vgg.pth")
    decoder = build_model(config(section), num_classes=5).decoder
    loaded = {"0": decoder.classifier[0], "3": decoder.classifier[3], "6": decoder.score}
    for number, layer in loaded.items():
        weight = state[f"classifier.{number}.weight"]
        assert torch.equal(layer.weight, weight.reshape(layer.weight.shape))
        assert torch.equal(layer.bias, state[f"classifier.{number}.bias"])


def test_classifier_weights_without_a_classifier_are_refused(tmp_path):
    path, _ = features_file(tmp_path)
    section = {"name": "fcn", "classifier_weights": str(path)}
    with pytest.raises(UserError, match="needs classifier='conv'"):
        build_model(config(section), num_classes=2)


# Refusals


@pytest.mark.parametrize("num_classes", [1, 0, -3])
def test_fewer_than_two_classes_are_refused(num_classes):
    with pytest.raises(UserError) as error:
        build_model(config(), num_classes)
    for part in (f"num_classes is {num_classes};", "two or more", "background and foreground"):
        assert part in str(error.value)


def test_max_unpooling_needs_max_pooling():
    with pytest.raises(UserError, match="pool='max', but got pool='avg'"):
        build_model(config("unpool", pool="avg"), num_classes=2)
    nails = {"name": "unpool", "mode": "bed_of_nails"}
    build_model(config(nails, pool="avg"), num_classes=2)


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ({"name": "unet", "widths": [8, 8]}, "4 strides [1, 2, 4, 8]"),
        ({"name": "interpolate", "widths": [8, 8]}, "5 strides [1, 2, 4, 8, 16]"),
        ({"name": "unpool", "depths": [2, 2]}, "5 stages"),
        ({"name": "fcn", "stride": 4}, "8, 16 or 32, not 4"),
        ({"name": "transposed", "kernel_size": 5}, "use a kernel of 4"),
        ({"name": "unet", "depth": 0}, "depth of 1 or more"),
    ],
)
def test_options_that_do_not_fit_the_encoder_are_refused(section, part):
    with pytest.raises(UserError) as error:
        build_model(config(section), num_classes=2)
    assert part in str(error.value)


# Parts of somebody else


class Strided(nn.Module):
    """An encoder without pools: one map a stride, from 2 to 16."""

    def __init__(self, wants: Wants, in_channels: int = 3, *, width: int = 4) -> None:
        super().__init__()
        strides = [2, 4, 8, 16]
        chosen = wants.choose(strides)
        if wants.indices:
            raise UserError("this encoder has no pools, so it has no indices")
        self.convs = nn.ModuleList(
            nn.Conv2d(a, width, 3, 2, 1) for a in [in_channels, width, width, width]
        )
        self.specs = [FeatureSpec(f"map{s}", width, s) for s in chosen]
        self.stride = 16
        self.taken = [strides.index(s) for s in chosen]

    def forward(self, x):
        maps, sizes = [], []
        for conv in self.convs:
            sizes.append(tuple(x.shape[-2:]))
            x = conv(x).relu()
            maps.append(x)
        return Pyramid([maps[i] for i in self.taken], sizes)


class Plain(nn.Module):
    """A decoder without a base class and without wishes."""

    def __init__(self, in_channels, strides, num_classes, *, scale: float = 1.0, must: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(in_channels[0], num_classes, 1)
        self.stride = strides[0]

    def forward(self, maps, sizes=None, indices=None):
        return (
            self.head(maps[0]).repeat_interleave(self.stride, 2).repeat_interleave(self.stride, 3)
        )


@pytest.fixture
def own_parts():
    register("encoder", "strided")(Strided)
    register("decoder", "plain")(Plain)
    yield
    unregister("encoder", "strided")
    unregister("decoder", "plain")


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize(
    ("decoder", "options", "strides"),
    [
        ("unet", {}, [2, 4, 8, 16]),
        ("interpolate", {}, [16]),
        ("transposed", {}, [16]),
        ("unpool", {"mode": "bed_of_nails"}, [2, 4, 8, 16]),
        ("plain", {"must": 1}, [2, 4, 8, 16]),
    ],
)
def test_an_encoder_of_somebody_else_serves_every_decoder(decoder, options, strides):
    model = create_model(decoder, "strided", num_classes=5, in_channels=2, **options)
    assert [spec.stride for spec in model.encoder.specs] == strides
    assert model(torch.randn(1, 2, 33, 47)).shape == (1, 5, 33, 47)


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: create_model("unpool", "strided", num_classes=2), ["no pools"]),
        (lambda: create_model("fcn", "strided", num_classes=2), ["[8, 16, 32]", "[2, 4, 8, 16]"]),
        (
            lambda: create_model("unet", "strided", num_classes=2, weights="imagenet"),
            ["weights is imagenet", "Strided has no method load_weights", "weights: null"],
        ),
        (
            lambda: create_model(
                "fcn",
                "strided",
                num_classes=2,
                classifier="conv",
                classifier_weights="a.pth",
            ),
            ["[8, 16, 32]"],
        ),
        (lambda: create_model("plain", num_classes=2), ["decoder 'plain' needs the option must"]),
        (
            lambda: create_model("plain", num_classes=2, must=1, scael=2),
            ["unknown option of the decoder 'plain' 'scael'", "'scale'"],
        ),
        (
            lambda: create_model("unet", num_classes=2, encoder_options={"in_channels": 1}),
            ["option of the encoder 'vgg16' 'in_channels'"],
        ),
        (lambda: create_model("unett", num_classes=2), ["unknown decoder 'unett'", "'unet'"]),
        (lambda: create_model("unet", "vgg61", num_classes=2), ["unknown encoder 'vgg61'"]),
        (lambda: create_model("unet", num_classes=1), ["num_classes is 1"]),
    ],
)
def test_what_does_not_fit_is_refused_in_python_too(build, words):
    with pytest.raises(UserError) as error:
        build()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_python_and_yaml_build_the_same_network(tmp_path):
    path, _ = features_file(tmp_path)
    torch.manual_seed(3)
    wanted = build_model(config({"name": "unet", "depth": 1}, weights=str(path)), num_classes=4)
    torch.manual_seed(3)
    given = create_model(
        "unet",
        "vgg11",
        num_classes=4,
        weights=str(path),
        encoder_options={"width": 1 / 16},
        depth=1,
    )
    pairs = zip(given.state_dict().items(), wanted.state_dict().items(), strict=True)
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)
