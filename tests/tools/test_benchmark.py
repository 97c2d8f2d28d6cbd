"""segkit benchmark runs and tells rates; how high they are is no test's business."""

import re
import sys

import cv2
import pytest
import torch

import segkit
from segkit.benchmark import data_speed as measuring
from segkit.benchmark import decoder_speed, step_speed, timing
from segkit.commands import main
from segkit.summary import summarize


@pytest.fixture
def benchmark(monkeypatch):
    """Run segkit benchmark on the CPU for a moment; gives its exit code."""
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    monkeypatch.setattr(timing, "SECONDS", 0.02)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "PEAK", (1, 16, 8, 8))
    monkeypatch.setenv("COLUMNS", "140")
    return lambda *arguments: main(["benchmark", *map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize("settings", [{}, {"data.cache": "ram", "data.workers": 1}])
def test_rates_are_told_and_nothing_is_left(settings, benchmark, tiny_config, tmp_path, capsys):
    config = tiny_config({"model.encoder.weights": "imagenet", **settings})  # fetches none
    before, threads = sorted(tmp_path.rglob("*")), cv2.getNumThreads()
    assert benchmark("data", config) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert cv2.getNumThreads() == threads
    out = capsys.readouterr().out
    workers = settings.get("data.workers", 0)
    rates = {}
    for row in (
        "decode, one core", "augment, one core", "decode and augment, one core",
        f"loader alone, {workers} workers", "training step alone", "training",
    ):  # fmt: skip
        rates[row] = float(re.search(rf"│ {row} +│ +([\d.]+) │", out)[1])
    assert all(rate > 0 for rate in rates.values())
    assert rates["decode and augment, one core"] <= rates["decode, one core"]
    assert re.search(r"the loader (keeps up with|is slower than) the step \([\d.]+ times", out)


def test_a_run_that_is_there_is_left_alone(benchmark, tiny_config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("mine")
    assert benchmark("data", tiny_config()) == 0
    assert [(path.name, path.read_text()) for path in run.iterdir()] == [("config.yaml", "mine")]


def test_what_training_refuses_is_refused(benchmark, tiny_config, tiny_set, capsys):
    (tiny_set.root / "train/masks/train_0.png").write_text("no mask")
    assert benchmark("data", tiny_config()) == 2
    assert "train_0.png: cannot be read" in capsys.readouterr().err
    assert benchmark("data", "no.yaml") == 2


@pytest.mark.slow
def test_a_step_is_timed_beside_the_peak(benchmark, tiny_config, tmp_path, capsys):
    config = tiny_config({"model.encoder.weights": "imagenet"})
    before = sorted(tmp_path.rglob("*"))
    assert benchmark("train", config) == 0
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    [row] = re.findall(r"│ segkit +│(.*)│", out)
    seconds, images, _, _, _, memory, ratio = (float(c.strip(" %")) for c in row.split("│"))
    assert images == pytest.approx(2 / seconds, rel=0.2)
    assert memory > 0
    assert ratio == 1
    assert re.search(r"peak: \d+ GFLOP/s", out)


def test_the_gflop_of_a_step_are_those_of_its_convolutions(tiny_config):
    """Each convolution counts thrice, once forward and twice backward, but for the first.

    The gradient of a bilinear doubling is a convolution of 4x4 taps a channel.
    """
    from segkit.config import load_config
    from segkit.data.card import load_card
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware
    from segkit.model import build_model
    from segkit.upsample import Interpolate

    config = load_config(tiny_config())
    card = load_card(config.data.card)
    experiment = Experiment.from_config(config, choose_hardware("cpu", "fp32"))
    step = step_speed._contestant("segkit", experiment)
    flops = []

    def count(module, inputs, output):
        taps = module.weight[0].numel()
        flops.append((2 if inputs[0].shape[1] == 3 else 3) * 2 * taps * output.numel())

    def count_doubling(module, inputs, output):
        flops.append(2 * 16 * inputs[0].numel())

    model = build_model(config.model, card.num_classes, load_weights=False)
    for module in model.modules():
        if isinstance(module, Interpolate):
            module.register_forward_hook(count_doubling)
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.rand(2, 3, 40, 48))
    assert timing.count_gflop(step) == pytest.approx(sum(flops) / 1e9, rel=1e-6)


def test_the_peer_must_be_installed(benchmark, tiny_config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    assert benchmark("train", tiny_config(), "--peer", "smp") == 2
    assert "pip install 'segkit[bench]'" in capsys.readouterr().err


def test_the_peer_is_timed_on_the_same_batch(benchmark, tiny_config, capsys):
    pytest.importorskip("segmentation_models_pytorch")
    assert benchmark("train", tiny_config(), "--peer", "smp") == 0
    assert (
        len(re.findall(r"│ (segkit|smp, as it comes|smp, our precision)", capsys.readouterr().out))
        == 3
    )


@pytest.mark.slow
def test_inference_is_timed_in_turns(benchmark, tiny_config, tmp_path, capsys):
    config = tiny_config()
    before = sorted(tmp_path.rglob("*"))
    assert benchmark("inference", config, "--size", "33", "40", "--batch", "2") == 0
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    [row] = re.findall(r"│ tiny_run.yaml, torch fp32 +│(.*)│", out)
    milliseconds, images, gflop, _, memory, _ = (float(c.strip(" %")) for c in row.split("│"))
    assert images == pytest.approx(1000 / milliseconds, rel=0.2)
    assert gflop >= 0
    assert memory > 0
    assert re.search(r"peak: \d+ GFLOP/s", out)


@pytest.mark.slow
def test_the_peer_is_timed_beside_ours(benchmark, tiny_config, capsys):
    pytest.importorskip("segmentation_models_pytorch")
    assert benchmark("inference", tiny_config(), "--size", "33", "40", "--peer", "smp") == 0
    assert re.search(r"│ smp, as it comes +│.*│ +1\.00 │", capsys.readouterr().out)


def test_the_inference_benchmark_tells_mistakes(benchmark, tiny_config, capsys):
    config = tiny_config()
    for arguments, words in (
        (("inference", config, "--set", "seed=1"), "--set changes one experiment"),
        (("train", config, config), "takes one experiment at a time"),
        (("inference", "gone.onnx"), "there is no file gone.onnx"),
        (("inference", config, "--size", "0", "3"), "--size 0 3 must be height and width"),
    ):
        assert benchmark(*arguments) == 2
        assert words in capsys.readouterr().err


def test_decoders_are_timed_beside_the_peer_s(benchmark, monkeypatch, capsys):
    smp = pytest.importorskip("segmentation_models_pytorch")
    monkeypatch.setattr(decoder_speed, "names", lambda kind: ["fcn", "pan", "unet", "unpool"])
    assert benchmark("decoders", "resnet18", "--size", 32, 64, "--batch", 2, "--peer", "smp") == 0
    out = capsys.readouterr().out
    assert "2 x 32x64 on resnet18" in out
    rows = {
        name: [float(cell) for cell in cells.split("│") if cell.strip()]
        for name, cells in re.findall(r"│ (\w+) +│(.*)│\n", out)
    }
    assert set(rows) == {"fcn", "pan", "unet"}  # a ResNet has no indices for unpool
    # the peer has no FCN, and its PAN takes no image as small as this one
    assert len(rows["fcn"]) == len(rows["pan"]) == 3
    millions, gmac, seconds, *peer, ratio, _ = rows["unet"]
    network = segkit.create_model("unet", "resnet18", num_classes=8)
    assert millions == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6, abs=0.05)
    assert gmac == pytest.approx(summarize(network, 3, (32, 64)).macs / 1e9, abs=0.05)
    other = smp.Unet("resnet18", encoder_weights=None, classes=8)
    assert peer[0] == pytest.approx(sum(p.numel() for p in other.parameters()) / 1e6, abs=0.05)
    assert ratio == pytest.approx(peer[2] / seconds, rel=0.1)


def test_what_decoders_cannot_be_timed_on_is_told(benchmark, monkeypatch, capsys):
    assert benchmark("decoders", "resnet19") == 2
    assert "did you mean" in capsys.readouterr().err
    with monkeypatch.context() as gone:
        gone.setitem(sys.modules, "segmentation_models_pytorch", None)
        assert benchmark("decoders", "lenet", "--size", 32, 32, "--peer", "smp") == 2
    assert "pip install 'segkit[bench]'" in capsys.readouterr().err
    assert benchmark("decoders", "lenet", "--size", 40, 40, "--peer", "smp") == 2
    assert "multiples of 32" in capsys.readouterr().err
