"""Training and evaluation from the command line, on a tiny set and a tiny network."""

import csv
import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from segkit.config import load_config
from segkit.normalize import Normalize

DECODERS = {
    "unet": {"name": "unet", "widths": [8, 8, 8, 8]},
    "unpool": {"name": "unpool"},
    "transposed": {"name": "transposed", "widths": [8, 8, 8, 8, 8]},
    "bilinear": {"name": "interpolate", "widths": [8, 8, 8, 8, 8]},
    "nearest": {"name": "interpolate", "mode": "nearest", "widths": [8, 8, 8, 8, 8]},
    "fcn32s": {"name": "fcn", "stride": 32},
    "fcn16s": {"name": "fcn", "stride": 16},
    "fcn8s": {"name": "fcn", "stride": 8, "classifier": "conv", "classifier_width": 16},
}


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").open()))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["model"]


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_trains_and_evaluates(decoder, tiny_config, train, evaluate, tmp_path):
    config = tiny_config({"model.decoder": DECODERS[decoder], "train.epochs": 1})
    assert train(config) == 0
    assert evaluate(tmp_path / "run", "--json", tmp_path / "scores.json") == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["images"] == 3
    # eval judges the best checkpoint, here of the only epoch, as training did
    assert found["scores"]["miou"] == pytest.approx(float(rows(tmp_path / "run")[0]["miou"]))


def test_a_run_learns_and_leaves_what_it_promises(tiny_config, train, tmp_path, capsys):
    assert train(tiny_config({"train.epochs": 12})) == 0
    run = tmp_path / "run"
    history = rows(run)
    assert [row["epoch"] for row in history] == [str(n) for n in range(1, 13)]
    assert float(history[-1]["loss"]) < 0.7 * float(history[0]["loss"])
    assert float(history[-1]["miou"]) > 0.6
    assert {"iou/ground", "iou/box", "iou/bar"} <= history[0].keys()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 12
    assert load_config(run / "config.yaml") == load_config(
        tmp_path / "tiny_run.yaml", ["train.epochs=12"]
    )
    assert json.loads((run / "env.json").read_text())["packages"]["torch"]
    for picture in (run / "curves.png", *(run / "samples").iterdir()):
        with Image.open(picture) as image:
            assert min(image.size) > 100
    assert (run / "checkpoints" / "best.pt").is_file()
    assert not list(run.rglob("*.tmp"))
    printed = capsys.readouterr().out
    assert "3 of 3 classes present" in printed
    assert "images/s" in printed
    assert all(line in (run / "train.log").read_text() for line in printed.splitlines())


def test_best_is_the_epoch_with_the_highest_miou(tiny_config, train, tmp_path):
    assert train(tiny_config({"train.epochs": 6, "train.optimizer.lr": 0.03})) == 0
    scores = [float(row["miou"]) for row in rows(tmp_path / "run")]
    best = torch.load(tmp_path / "run/checkpoints/best.pt", weights_only=True)
    assert best["epoch"] == 1 + int(np.argmax(scores))
    assert best["scores"]["miou"] == pytest.approx(max(scores))


def test_eval_equals_sklearn_on_the_raw_files(tiny_config, tiny_set, train, evaluate, tmp_path):
    assert train(tiny_config({"train.epochs": 4})) == 0
    from segkit.checkpoint import load_checkpoint, restore_model

    path = tmp_path / "run/checkpoints/best.pt"
    model = restore_model(load_checkpoint(path), path).eval()
    normalize = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    truth, predicted = [], []
    for image in sorted((tiny_set.root / "val/images").iterdir()):
        pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)[None]
        with torch.no_grad():
            labels = model(normalize(pixels)).argmax(1)[0].numpy()
        raw = np.array(Image.open(tiny_set.root / "val/masks" / image.name))
        judged = raw != 99
        truth.append(raw[judged] // 10)
        predicted.append(labels[judged])
    expected = jaccard_score(np.concatenate(truth), np.concatenate(predicted), average=None)
    file = tmp_path / "scores.json"
    assert evaluate(path, "--json", file) == 0
    found = json.loads(file.read_text())["scores"]
    np.testing.assert_allclose(found["iou"], expected, atol=2e-3)  # a border pixel may flip
    assert found["miou"] == pytest.approx(np.mean(expected), abs=2e-3)


def test_two_runs_with_one_seed_are_equal_and_with_another_differ(tiny_config, train, tmp_path):
    augment = [{"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {}}]
    settings = {"data.train_transforms": augment, "train.epochs": 1}
    runs = [tmp_path / name for name in ("a", "b", "c")]
    for run, seed, workers in zip(runs, (0, 0, 1), (0, 2, 0), strict=True):
        config = tiny_config(
            {**settings, "seed": seed, "data.workers": workers, "run_dir": str(run)}
        )
        assert train(config) == 0
    a, b, c = (weights(run / "checkpoints/last.pt") for run in runs)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_equals_never_stopped(number, tiny_config, train, start, tmp_path):
    # dropout and augmentation make the outcome depend on every random state there is
    settings = {
        "model.decoder": {"name": "fcn", "stride": 8, "classifier": "conv", "classifier_width": 16},
        "data.train_transforms": [{"RandomCrop": {"height": 32, "width": 32}}],
        "data.workers": 1,
        "train.epochs": 60,
        "train.samples": 0,
    }
    straight = tiny_config({**settings, "run_dir": str(tmp_path / "straight")}, "straight")
    assert train(straight) == 0

    config = tiny_config({**settings, "run_dir": str(tmp_path / "stopped")}, "stopped")
    process = start("train.py", config, "--device", "cpu")
    last = tmp_path / "stopped/checkpoints/last.pt"
    deadline = time.monotonic() + 60
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, out + err
    assert "Traceback" not in err
    assert f"tools/train.py {tmp_path / 'stopped'} --resume" in out
    done = torch.load(last, weights_only=True)["training"]["position"]
    assert done["epoch"] < 60
    assert train(config, "--resume") == 0
    a = weights(tmp_path / "straight/checkpoints/last.pt")
    b = weights(last)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (tmp_path / "straight/metrics.csv").read_text() == (
        tmp_path / "stopped/metrics.csv"
    ).read_text()


def test_print_config_shows_overrides_and_trains_nothing(tiny_config, train, tmp_path, capsys):
    assert train(tiny_config(), "--set", "train.epochs=7", "--print-config") == 0
    assert "epochs: 7" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_streets_are_drawn_at_first_use(tiny_config, train, evaluate, tmp_path, monkeypatch):
    from segkit import streets

    monkeypatch.setattr(streets, "SPLITS", {"train": 2, "val": 1, "test": 1})
    root = tmp_path / "drawn"
    config = tiny_config(
        {"data.card": "datasets/streets.yaml", "data.root": str(root), "train.epochs": 1}
    )
    assert train(config) == 0
    assert len(list((root / "train/masks").iterdir())) == 2
    assert evaluate(tmp_path / "run", "--split", "test") == 0


def test_checkpoints_of_format_1_evaluate_and_resume_to_the_bit(
    train, evaluate, tiny_config, tmp_path
):
    """That format had the computed numbers in its config, and nothing beside it."""
    weights = {"name": "cross_entropy", "class_weights": "median_frequency"}
    config = tiny_config({"train.loss": weights, "data.mean": "auto", "data.std": "auto"})
    straight, old = tmp_path / "straight", tmp_path / "old"
    assert train(config, "--set", f"run_dir={straight}") == 0
    one_epoch = ("--set", f"run_dir={old}", "train.schedule={name: constant}")
    assert train(config, *one_epoch, "train.epochs=1") == 0
    for path in (old / "checkpoints").glob("*.pt"):
        content = torch.load(path, weights_only=True)
        numbers = content.pop("statistics")
        content["config"]["data"] |= {"mean": numbers["mean"], "std": numbers["std"]}
        content["config"]["train"]["loss"]["class_weights"] = numbers["class_weights"]
        content["config"]["train"]["epochs"] = 2
        for key in ("settings", "classes", "imports"):
            del content[key]
        torch.save({**content, "format": 1}, path)
    assert evaluate(old) == 0
    assert train(config, *one_epoch, "--resume") == 0
    files = [folder / "checkpoints/last.pt" for folder in (straight, old)]
    one, other = (torch.load(file, weights_only=True)["model"] for file in files)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    tables = [(folder / "metrics.csv").read_text() for folder in (straight, old)]
    assert tables[0] == tables[1]


@pytest.mark.gpu
def test_trains_on_cuda(tiny_config, tmp_path):
    from segkit.experiment import Experiment
    from segkit.hardware import choose_hardware
    from segkit.training.trainer import Trainer

    config = load_config(tiny_config({"precision": "auto", "train.epochs": 12}))
    hardware = choose_hardware("cuda", config.precision)
    trainer = Trainer(Experiment.from_config(config, hardware), tmp_path / "run")
    trainer.fit()
    assert trainer.state.progress.best_miou > 0.6
