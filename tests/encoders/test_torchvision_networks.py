"""Encoders made of torchvision's networks give torchvision's own maps."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from segkit.errors import UserError
from segkit.features import Wants
from segkit.registry import find

# the layers whose outputs are the maps, by stride
RESNET = {2: "relu", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}
EFFICIENTNET = {2: "features.1", 4: "features.2", 8: "features.3", 16: "features.5"}
CONVNEXT = {4: "features.1", 8: "features.3", 16: "features.5", 32: "features.7"}
NODES = {
    "resnet18": RESNET,
    "googlenet": {
        2: "conv1",
        4: "conv3",
        8: "inception3b",
        16: "inception4e",
        32: "inception5b",
    },
    "mobilenet_v3_large": {
        2: "features.1",
        4: "features.3",
        8: "features.6",
        16: "features.12",
        32: "features.16",
    },
    "efficientnet_b0": EFFICIENTNET | {32: "features.7"},
    "convnext_tiny": CONVNEXT,
}
LARGE = {
    **dict.fromkeys(("resnet34", "resnet50", "resnet101", "resnet152"), RESNET),
    **{f"efficientnet_b{size}": EFFICIENTNET | {32: "features.7"} for size in range(1, 8)},
    **dict.fromkeys(("convnext_small", "convnext_base"), CONVNEXT),
}
ALL = [*NODES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


def published(name: str, **options) -> nn.Module:
    """Torchvision's network with weights and statistics that nothing cancels."""
    torch.manual_seed(0)
    if name == "googlenet":  # as it is made for its weights
        options = {"transform_input": True, "init_weights": False}
    network = get_model(name, weights=None, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@torch.no_grad()
def check_maps(encoder, network, nodes, path) -> None:
    torch.save(network.state_dict(), path)
    encoder.load_weights(str(path))
    encoder.eval()
    extractor = create_feature_extractor(
        network, {node: str(stride) for stride, node in nodes.items()}
    ).eval()
    for size in ((64, 96), (65, 131)):
        image = torch.randn(1, 3, *size)
        expected = extractor(image)
        found = encoder(image)
        assert [spec.stride for spec in encoder.specs] == list(nodes)
        for spec, tensor in zip(encoder.specs, found.maps, strict=True):
            assert torch.equal(tensor, expected[str(spec.stride)]), (spec, size)


@pytest.mark.parametrize("name", ALL)
def test_maps_are_those_of_torchvision(name, tmp_path):
    nodes = (NODES | LARGE)[name]
    check_maps(find("encoder", name)(), published(name), nodes, tmp_path / "weights.pth")


@pytest.mark.parametrize("dilate", [8, 16])
def test_a_dilated_resnet_keeps_its_stride(dilate, tmp_path):
    network = published("resnet50", replace_stride_with_dilation=[False, dilate == 8, True])
    nodes = {stride: node for stride, node in RESNET.items() if stride < dilate}
    nodes[dilate] = "layer4"
    encoder = find("encoder", "resnet50")(dilate=dilate)
    assert encoder.stride == dilate
    check_maps(encoder, network, nodes, tmp_path / "weights.pth")


@torch.no_grad()
def test_maps_of_alexnet_lie_on_the_grid(tmp_path):
    """Of a blank image with one bright spot, each map is brightest in the cell of the spot."""
    network = published("alexnet")
    encoder = find("encoder", "alexnet")().eval()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    image = torch.zeros(1, 3, 256, 256)
    image[..., 128:160, 96:128] = 1  # a cell of stride 32
    maps = encoder(image).maps
    for spec, found in zip(encoder.specs, maps, strict=True):
        total = found[0].sum(0)
        rows, columns = (total.sum(axis) for axis in (1, 0))
        for weights, centre in ((rows, 144), (columns, 112)):
            place = (weights * (torch.arange(len(weights)) + 0.5)).sum() / weights.sum()
            assert abs(float(place) * spec.stride - centre) < 0.45 * spec.stride, spec
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder.load_weights(str(tmp_path / "weights.pth"))
    image = torch.randn(1, 3, 64, 64)
    deepest = network.features(nn.functional.pad(image, (12, 19, 12, 19)))
    assert torch.equal(encoder(image).maps[-1], deepest)


def test_only_what_is_asked_for_is_kept():
    encoder = find("encoder", "resnet18")(Wants((4, 8)))
    assert [name for name, _ in encoder.network.named_children()] == [
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2"),
    ]
    assert encoder.stride == 8


def test_frozen_stages_do_not_learn():
    encoder = find("encoder", "resnet18")(frozen_stages=2).train()
    names = {name.split(".")[1] for name, p in encoder.named_parameters() if not p.requires_grad}
    assert names == {"conv1", "bn1", "layer1"}
    before = {name: b.clone() for name, b in encoder.named_buffers()}
    encoder(torch.randn(2, 3, 64, 64))
    changed = {n.split(".")[1] for n, b in encoder.named_buffers() if not torch.equal(b, before[n])}
    assert changed == {"layer2", "layer3", "layer4"}


def test_recomputation_changes_nothing():
    runs = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = find("encoder", "resnet18")(Wants((2, 4, 8)), checkpointing=checkpointing)
        image = torch.randn(2, 3, 32, 32)
        sum(found.square().mean() for found in encoder(image).maps).backward()
        runs.append([*(p.grad for p in encoder.parameters()), *encoder.buffers()])
    assert all(map(torch.equal, *runs))


def test_other_channels_take_rgb_weights(tmp_path):
    network = published("resnet18")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    grey = find("encoder", "resnet18")(in_channels=1)
    grey.load_weights(str(tmp_path / "weights.pth"))
    expected = network.conv1.weight.sum(1, keepdim=True)
    assert torch.equal(grey.network.conv1.weight, expected)


def test_wrong_weights_are_refused(tmp_path):
    torch.save(published("resnet18").state_dict() | {"odd": torch.ones(1)}, tmp_path / "w.pth")
    encoder = find("encoder", "resnet18")()
    with pytest.raises(UserError, match=r"1 unexpected \(odd\)"):
        encoder.load_weights(str(tmp_path / "w.pth"))


def test_strided_convolutions_have_no_indices():
    with pytest.raises(UserError, match="no indices for max-unpooling"):
        find("encoder", "resnet18")(Wants(indices=True))


def test_basic_blocks_cannot_be_dilated():
    with pytest.raises(UserError, match="dilate needs bottleneck blocks"):
        find("encoder", "resnet18")(dilate=8)
