"""`--fast`: half precision, batch norm folded into convolutions, compiled."""

import copy
import shutil

import pytest
import torch
from torch import nn

from segkit.data.images import read_image
from segkit.errors import UserError
from segkit.hardware import choose_hardware
from segkit.inference import Predictor
from segkit.inference.backends.files import make_backend
from segkit.inference.backends.fold import fold_batch_norm
from segkit.model import create_model


@pytest.fixture
def photo(tiny_set):
    return sorted((tiny_set.root / "val" / "images").iterdir())[0]


def norms_of(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["vgg11_bn", "resnet18"])
def test_folding_changes_nothing_but_rounding(encoder):
    torch.manual_seed(0)
    options = {"width": 1 / 16} if encoder.startswith("vgg") else {}
    model = create_model(
        "unet", encoder, num_classes=3, normalize_maps=True, encoder_options=options
    ).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 2)
            module.bias.normal_()
    model.double()  # where rounding is far below what a mistake would bring
    image = torch.randn(2, 3, 65, 97, dtype=torch.float64)
    expected = model(image)
    folded = copy.deepcopy(model)
    fold_batch_norm(folded)
    found = folded(image)
    assert not torch.equal(found, expected)
    assert float((found - expected).abs().max()) <= 1e-12 * float(expected.abs().max())
    left = norms_of(folded)
    assert [name for name in left if "steps" in name or "features" in name] == []
    assert {name for name in norms_of(model) if "map_norms" in name} <= set(left)


def test_fast_folds_and_compiles_in_half_precision(run_dir, photo, monkeypatch):
    compiled = {}

    def compile_(model, **options):
        compiled.update(options, model=model)
        return model

    plain = Predictor.load(run_dir, "cpu")
    monkeypatch.setattr(torch, "compile", compile_)
    fast = Predictor.load(run_dir, "cpu", fast=True)
    assert compiled["dynamic"]
    assert len(norms_of(compiled["model"])) < len(norms_of(plain.backend.model))
    assert fast.backend.hardware.precision == choose_hardware("cpu").precision
    assert fast.halo == plain.halo
    image = read_image(photo, 3, None)
    same = (fast(image).mask == plain(image).mask).float().mean()
    assert same > 0.95


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_fast_is_compiled_once_for_all_sizes(run_dir, photo):
    torch._dynamo.reset()
    image = read_image(photo, 3, None)
    plain, fast = Predictor.load(run_dir, "cpu"), Predictor.load(run_dir, "cpu", fast=True)
    assert str(fast.backend).endswith("compiled")
    for height in (32, 31, 17):
        same = (fast(image[:height]).mask == plain(image[:height]).mask).float().mean()
        assert same > 0.95


def test_without_a_compiler_it_is_told(run_dir, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs a C\\+\\+ compiler"):
        Predictor.load(run_dir, "cpu", fast=True)


def test_an_exported_file_is_as_fast_as_it_is(tmp_path):
    with pytest.raises(UserError, match="--fast is for checkpoints"):
        make_backend({}, tmp_path / "model.onnx", "cpu", fast=True)
