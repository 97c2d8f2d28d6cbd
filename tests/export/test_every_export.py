"""Every decoder, captured once: the file gives what the network gives, whatever the size."""

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from file_metadata import WHOLE
from networks import VARIANTS, build
from torch import nn

from segkit.export import deployed, onnx_format, openvino_format
from segkit.export.deployed import DeployedModel, to_program
from segkit.export.onnx_format import OnnxFormat
from segkit.export.openvino_format import OpenVinoFormat
from segkit.export.torch_formats import CompiledFormat, ProgramFormat, ScriptFormat
from segkit.model import SegmentationModel, create_model
from segkit.normalize import Normalize

ENCODERS = ("vgg13", "vgg16_bn", "vgg19", "vgg11_lrn", "vgg16_1x1")
OF_ONE_WIDTH = (  # one of each family
    *("lenet", "alexnet", "googlenet", "resnet18", "efficientnet_b0", "mobilenet_v3_large"),
    *("convnext_tiny", "timm:test_vit"),
)
SIZES = ((1, 1), (32, 32), (33, 65), (127, 127), (341, 512))
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture(autouse=True)
def _converted_once(monkeypatch):
    """OpenVINO reads a graph as ONNX has it; to make it again would take half of the time."""
    made = functools.cache(onnx_format.to_onnx)

    def to_onnx(network, channels):
        graph = made(network, channels)
        copied = type(graph)()
        copied.CopyFrom(graph)
        return copied

    for module in (onnx_format, openvino_format):
        monkeypatch.setattr(module, "to_onnx", to_onnx)


def tolerance_of(variant: str) -> float:
    """How far logits may be apart, of the largest.

    Group norm on random weights enlarges rounding: at 341x512 this network in fp32 is itself 5e-4
    from float64.
    """
    return 1e-3 if variant in ("unet-group", "fpn") else 1e-5


def images_of(size: tuple[int, int], batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch * size[1])
    return torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8, generator=generator)


def expected_logits(model: SegmentationModel, images: torch.Tensor) -> torch.Tensor:
    """What training and prediction compute, normalised here by hand."""
    shares = images.permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    with torch.no_grad():
        return model((shares - mean) / std)


def save_and_open(form, network: DeployedModel, folder):
    path = folder / f"model{form.suffix}"
    metadata = {**WHOLE, "mean": MEAN, "std": STD, "outputs": network.outputs}
    metadata["stride"] = network.stride
    if not network.takes_bytes:
        metadata["input"] = {**WHOLE["input"], "dtype": "float32"}
    form.save(form.build(network, 3, "fp32"), path, json.dumps(metadata))
    return form.open(path)


def check_files(
    model: SegmentationModel, forms, folder, tolerance: float, outputs=("mask",), sizes=SIZES
) -> None:
    network = DeployedModel(model, Normalize(MEAN, STD), outputs).eval()
    for form in forms:
        file = save_and_open(form, network, folder)
        for size in sizes:
            for batch in (1, 2):
                images = images_of(size, batch)
                expected = expected_logits(model, images)
                found = file.logits(images.permute(0, 3, 1, 2))
                scale = float(expected.abs().max())
                assert float((found - expected).abs().max()) <= tolerance * scale, (form, size)
                mask = torch.from_numpy(file.run(images.numpy(), "mask"))
                assert mask.dtype == torch.uint8
                assert mask.shape == (batch, *size)
                gap = expected.topk(2, dim=1).values.diff(dim=1).abs()[:, 0]
                close = gap <= 2 * tolerance * scale  # either class may win
                assert ((mask == expected.argmax(1)) | close).all(), (form, size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_deployed_network_is_the_network(variant):
    model = build(variant)
    network = DeployedModel(model, Normalize(MEAN, STD), ("logits", "mask", "probabilities"))
    for size in SIZES[:4]:
        images = images_of(size, 2)
        expected = expected_logits(model, images)
        logits, mask, probabilities = network(images)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(mask, logits.argmax(1).byte())
        torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *size))


@pytest.mark.slow
def test_torch_files_agree_at_any_size(tmp_path):
    check_files(build("unet-bilinear"), (ProgramFormat(), ScriptFormat()), tmp_path, 1e-5)


def check_floats(form, folder):
    """A data set of more than 8 bits: images are shares of white, and stay what they are."""
    model = build("unet-bilinear")
    network = DeployedModel(model, Normalize(MEAN, STD), takes_bytes=False).eval()
    file = save_and_open(form, network, folder)
    pixels = torch.rand(1, 3, 33, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(Normalize(MEAN, STD)(pixels))
    torch.testing.assert_close(file.logits(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", [ProgramFormat(), ScriptFormat()], ids=["torch", "torchscript"])
def test_files_for_more_than_8_bits(form, tmp_path):
    check_floats(form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", [OnnxFormat(), OpenVinoFormat()], ids=["onnx", "openvino"])
def test_onnx_and_openvino_files_for_more_than_8_bits(form, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    check_floats(form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_decoder_agrees_in_onnx_and_openvino(variant, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    forms = OnnxFormat(), OpenVinoFormat()
    check_files(build(variant), forms, tmp_path, tolerance_of(variant))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_agrees_in_onnx_and_openvino(encoder, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    model = build("unet-bilinear", encoder)
    check_files(model, (OnnxFormat(), OpenVinoFormat()), tmp_path, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", OF_ONE_WIDTH)
def test_encoders_of_one_width_agree_in_onnx_and_openvino(encoder, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    if encoder.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    widths = [4] * (1 if encoder == "lenet" else 5)
    model = create_model("unet", encoder, num_classes=3, widths=widths).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    check_files(model, (OnnxFormat(), OpenVinoFormat()), tmp_path, 1e-5, sizes=SIZES[:4])


@pytest.mark.slow
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "unet-bilinear"])
def test_every_decoder_agrees_in_torch_files(variant, tmp_path):
    forms = ProgramFormat(), ScriptFormat()
    # torch.export's attention takes two pixels of the coarsest map or more
    sizes = SIZES[1:] if variant == "manet" else SIZES
    check_files(build(variant), forms, tmp_path, tolerance_of(variant), sizes=sizes)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_files_agree(tmp_path):
    check_files(build("unet-bilinear"), [CompiledFormat()], tmp_path, 1e-5, ("mask", "logits"))


def test_what_torch_cannot_capture_is_told():
    class Undecided(nn.Module):
        def forward(self, maps, sizes=None, indices=None):
            return maps[0] if maps[0].sum() > 0 else maps[-1]

    model = build("unet-bilinear")
    model.decoder = Undecided()
    network = DeployedModel(model, Normalize(MEAN, STD), ("mask",))
    with pytest.raises(ValueError, match=r"torch\.export cannot capture this network: \S"):
        to_program(network, 3)


def coverage() -> str:
    """The table of what goes where; the tests above are what makes it true."""
    formats = ("onnx", "openvino", "torch", "torchscript")
    rows = [["", *formats], ["---"] * 5]
    for decoder, options in VARIANTS.values():
        chosen = ", ".join(f"{key} {value}" for key, value in options.items())
        rows.append([f"`{decoder}`" + (f", {chosen}" if chosen else ""), *["yes"] * 4])
    for encoder in (*ENCODERS, *OF_ONE_WIDTH):
        rows.append([f"`unet` on `{encoder}`", "yes", "yes", "", ""])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def test_the_page_tells_what_goes_where():
    page = Path(deployed.__file__).with_name("README.md").read_text("utf-8")
    assert coverage() in page
