"""The switch for the same bits again, and what CUDA cannot compute under it."""

import os
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from networks import VARIANTS, build
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.hardware import Hardware, choose_hardware
from segkit.training.determinism import deterministic
from segkit.training.trainer import Trainer


def switches():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.fixture(params=[None, ":16:8", ":0:0"])
def before(request, monkeypatch):
    """The switches as somebody has set them."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if request.param is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", request.param)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield switches()
    torch.use_deterministic_algorithms(False)


def test_all_is_as_before_whatever_happens(before):
    kept = before[3] if before[3] == ":16:8" else ":4096:8"
    with deterministic(True):
        assert switches() == (True, False, False, kept)
    assert switches() == before
    with pytest.raises(ZeroDivisionError), deterministic(True):
        _ = 1 / 0
    assert switches() == before
    with deterministic(False):
        assert switches() == before


def test_cudnn_does_not_search_meanwhile(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # none is here
    hardware = Hardware(torch.device("cuda", 0), "fp32", "for the tests")
    with deterministic(True), hardware.autocast(search=True):
        assert not torch.backends.cudnn.benchmark
    with hardware.autocast(search=True):
        assert torch.backends.cudnn.benchmark


def run(model, **options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 33, 47), dtype=torch.uint8, generator=generator)
    masks = (images[:, 0] // 100).long()
    masks[:, :3] = 255
    return Experiment(
        model,
        TensorDataset(images, masks),
        TensorDataset(images[:1], masks[:1]),
        hardware=choose_hardware("cpu", "fp32"),
        batch_size=2,
        epochs=1,
        optimizer={"name": "adamw", "lr": 1e-3},
        **options,
    )


class Seen(nn.Conv2d):
    """Keeps the switches with which it is called."""

    def __init__(self):
        super().__init__(3, 3, 1)
        self.found = set()

    def forward(self, x):
        self.found.add((self.training, torch.are_deterministic_algorithms_enabled()))
        return super().forward(x)


@pytest.mark.parametrize("wanted", [False, True])
def test_it_holds_for_training_and_validation(wanted):
    experiment = run(model := Seen(), deterministic=wanted)
    model.found.clear()  # what counted the logits
    Trainer(experiment).fit()
    assert model.found == {(True, wanted), (False, wanted)}
    assert not torch.are_deterministic_algorithms_enabled()


class Refused(nn.Module):
    """Needs what torch computes in another order each time, on CPUs as well."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        pooled, indices = F.max_pool2d(self.conv(x), 3, 1, return_indices=True)
        return F.max_unpool2d(pooled, indices, 3, 1)


def test_what_has_no_deterministic_form_is_told_in_a_sentence():
    Trainer(run(Refused())).fit()
    with pytest.raises(UserError) as told:
        Trainer(run(Refused(), deterministic=True)).fit()
    sentence = str(told.value)
    assert "no deterministic form of 'max_unpooling2d_forward_out'; use another" in sentence
    assert sentence.endswith("or set train.deterministic=false")
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="something else"), deterministic(True):
        raise RuntimeError("something else")


@pytest.mark.parametrize("variant", ["unet-bilinear", "unpool-max", "fcn-8", "dpt"])
def test_on_a_cpu_it_changes_no_bit(variant):
    trained = []
    for wanted in (False, True):
        experiment = run(build(variant), deterministic=wanted, loss="cross_entropy_dice")
        history = Trainer(experiment).fit()
        trained.append((experiment.model.state_dict(), history[-1]))
    (weights, row), (others, other) = trained
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert [row[key] for key in ("loss", "val_loss", "miou")] == [
        other[key] for key in ("loss", "val_loss", "miou")
    ]


# Without a deterministic form on CUDA, by the documentation of `use_deterministic_algorithms`;
# bilinear interpolation and padding by replication call others where torch is to be deterministic.
UNORDERED = {
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "grid_sampler_2d_backward",
    "histc",
    "kthvalue",
    "max_unpool2d",
    "median",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
}


class Calls(TorchDispatchMode):
    """Keeps the names of all operations that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def calls_elsewhere(variant):
    """Return what a step of a network calls where tensors are on no CPU, and hold no data."""
    with torch.device("meta"), deterministic(True):
        model = build(variant).train()
        with Calls() as calls:
            model(torch.randn(2, 3, 33, 47)).square().mean().backward()
    return calls.names


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_decoder_but_the_bicubic_ones_has_a_deterministic_form(variant, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # none is there
    names = calls_elsewhere(variant)
    assert "convolution_backward" in names
    before_2_15 = "bicubic" in variant and torch.__version__ < (2, 15)  # which has one for it too
    refused = {"upsample_bicubic2d_backward"} if before_2_15 else set()
    assert names & UNORDERED == refused
