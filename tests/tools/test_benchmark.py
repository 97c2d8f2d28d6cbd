"""tools/benchmark.py runs and tells rates; how high they are is no test's business."""

import importlib.util
import re
from pathlib import Path

import cv2
import pytest

from segkit.training import benchmark as measuring

TOOL = Path(__file__).parents[2] / "tools" / "benchmark.py"


@pytest.fixture
def benchmark(monkeypatch):
    """Run tools/benchmark.py on the CPU for a moment; gives its exit code."""
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    spec = importlib.util.spec_from_file_location("tools_benchmark", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([*map(str, arguments), "--device", "cpu"])


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
    assert rates["decode and augment, one core"] < rates["decode, one core"]
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
