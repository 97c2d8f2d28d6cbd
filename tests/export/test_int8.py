"""Which layers suffer from int8, and how export gives way."""

import json

import numpy as np
import pytest
import torch
from file_metadata import WHOLE
from networks import build
from torch import nn

from segkit.commands import main
from segkit.export import export as exporting
from segkit.export.deployed import DeployedModel
from segkit.export.int8 import rank_layers
from segkit.export.onnx_format import OnnxFormat
from segkit.export.openvino_format import OpenVinoFormat
from segkit.export.torch_formats import ScriptFormat
from segkit.model import create_model
from segkit.normalize import Normalize


def test_the_layer_with_an_outlier_ranks_first():
    torch.manual_seed(0)
    options = {"width": 1 / 16}
    model = create_model("unet", "vgg11_bn", num_classes=3, encoder_options=options).eval()
    deployed = DeployedModel(model, Normalize([0.5] * 3, [0.2] * 3), ("mask",)).eval()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, 32, 48, 3), dtype=np.uint8) for _ in range(2)]
    before = {name: value.clone() for name, value in deployed.state_dict().items()}
    spoilt = deployed.decoder.steps[1].convs[0][0]
    with torch.no_grad():  # one weight so large that 8 bits leave nothing for the others
        spoilt.weight[:, 0, 0, 0] = 100 * spoilt.weight.abs().max()
    ranked = rank_layers(deployed, images)
    assert ranked[0] == "decoder.steps.1.convs.0.0"
    convolutions = [name for name, m in deployed.named_modules() if isinstance(m, nn.Conv2d)]
    assert sorted(ranked) == sorted(convolutions)
    with torch.no_grad():
        spoilt.weight[:, 0, 0, 0] = before["decoder.steps.1.convs.0.0.weight"][:, 0, 0, 0]
    for name, value in deployed.state_dict().items():
        assert torch.equal(value, before[name]), name  # ranking changes nothing


@pytest.mark.slow
@pytest.mark.parametrize("form", [OnnxFormat(), OpenVinoFormat()], ids=["onnx", "openvino"])
def test_a_network_is_quantised_again_with_a_layer_kept(form, tmp_path):
    form.check()
    network = DeployedModel(build("unet-bilinear"), Normalize([0.5] * 3, [0.2] * 3)).eval()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, 64, 96, 3), dtype=np.uint8) for _ in range(4)]
    built = form.build(network, 3, "int8")
    metadata = {**WHOLE, "export": {**WHOLE["export"], "precision": "int8"}}
    sizes = []
    for kept in ([], ["decoder.steps.0.convs.0.0"], []):
        path = tmp_path / f"model{form.suffix}"
        form.save(form.quantize(built, images, kept), path, json.dumps(metadata))
        sizes.append(sum(file.stat().st_size for file in form.files(path)))
        assert form.open(path).run(images[0], "mask").shape == (1, 64, 96)
    layer = network.decoder.steps[0].convs[0][0].weight.numel()
    assert sizes[1] > sizes[0] + layer  # of 4 bytes each instead of one, less what rounding takes
    assert sizes[2] == pytest.approx(sizes[0], rel=0.01)


@pytest.mark.parametrize("holds", [True, False])
def test_layers_are_kept_until_the_gate_holds(holds, run_dir, monkeypatch, capsys, tmp_path):
    ranking = ["encoder.features.0", "encoder.features.4", "decoder.head", *"defg"]
    tried = []

    class Picky(ScriptFormat):
        precisions = ("fp32", "int8")

        def quantize(self, built, images, kept):
            assert [image.shape for image in images] == [(1, 40, 48, 3)] * 4
            tried.append(list(kept))
            return built

    def find_failures(parity, bounds):
        return () if holds and "decoder.head" in tried[-1] else ("it is too rough",)

    monkeypatch.setitem(exporting.FORMATS, "torchscript", Picky())
    monkeypatch.setattr(exporting, "rank_layers", lambda model, images: ranking)
    monkeypatch.setattr(exporting, "find_failures", find_failures)
    out = tmp_path / "int8"
    options = ["--precision", "int8", "--calibrate", "4", "--out", str(out)]
    code = main(["export", str(run_dir), "--to", "torchscript", *options])
    assert tried == [[], ranking[:1], ranking[:2], ranking[:4]]
    [row] = json.loads((out / "export.json").read_text())
    assert code == (0 if holds else 1)
    assert row["kept"] == ranking[:4]
    assert row["file"] == ("model_int8.torchscript" if holds else None)
    printed = " ".join(capsys.readouterr().out.split())
    assert ("4 layers are in higher precision: encoder.features.0, " in printed) == holds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "torch", "--precision", "int8"], "--to torch has no precision int8; it has fp32"),
        (["--to", "tensorrt"], "--to tensorrt needs TensorRT; pip install tensorrt"),
    ],
)
def test_what_a_format_lacks_is_told(options, words, run_dir, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(run_dir), *options, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}")
    assert not list(out.iterdir())
