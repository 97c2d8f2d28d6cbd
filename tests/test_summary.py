"""The cost of networks against published numbers, formulas and what autograd keeps."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from segkit.config import load_config
from segkit.decoders import MANetDecoder
from segkit.errors import UserError
from segkit.features import Pyramid, Wants
from segkit.model import SegmentationModel, build_model
from segkit.receptive_field import Reach, reach_of
from segkit.registry import find
from segkit.summary import shown_layers, summarize, summary_json, totals

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*_vgg16.yaml"))
FIRST = ("camvid_unet", "unet_", "unpool", "transposed", "fcn8s", "deeplabv3_", "manet")
EACH = [
    pytest.param(config, marks=() if config.stem.startswith(FIRST) else pytest.mark.slow)
    for config in CONFIGS
]
PARAMETERS = {  # of torchvision's features, and with the classifier
    "vgg11": (9_220_480, 132_863_336),
    "vgg13": (9_404_992, 133_047_848),
    "vgg16": (14_714_688, 138_357_544),
    "vgg19": (20_024_384, 143_667_240),
    "vgg16_bn": (14_723_136, 138_365_992),
}


class Features(nn.Module):
    """An encoder's last map."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.encoder = find("encoder", name)(Wants((32,), "after_pool"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x).maps[-1]


def tiny(config: Path, *overrides: str) -> SegmentationModel:
    small = ["model.encoder.width=0.1"]
    decoder = load_config(config).model.decoder.model_dump()
    small += [f"model.decoder.{key}=8" for key in ("width", "pyramid_width") if key in decoder]
    if widths := decoder.get("widths"):
        small.append(f"model.decoder.widths={[4] * len(widths)}")
    model = load_config(config, [*small, *overrides]).model
    return build_model(model, 5, load_weights=False)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameter_counts(name):
    with torch.device("meta"):
        model = Features(name)
    summary = summarize(model, 3, (64, 64))
    assert summary.parameters == summary.encoder_parameters == PARAMETERS[name][0]
    assert sum(layer.parameters for layer in summary.layers) == PARAMETERS[name][0]


def test_published_macs_and_maps_of_vgg16():
    with torch.device("meta"):
        model = Features("vgg16")
    summary = summarize(model, 3, (224, 224))
    assert summary.layers[-1].shape == (512, 7, 7)
    assert summary.macs == summary.encoder_macs == 15_346_630_656  # the convolutions
    classifier = 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000
    assert round((summary.macs + classifier) / 1e9, 2) == 15.47  # as published, with the classifier
    assert summary.field == 212


def test_torchvision_counts_the_same():
    models = pytest.importorskip("torchvision.models")
    published = models.VGG16_Weights.IMAGENET1K_V1.meta
    with torch.device("meta"):
        model = models.vgg16(weights=None)
    summary = summarize(model, 3, (224, 224))
    assert summary.parameters == published["num_params"] == PARAMETERS["vgg16"][1]
    assert round(summary.macs / 1e9, 2) == published["_ops"]
    assert summary.encoder_macs == summary.encoder_parameters == 0
    assert summary.field == math.inf  # the classifier's


@pytest.mark.parametrize("config", EACH, ids=lambda c: c.stem)
def test_macs_are_those_of_the_formula(config):
    model = tiny(config)
    macs = {}

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        grid = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        macs[module] = grid.shape[-2] * grid.shape[-1] * module.weight.numel()

    hooks = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 50, 70))
    for hook in hooks:
        hook.remove()
    summary = summarize(model, 3, (50, 70))
    between = 0  # pixels that attend to each other, of a map at stride 16
    if isinstance(model.decoder, MANetDecoder):
        of = model.decoder.attention
        between = (4 * 5) ** 2 * (of.query.out_channels + of.value.out_channels)
    assert summary.macs == sum(macs.values()) + between
    named = dict(model.named_modules())
    assert all(layer.macs == macs.get(named[layer.name], 0) for layer in summary.layers)
    of_encoder = sum(macs.get(module, 0) for module in model.encoder.modules())
    assert (summary.encoder_macs, summary.decoder_macs) == (of_encoder, summary.macs - of_encoder)


@pytest.mark.parametrize("config", EACH, ids=lambda c: c.stem)
def test_the_rest_of_a_shipped_network(config):
    model = tiny(config).train()
    summary = summarize(model, 3, (50, 90))
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    assert summary.encoder_parameters == sum(p.numel() for p in model.encoder.parameters())
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert summary.weight_bytes == sum(t.nbytes for t in model.state_dict().values())
    assert summary.reach == reach_of(model, 3)
    assert summary.reach is None or summary.layers[-1].field == summary.field
    assert summary.layers[0].shape == (6, 64, 96)  # the encoder sees the padded image
    assert summary.layers[0].kind == "Conv2d 3x3"
    assert all(
        (layer.shape[1] * layer.stride, layer.shape[2] * layer.stride) == (64, 96)
        for layer in summary.layers
        if layer.stride
        and "conv." not in layer.name
        and not layer.name.endswith(".conv")
        and ".attention." not in layer.name  # PAN's pools round up
    )
    assert model.training
    assert not any(p.grad_fn or p.is_meta for p in model.parameters())


def kept_by_autograd(model: nn.Module, size: tuple[int, int], images: int) -> int:
    """Count bytes that a real training step keeps, each storage once."""
    kept = {}
    weights = {t.data_ptr() for t in model.state_dict().values()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(torch.rand(images, 3, *size))
    del output
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("config", EACH, ids=lambda c: c.stem)
def test_activations_are_what_a_training_step_keeps(config):
    model = tiny(config).train()
    estimate = summarize(model, 3, (64, 96)).activation_bytes
    assert kept_by_autograd(model, (64, 96), 4) == pytest.approx(4 * estimate, rel=0.03)


def test_activations_of_a_network_by_hand():
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 2, 1)),
    )
    summary = summarize(model, 3, (32, 32))
    # the image, the convolved, the normalised and cut off, the pooled; the statistics of 8 channels
    floats = 3 * 1024 + 8 * 1024 + 8 * 1024 + 8 * 256 + 8
    indices = 8 * 256 * 8
    assert summary.activation_bytes == 4 * floats + indices
    assert summary.activation_bytes_bf16 == 2 * floats + indices


def test_checkpointing_changes_no_number():
    config = CONFIGS[0]
    assert summarize(tiny(config), 3, (64, 64)) == summarize(
        tiny(config, "model.encoder.checkpointing=true"), 3, (64, 64)
    )


def test_group_norm_is_infinite_and_no_error():
    summary = summarize(tiny(CONFIGS[0], "model.encoder.norm=group"), 3, (64, 64))
    assert (summary.reach, summary.field, summary.reach_unknown) == (None, math.inf, "")
    assert [layer.field for layer in summary.layers[:2]] == [3, math.inf]
    assert any("the whole image" in line for line in totals(summary))


def test_a_declared_sight_of_all_is_infinite_though_it_cannot_be_followed():
    class Sorted(nn.Module):
        sees_all = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(dim=2).values

    summary = summarize(nn.Sequential(nn.Conv2d(3, 4, 3), Sorted()), 3, (8, 8))
    assert (summary.reach, summary.field, summary.reach_unknown) == (None, math.inf, "")
    assert summary.macs == 36 * 4 * 27


def test_json_has_a_word_for_infinity_and_all_else_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(1, 4))
    summary = summarize(model, 3, (8, 8))
    written = json.loads(summary_json(summary), parse_constant=pytest.fail)
    assert [layer["field"] for layer in written["layers"]] == [3, "image"]
    assert written["size"] == [8, 8]
    assert written["macs"] == summary.macs
    local = json.loads(summary_json(summarize(model[0], 3, (8, 8))))
    assert local["reach"] == [1, 1, 3]


def test_an_unknown_operation_leaves_the_rest():
    class Flipped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flip(2)

    summary = summarize(nn.Sequential(nn.Conv2d(3, 4, 3), Flipped()), 3, (8, 8))
    assert (summary.reach, summary.field) == (None, None)
    assert summary.macs == 36 * 4 * 27
    assert any("not known; cannot follow" in line and "flip" in line for line in totals(summary))


def test_a_module_that_runs_twice_counts_its_parameters_once():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    summary = summarize(nn.Sequential(conv, nn.ReLU(), conv), 3, (8, 8))
    assert [layer.parameters for layer in summary.layers] == [84, 0, 0]
    assert [layer.macs for layer in summary.layers] == [64 * 81, 0, 64 * 81]
    assert (summary.parameters, summary.macs) == (84, 2 * 64 * 81)
    assert summary.reach == Reach(2, 2, 5)


def test_layers_that_change_values_alone_are_not_shown():
    summary = summarize(tiny(CONFIGS[0]), 3, (64, 64))
    kinds = {layer.kind for layer in shown_layers(summary.layers)}
    assert "ReLU" not in kinds
    assert {"Conv2d 3x3", "MaxPool2d 2x2", "BatchNorm2d"} <= kinds
    assert len(summary.layers) > len(shown_layers(summary.layers))


def test_a_size_of_nothing():
    with pytest.raises(UserError, match="0x5"):
        summarize(nn.Conv2d(3, 1, 1), 3, (0, 5))


def test_encoders_need_not_be_segkits():
    class Strided(nn.Module):
        stride = 4

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 4, stride=4)

        def forward(self, x: torch.Tensor) -> Pyramid:
            return Pyramid([self.conv(x)], [])

    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.ConvTranspose2d(6, 2, 4, stride=4)

        def forward(self, maps, sizes, indices) -> torch.Tensor:
            return self.conv(maps[0])

    summary = summarize(SegmentationModel(Strided(), Up()), 3, (6, 9))
    assert [layer.shape for layer in summary.layers] == [(6, 2, 3), (2, 8, 12)]
    assert [layer.macs for layer in summary.layers] == [6 * 6 * 48, 6 * 6 * 32]
    assert summary.reach == Reach(3, 3, 4)
