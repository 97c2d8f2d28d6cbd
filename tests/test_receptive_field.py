"""Receptive fields against the footprints of gradients, and against whole images cut into tiles."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segkit.config import load_config
from segkit.errors import UserError
from segkit.features import Wants
from segkit.model import build_model, create_model
from segkit.receptive_field import Halo, Reach, halo_of, layer_reaches, reach_of
from segkit.receptive_field.follow import follow_rows
from segkit.registry import find
from segkit.upsample import Interpolate, MaxUnpool, TransposedConv

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*_vgg16.yaml"))
# by averages over the image, by attention, or by group norm
FAR = ("deeplabv3", "deeplabv3plus", "fpn", "manet", "pan", "pspnet", "upernet")
NEAR = [config for config in CONFIGS if not config.stem.startswith(FAR)]
VARIANTS = {
    "bicubic": ("interpolate", {"mode": "bicubic", "depth": 1}),
    "kernel 2": ("transposed", {"kernel_size": 2}),
    "kernel 6": ("transposed", {"kernel_size": 6, "depth": 1}),
    "nails": ("unpool", {"mode": "bed_of_nails", "depths": [1, 1, 1, 1, 1]}),
    "unet nearest": ("unet", {"upsample": "nearest"}),
    "unet bicubic": ("unet", {"upsample": "bicubic", "depth": 1}),
    "unet nails": ("unet", {"upsample": "bed_of_nails"}),
    "unet transposed": ("unet", {"upsample": "transposed", "depth": 3}),
    "fc6": ("fcn", {"stride": 16, "classifier": "conv", "classifier_width": 4}),
}


def network(decoder: str, encoder: str = "vgg11", pool: str = "max", **options) -> nn.Module:
    if decoder in ("interpolate", "transposed", "unet"):
        options["widths"] = [2] * (4 if decoder == "unet" else 5)
    tiny = {"width": 1 / 64, "pool": pool}
    return create_model(
        decoder, encoder, num_classes=2, in_channels=1, encoder_options=tiny, **options
    )


def shipped(config: Path, *overrides: str) -> nn.Module:
    tiny = ["model.in_channels=1", "model.encoder.width=0.01"]
    decoder = load_config(config).model.decoder.model_dump()
    tiny += [f"model.decoder.{key}=8" for key in ("width", "pyramid_width") if key in decoder]
    if widths := decoder.get("widths"):
        tiny.append(f"model.decoder.widths={[2] * len(widths)}")
    model = load_config(config, [*tiny, *overrides])
    return build_model(model.model, 2, load_weights=False)


def made_visible(model: nn.Module) -> nn.Module:
    """Let every path count: positive weights, averages in the place of maxima, float64."""
    model = copy.deepcopy(model).double().eval()
    torch.manual_seed(0)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                fan_in = module.weight[0].numel()
                module.weight.uniform_(0.5 / fan_in, 1.5 / fan_in)
                if module.bias is not None:
                    module.bias.zero_()
    return model


def footprint(model: nn.Module, length: int, rows: range, axis: int = 2) -> list[tuple[int, int]]:
    """Find the first and last image row that has a gradient, for each row of the output."""
    size = (length, 32) if axis == 2 else (32, length)
    images = torch.rand(len(rows), 1, *size, dtype=torch.float64).add_(1).requires_grad_()
    outputs = model(images).movedim(axis, 1)  # one image a row asked for
    sum(outputs[k, row].sum() for k, row in enumerate(rows)).backward()
    ends = []
    for gradient in images.grad.movedim(axis, 1):
        seen = gradient.flatten(1).ne(0).any(1).nonzero().flatten()
        ends.append((int(seen[0]), int(seen[-1])) if len(seen) else (-1, -2))
    return ends


def computed(model: nn.Module, length: int, rows: range, axis: int = 2) -> list[tuple[int, int]]:
    _, line = follow_rows(model, 1, length, axis)[-1]
    ends = [(int(line.first[r]), int(line.last[r])) for r in rows]
    return [end if end[0] <= end[1] else (-1, -2) for end in ends]


def check_exact(model: nn.Module, length: int, period: int) -> None:
    rows = range(length // 2, length // 2 + period)  # every phase
    seen = footprint(made_visible(model), length, rows)
    assert seen[0][0] > 0
    assert seen[-1][1] < length - 1
    assert computed(model, length, rows) == seen
    reach = reach_of(model, 1)
    assert reach == Reach(
        max(r - first for r, (first, _) in zip(rows, seen, strict=True)),
        max(last - r for r, (_, last) in zip(rows, seen, strict=True)),
        max(last - first + 1 for first, last in seen),
    )
    stride = model.stride
    starts = [r // stride * stride for r in rows]
    assert halo_of(model, 1) == Halo(
        max(start - first for start, (first, _) in zip(starts, seen, strict=True)),
        max(last - (start + stride - 1) for start, (_, last) in zip(starts, seen, strict=True)),
    )


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(c, marks=() if c.stem.startswith("unet_") else pytest.mark.slow)
        for c in NEAR
        if not c.stem.startswith("unpool")
    ],
    ids=lambda c: c.stem,
)
def test_each_phase_of_the_shipped_networks_sees_what_its_gradient_reaches(config):
    check_exact(shipped(config), 512, 32)


QUICK = ("nails", "unet transposed", "unet nearest")


@pytest.mark.parametrize(
    "variant", [v if v in QUICK else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]
)
def test_each_phase_of_each_way_of_upsampling_sees_what_its_gradient_reaches(variant):
    decoder, options = VARIANTS[variant]
    check_exact(network(decoder, **options), 512 if variant != "fc6" else 1024, 32)


class ChannelsLast(nn.Module):
    """What ConvNeXt is made of: a norm and a linear layer over the channels, as the last axis."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, padding=2)
        self.layers = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
        self.head = nn.Conv2d(3, 1, 1)

    def forward(self, x):
        x = self.layers(self.conv(x).permute(0, 2, 3, 1))
        return self.head(x.permute(0, 3, 1, 2))


class HiddenPool(nn.Module):
    """Pools by a function, so that no layer has a map of its stride."""

    stride = 4

    def forward(self, x):
        return F.interpolate(F.avg_pool2d(x, 4), scale_factor=4, mode="nearest")


SMALL = {
    "channels last": (ChannelsLast(), 1),
    "hidden pool": (HiddenPool(), 4),
    "odd factor": (nn.Sequential(nn.MaxPool2d(3), Interpolate("bilinear", 3)), 3),
    "bicubic by 3": (nn.Sequential(nn.MaxPool2d(3), Interpolate("bicubic", 3)), 3),
    "bilinear by 8": (nn.Sequential(nn.AvgPool2d(8), Interpolate("bilinear", 8)), 8),
    "transposed by 4": (nn.Sequential(nn.AvgPool2d(4), TransposedConv(1, 8, 4)), 4),
    "one sided": (nn.Sequential(nn.ZeroPad2d((3, 0, 3, 0)), nn.Conv2d(1, 1, 4)), 1),
    "even kernel": (nn.Conv2d(1, 1, 4, padding="same"), 1),
    "dilated": (nn.Conv2d(1, 1, 3, padding="same", dilation=50), 1),
    "reflected": (nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect"), 1),
    "overlapping pools": (
        nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.ConvTranspose2d(1, 1, 3, 2, 1, 1)),
        2,
    ),
    "crossing": (
        nn.Sequential(nn.Conv2d(1, 4, 2, 2), nn.Conv2d(4, 4, 3, 1, 1), nn.PixelShuffle(2)),
        2,
    ),
    "dilated transposed": (
        nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 3, 2, 2, 1, dilation=2)),
        2,
    ),
}


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_each_phase_of_small_networks(name, axis):
    model, period = SMALL[name]
    length = 32 * period if name != "dilated" else 256
    rows = range(length // 2 // period * period, length // 2 // period * period + period)
    seen = footprint(made_visible(model), length, rows, axis)
    assert computed(model, length, rows, axis) == seen


@pytest.mark.parametrize("name", [name for name, (_, period) in SMALL.items() if period != 3])
def test_a_halo_of_one_pixel_less_is_too_little(name):
    model, period = SMALL[name]
    before, after = halo_of(model, 1)
    start, end = 64, 64 + period
    model = made_visible(model)
    images = torch.rand(1, 1, 128, 8, dtype=torch.float64).repeat(5, 1, 1, 1)
    for image, row in zip(
        images[1:], [start - before, end - 1 + after, start - before - 1, end + after], strict=True
    ):
        image[:, row] += 1
    with torch.no_grad():
        tile, *others = model(images)[:, :, start:end]
    assert [not torch.equal(other, tile) for other in others] == [True, True, False, False]


def test_what_an_image_pads_does_not_shorten_the_reach():
    far = nn.Conv2d(1, 1, 3, padding="same", dilation=700)  # at 512 pixels, it reads padding alone
    assert reach_of(far, 1) == Reach(700, 700, 1401)


def test_one_sided_reach():
    model = nn.Sequential(nn.ZeroPad2d((3, 0, 3, 0)), nn.Conv2d(1, 1, 4))
    assert reach_of(model, 1) == Reach(3, 0, 4)


def test_the_larger_of_the_two_axes_counts():
    assert reach_of(nn.Conv2d(1, 1, (3, 7), padding=(1, 3)), 1) == Reach(3, 3, 7)
    assert reach_of(nn.Conv2d(1, 1, (9, 7), padding=(4, 3)), 1) == Reach(4, 4, 9)


def pooled_and_unpooled(pools: int = 2) -> nn.Module:
    """Convolve, pool, convolve, and go back up by the pools' indices, in one channel."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(2 * pools))
            self.pool, self.up = nn.MaxPool2d(2, return_indices=True), MaxUnpool()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            stack = []
            for conv in self.convs[:pools]:
                x = conv(x)
                size = x.shape[-2:]
                x, indices = self.pool(x)
                stack.append((size, indices))
            for conv, (size, indices) in zip(self.convs[pools:], reversed(stack), strict=True):
                x = conv(self.up(x, size, indices))
            return x

    return Network().double().eval()


def test_max_unpooling_depends_on_all_that_a_change_can_move():
    torch.manual_seed(0)
    model, length = pooled_and_unpooled(), 96
    rows = range(48, 52)
    seen = [(length, -1)] * len(rows)
    for _ in range(40):
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        image = torch.randn(1, 1, length, 8, dtype=torch.float64)
        with torch.no_grad():
            before = model(image)
            changed = image.repeat(length, 1, 1, 1)
            changed[range(length), :, range(length)] += 9 * torch.randn(
                length, 1, 8, dtype=torch.float64
            )
            moved = (model(changed) != before).any(3).any(1)  # changed row x row of the output
        for k, row in enumerate(rows):
            by = moved[:, row].nonzero().flatten().tolist()
            seen[k] = min([seen[k][0], *by]), max([seen[k][1], *by])
    assert computed(model, length, rows) == seen


def test_gradients_through_segnet_stay_inside():
    [config] = [c for c in CONFIGS if c.stem.startswith("unpool")]
    model = shipped(config).double().eval()
    torch.manual_seed(0)
    rows = range(512, 544)
    for (a, b), (first, last) in zip(
        footprint(model, 1024, rows), computed(model, 1024, rows), strict=True
    ):
        assert first <= a <= b <= last or (a, b) == (-1, -2)
    assert reach_of(model, 1).field >= 404  # of its coarsest convolution alone: 212 + 6 * 32


def test_networks_that_see_the_whole_image_have_no_halo():
    far = [config for config in CONFIGS if config not in NEAR]
    assert len(far) == len(FAR)
    for config in far:
        assert halo_of(shipped(config), 1) is None, config


@pytest.mark.parametrize("config", NEAR, ids=lambda c: c.stem)
def test_a_tile_with_its_halo_is_the_whole(config):
    model = shipped(config).double().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    stride = model.stride
    top, bottom = (-(-side // stride) * stride for side in halo_of(model, 1))  # in whole strides
    image = torch.rand(1, 1, 4 * stride + top + bottom + 2 * stride, 32, dtype=torch.float64)
    start, end = top + 2 * stride, top + 3 * stride
    with torch.no_grad():
        whole = model(image)
        tile = model(image[:, :, start - top : end + bottom])
    torch.testing.assert_close(tile[:, :, top : top + stride], whole[:, :, start:end])


def test_published_fields_of_vgg16():
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = find("encoder", "vgg16")(Wants((32,), "after_pool"), width=1 / 32)
            self.fc6 = nn.Conv2d(16, 4, 7, padding=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc6(self.encoder(x).maps[-1])

    layers = {layer.layer: layer for layer in layer_reaches(Maps(), 3)}
    assert [layers[f"encoder.features.{i}"][1:3] for i in (28, 30)] == [
        (16, Reach(90, 90, 196)),
        (32, Reach(90, 90, 212)),
    ]
    assert layers["fc6"].field == 404
    assert layers["encoder.features.30"].halo == Halo(90, 90)  # as of its reach: one row a stride
    fields = [layers[f"encoder.features.{i}"].field for i in (0, 2, 4, 5, 7, 9)]
    assert fields == [3, 5, 6, 10, 14, 16]  # of conv1_1 to pool2


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 1), nn.InstanceNorm2d(1), nn.AdaptiveAvgPool2d(1)]
)
def test_the_whole_image(norm):
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), norm, nn.ReLU())
    before, *_, last = layer_reaches(model, 1)
    assert before.field == 3
    assert last.reach is None
    assert last.field == float("inf")
    assert reach_of(model, 1) is None


def test_group_norm_in_a_config_sees_the_whole_image():
    assert reach_of(shipped(CONFIGS[0], "model.encoder.norm=group"), 1) is None


def test_normalisation_over_channels_sees_no_further():
    model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.LocalResponseNorm(5))
    assert reach_of(model, 1) == Reach(1, 1, 3)


def test_unknown_operations_are_refused():
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(dim=2).values

    with pytest.raises(UserError, match=r"cannot follow the receptive field through aten\.sort"):
        reach_of(Sorted(), 1)


class _Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def _changed_part(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y[:, :, 1:] += x[:, :, :-1]
    return y


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: nn.functional.interpolate(x, scale_factor=1.5), "1.5"),
        (lambda x: nn.functional.interpolate(x, scale_factor=0.3), "0.3"),
        (
            lambda x: nn.functional.interpolate(
                x, scale_factor=2, mode="bilinear", align_corners=True
            ),
            "align_corners",
        ),
        (lambda x: nn.functional.conv2d(x, x[..., :3, :3]), "weights that depend"),
        (lambda x: x.flip(2), "flip"),
        (lambda x: x.transpose(2, 3) @ x, "bmm"),
        (_changed_part, "part of a tensor"),
        (lambda x: x.softmax(1), "softmax"),
        (lambda x: (x, x), "tuple"),
        (lambda x: nn.functional.conv2d(x, x.new_ones(1, 1, 3, 3)), "not a whole fraction"),
    ],
)
def test_what_has_no_rule_is_refused_and_not_guessed(function, why):
    with pytest.raises(UserError, match=why):
        reach_of(_Function(function), 1)


@pytest.mark.parametrize(
    ("function", "reach"),
    [
        (lambda x: torch.cat([x[:, :, 5:], x[:, :, :5]], 2), Reach(0, 5, 1)),
        (lambda x: nn.functional.pad(x[:, :, :-5], (0, 0, 5, 0)), Reach(5, 0, 1)),
        (lambda x: x + nn.functional.pad(x, (0, 0, -2, 2)), Reach(0, 2, 3)),
        (lambda x: torch.cat([x, nn.functional.pad(x, (0, 0, -2, 2))], 1), Reach(0, 2, 3)),
        (lambda x: x * x.mean((2, 3), keepdim=True), None),
        (lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), Reach(0, 0, 1)),
        (lambda x: torch.zeros_like(x), Reach(0, 0, 0)),
    ],
)
def test_shifts_and_shapes(function, reach):
    assert reach_of(_Function(function), 1) == reach


def test_all_that_is_computed_from_the_whole_image_sees_the_whole_image():
    attend = _Function(lambda x: (x @ x.mean((2, 3), keepdim=True).expand_as(x)).softmax(3))
    with pytest.raises(UserError, match="bmm"):
        reach_of(attend, 1)  # one factor is local
    classify = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49, 5), nn.Softmax(1))
    assert reach_of(classify, 1) is None


def test_a_declared_sight_of_all_is_believed_without_following():
    class Attention(nn.Module):
        sees_all = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sort(dim=2).values

    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Attention())
    assert reach_of(model, 1) is None
    with pytest.raises(UserError, match="sort"):
        layer_reaches(model, 1)
    local = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    local.sees_all = True
    assert [layer.reach for layer in layer_reaches(local, 1)] == [Reach(1, 1, 3), None]


def test_the_model_is_left_as_it_was():
    model = network("unet").train()
    weights = copy.deepcopy(model.state_dict())
    reach_of(model, 1)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_foreign_backbone_strided_and_dilated():
    models = pytest.importorskip("torchvision.models")
    resnet = models.resnet18(weights=None)
    body = nn.Sequential(*list(resnet.children())[:-2])
    assert reach_of(body, 3).field == 435  # as published for ResNet-18
    # a dilation of 2 in the place of the last stride: the same rows, seen at twice the density
    body[-1][0].conv1.stride = body[-1][0].downsample[0].stride = (1, 1)
    for conv in (body[-1][0].conv2, body[-1][1].conv1, body[-1][1].conv2):
        conv.dilation = conv.padding = (2, 2)
    last = layer_reaches(body, 3)[-1]
    assert (last.stride, last.field) == (16, 435)


def test_depth_of_calls_is_kept_in_order():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), relu, nn.MaxPool2d(2), relu)
    assert [layer.layer for layer in layer_reaches(model, 1)] == ["0", "1", "2", "1", ""]


def test_along_each_row_of_a_bed_of_nails():
    up = network("unpool", mode="bed_of_nails", depths=[1] * 5).decoder.steps[0].up
    _, line = follow_rows(up, 1, 512, 2)[-1]
    assert np.array_equal(line.first[:4:2], [0, 1])
    assert (line.first > line.last)[1::2].all()
