"""Few images, odd recipes and numbers that are not finite, through segkit train."""

import csv
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.checkpoint import load_checkpoint, restore_model
from segkit.commands import main
from segkit.config import load_config
from segkit.config.overfit import to_overfit
from segkit.experiment import Experiment
from segkit.training import trainer
from segkit.training.listeners import pictures
from segkit.training.state import TrainingState
from segkit.training.step import Step

ROOT = Path(__file__).parents[2]
SHIPPED = {  # the decoders of configs/, narrower
    "bilinear": {"name": "interpolate", "mode": "bilinear", "widths": [8, 8, 8, 8, 8]},
    "nearest": {"name": "interpolate", "mode": "nearest", "widths": [8, 8, 8, 8, 8]},
    "transposed": {"name": "transposed", "kernel_size": 4, "widths": [8, 8, 8, 8, 8]},
    "unet": {"name": "unet", "upsample": "bilinear", "widths": [8, 8, 8, 8]},
    "unpool": {"name": "unpool", "mode": "max"},
    "fcn32s": {"name": "fcn", "stride": 32},
    "fcn16s": {"name": "fcn", "stride": 16},
    "fcn8s": {"name": "fcn", "stride": 8},
}
OPTIONS = {
    "unet transposed": {"name": "unet", "upsample": "transposed", "widths": [8, 8, 8, 8]},
    "unet bed": {"name": "unet", "upsample": "bed_of_nails", "widths": [8, 8, 8, 8]},
    "unpool bed": {"name": "unpool", "mode": "bed_of_nails"},
    "fcn8s classifier": {
        "name": "fcn",
        "stride": 8,
        "classifier": "conv",
        "classifier_width": 32,
    },
}
DOT = Image.new("RGB", (2, 2))
NO_NORM = {"model.encoder": {"name": "vgg11", "width": 0.125}, "model.decoder.norm": "group"}


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """Spare the time that drawing takes, which is most of such a run."""
    monkeypatch.setattr(pictures, "draw_curves", lambda *_: None)
    monkeypatch.setattr(pictures, "draw_predictions", lambda path, *_: DOT.save(path))


@pytest.fixture
def train():
    """Run segkit train on the CPU; gives its exit code."""
    return lambda *arguments: main(["train", *map(str, arguments), "--device", "cpu"])


@pytest.fixture
def mistake(capsys):
    """Check that a tool ended with 2 and one sentence; gives it."""

    def check(code, *parts):
        text = capsys.readouterr().err
        assert code == 2, text
        assert text.startswith("error: ")
        assert text.count("\n") == 1
        for part in parts:
            assert str(part) in text
        return text

    return check


def rows(run):
    return list(csv.DictReader((run / "metrics.csv").open()))


def weights(run, name="last.pt"):
    return torch.load(run / "checkpoints" / name, weights_only=True)["model"]


def with_images(tiny_set, count):
    """Have so many training images: some of the six, or some of them twice."""
    for kind in ("images", "masks"):
        folder = tiny_set.root / "train" / kind
        for number in range(6, count):
            shutil.copy(folder / f"train_{number - 6}.png", folder / f"train_{number}.png")
        for number in range(count, 6):
            (folder / f"train_{number}.png").unlink()


def draw_halves(tiny_set):
    """Draw what even scores of stride 32 can show: every image two classes side by side."""
    for number, (one, other, axis) in enumerate([(0, 1, 0), (1, 2, 1), (2, 0, 0), (2, 1, 1)]):
        classes = np.full((64, 64), one, np.uint8)
        classes.swapaxes(0, axis)[32:] = other
        for kind, values in (("images", 80 * classes), ("masks", 10 * classes)):
            path = tiny_set.root / "train" / kind / f"train_{number}.png"
            Image.fromarray(values).convert("RGB" if kind == "images" else "L").save(path)


# Small sets


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_every_image_counts_or_the_numbers_are_told(
    count, batch_size, tiny_config, tiny_set, train, mistake, monkeypatch, tmp_path
):
    with_images(tiny_set, count)
    seen = []

    def take(self, parts, original=Step.__call__):
        seen.extend(name for part in parts for name in part.names)
        return original(self, parts)

    monkeypatch.setattr(Step, "__call__", take)
    code = train(tiny_config({"data.batch_size": batch_size, "train.epochs": 1}))
    if count < batch_size:
        mistake(code, f"'train' has {count} images", f"data.batch_size={batch_size}", "lower")
        assert not (tmp_path / "run").exists()
    else:
        assert code == 0
        assert sorted(seen) == sorted(f"train_{number}" for number in range(count))
        assert math.isfinite(float(rows(tmp_path / "run")[0]["loss"]))


@pytest.mark.parametrize("decoder", SHIPPED)
def test_one_image_of_the_smallest_size_suits_batch_norm(
    decoder, tiny_config, tiny_set, train, tmp_path
):
    for split in ("train", "val"):
        for path in (tiny_set.root / split).rglob("*.png"):
            Image.fromarray(np.array(Image.open(path))[:32, :32]).save(path)
    with_images(tiny_set, 3)  # batches of two and one
    config = tiny_config({"model.decoder": SHIPPED[decoder], "train.epochs": 1})
    assert train(config) == 0
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


@pytest.mark.parametrize(
    "decoder",
    [
        each if each == "unet" else pytest.param(each, marks=pytest.mark.slow)
        for each in [*SHIPPED, *OPTIONS]
    ],
)
def test_every_decoder_learns_four_images_by_heart(
    decoder, tiny_config, tiny_set, train, capsys, tmp_path
):
    section = {**SHIPPED, **OPTIONS}[decoder]
    if section["name"] != "unet":
        draw_halves(tiny_set)
    config = tiny_config(
        {
            "model.decoder": section,
            "data.batch_size": 4,
            "train.optimizer.lr": 0.005,
            "train.epochs": 1,
            "train.patience": 1,
            "train.freeze_encoder_epochs": 9,
        }
    )
    assert train(config, "--overfit", 4) == 0
    out = capsys.readouterr().out
    assert "100 train, 4 val images" in out  # 25 steps of the same four
    run = tmp_path / "run_overfit4"
    recipe = load_config(run / "config.yaml").train
    assert (recipe.freeze_encoder_epochs, recipe.patience) == (0, None)
    last = rows(run)[-1]
    assert float(last["miou"]) > 0.95, out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [7, 0, -1])
def test_images_that_are_not_there_cannot_be_learned(count, tiny_config, train, mistake, tmp_path):
    parts = ["'train' has 6 images, not 7"] if count == 7 else [f"--overfit is {count}"]
    mistake(train(tiny_config(), "--overfit", count), *parts)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("run")] == []


def content(batch):
    """Turn the samples of a batch into values that can be compared."""
    return [(n, i.numpy().tobytes(), m.numpy().tobytes()) for i, m, n in zip(*batch, strict=True)]


def test_what_is_learned_by_heart_are_crops_that_stay_the_same(tiny_config):
    crop = [{"RandomCrop": {"height": 16, "width": 24}}, {"ColorJitter": {"p": 1.0}}]
    config = load_config(tiny_config({"data.train_transforms": crop, "data.cache": "ram"}))
    config = to_overfit(config, 2)
    assert config.data.cache == "none"  # that of the whole split
    experiment = Experiment.from_config(config, overfit=2)
    loader = experiment.train_loader()
    trained = [one for n in range(2) for [batch] in loader.steps(n) for one in content(batch)]
    judged = list(experiment.val_loader())
    assert len(trained) == 2 * 25 * 2
    assert {name for name, *_ in trained} == {"train_0", "train_1"}
    assert len(set(trained)) == 2
    assert set(trained) == {one for batch in judged for one in content(batch)}
    assert judged[0].images.shape[-2:] == (16, 24)


# When to stop, and what to keep


def scripted(monkeypatch, scores):
    """Have validation find these mIoUs, one an epoch; gives the weights that it judged."""
    found, judged, original = iter(scores), [], trainer.evaluate_images

    def evaluate(predictor, *arguments, **options):
        judged.append({k: v.clone() for k, v in predictor.backend.model.state_dict().items()})
        result = original(predictor, *arguments, **options)
        scores = replace(result.scores, miou=next(found))
        return SimpleNamespace(scores=scores, loss=result.loss, tiled=None)

    monkeypatch.setattr(trainer, "evaluate_images", evaluate)
    return judged


def test_patience_ends_a_run_that_gets_no_better(tiny_config, train, monkeypatch, tmp_path):
    config = tiny_config({"train.patience": 2, "train.epochs": 9})
    scripted(monkeypatch, [0.2, 0.3, 0.3, 0.1, 0.9])
    assert train(config) == 0
    assert len(rows(tmp_path / "run")) == 4  # as good as before is no better
    best = torch.load(tmp_path / "run/checkpoints/best.pt", weights_only=True)
    assert (best["epoch"], best["scores"]["miou"]) == (2, 0.3)
    log = (tmp_path / "run/train.log").read_text()
    assert log.count("best so far") == 2
    assert "best mIoU 30.0 %" in log
    assert train(config, "--resume") == 0  # it has ended
    assert len(rows(tmp_path / "run")) == 4


def test_patience_starts_anew_with_every_best(tiny_config, train, monkeypatch, tmp_path):
    scripted(monkeypatch, [0.2, 0.1, 0.3, 0.1, 0.4, 0.1])
    assert train(tiny_config({"train.patience": 2, "train.epochs": 6})) == 0
    assert len(rows(tmp_path / "run")) == 6


def test_patience_is_judged_at_validations_alone(tiny_config, train, monkeypatch, tmp_path):
    scripted(monkeypatch, [0.3, 0.2, 0.9])
    config = tiny_config({"train.patience": 1, "train.validate_every": 2, "train.epochs": 9})
    assert train(config) == 0
    table = rows(tmp_path / "run")
    assert [row["miou"] != "" for row in table] == [False, True, False, True]
    assert all(float(row["loss"]) > 0 for row in table)


def test_best_holds_the_average_and_last_the_weights(tiny_config, train, monkeypatch, tmp_path):
    judged = scripted(monkeypatch, [0.1, 0.2])
    assert train(tiny_config({"train.ema": 0.9})) == 0
    best, last = (weights(tmp_path / "run", name) for name in ("best.pt", "last.pt"))
    assert best.keys() == last.keys()
    assert all(torch.equal(best[name], judged[1][name]) for name in best)
    training = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)["training"]
    assert all(torch.equal(best[name], training["average"][f"module.{name}"]) for name in best)
    moved = [name for name in best if name.endswith("weight")]
    assert all(not torch.equal(best[name], last[name]) for name in moved)


def test_a_frozen_encoder_thaws_on_time(tiny_config, train, monkeypatch, tmp_path):
    kept = {}

    def save(self, path, original=TrainingState.save):
        weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        kept[self.progress.epoch - 1] = weights  # epochs that are over
        original(self, path)

    monkeypatch.setattr(TrainingState, "save", save)
    changes = {"train.freeze_encoder_epochs": 2, "train.epochs": 3}
    assert train(tiny_config(changes)) == 0
    names = [name for name in kept[0] if name.startswith("encoder.")]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in names)
    assert any(not torch.equal(kept[1][name], kept[2][name]) for name in names)
    head = next(name for name in kept[0] if name.startswith("decoder.") and "head" in name)
    assert not torch.equal(kept[0][head], kept[1][head])


# What is not finite


def poisoned(monkeypatch, *when):
    """Make the loss of these steps infinite, counted over the run."""
    calls = iter(range(1, 1000))

    def take(self, parts, original=Step.__call__):
        scale = math.inf if next(calls) in when else 1.0
        loss = self.loss
        self.loss = Scaled(loss, scale)
        try:
            return original(self, parts)
        finally:
            self.loss = loss

    monkeypatch.setattr(Step, "__call__", take)


class Scaled:
    """A loss times a number."""

    def __init__(self, loss, scale):
        self.loss, self.scale, self.normalizer = loss, scale, loss.normalizer

    def terms(self, logits, target):
        return self.loss.terms(logits, target) * self.scale


def test_a_loss_that_is_not_finite_is_told_with_all_about_it(
    tiny_config, tiny_set, train, mistake, monkeypatch, tmp_path
):
    poisoned(monkeypatch, 5)
    run = tmp_path / "run"
    text = mistake(
        train(tiny_config({"train.epochs": 3})),
        "not finite in epoch 2 at step 2",
        "learning rate 3.00e-03",
        "gradient scale 1",
        "largest logit ",
        "train.skip_nonfinite",
        run / "nonfinite_0.pt",
    )
    kept = torch.load(run / "nonfinite_0.pt", weights_only=True)
    assert (kept["epoch"], kept["step"], kept["lr"]) == (2, 2, 3e-3)
    assert len(kept["names"]) == 2
    for name, image, mask in zip(kept["names"], kept["images"][0], kept["masks"][0], strict=True):
        assert name in text
        pixels = np.array(Image.open(tiny_set.root / f"train/images/{name}.png"))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
        raw = np.array(Image.open(tiny_set.root / f"train/masks/{name}.png"))
        assert np.array_equal(mask.numpy(), np.where(raw == 99, 255, raw // 10))
    logit = float(text.split("largest logit ")[1].split(",")[0])
    assert logit == pytest.approx(kept["largest_logit"], rel=0.01)
    assert len(rows(run)) == 1
    content = load_checkpoint(run / "checkpoints/last.pt")
    assert content["epoch"] == 1
    assert all(value.isfinite().all() for value in content["model"].values())
    assert train(tiny_config({"train.epochs": 3}), "--resume") == 0  # nothing is poisoned now
    assert len(rows(run)) == 3


def test_steps_that_are_not_finite_may_be_passed_over(
    tiny_config, train, mistake, monkeypatch, tmp_path
):
    poisoned(monkeypatch, 2, 3, 5)
    assert train(tiny_config({"train.skip_nonfinite": 2})) == 0
    assert len(rows(tmp_path / "run")) == 2
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    assert not (tmp_path / "run/nonfinite_0.pt").exists()


def test_one_more_than_that_ends_the_run(tiny_config, train, mistake, monkeypatch):
    poisoned(monkeypatch, 1, 3, 4, 5)
    config = tiny_config({"train.skip_nonfinite": 2})
    mistake(train(config), "not finite in epoch 2 at step 2")


def test_a_batch_that_was_passed_over_leaves_no_trace(tiny_config, train, monkeypatch, tmp_path):
    """Not even in the statistics of batch norm, which see it before anybody knows."""
    calls = iter(range(1000))

    def load(self, images, original=Step._load):
        pixels = original(self, images)
        return pixels * math.nan if next(calls) == 1 else pixels

    monkeypatch.setattr(Step, "_load", load)
    assert train(tiny_config({"train.skip_nonfinite": 1})) == 0
    for name in ("last.pt", "best.pt"):
        for key, value in weights(tmp_path / "run", name).items():
            assert value.isfinite().all(), key


def test_a_rate_far_too_high_ends_in_the_sentence(tiny_config, train, mistake):
    sgd = {"name": "sgd", "lr": 1e20}
    mistake(train(tiny_config({**NO_NORM, "train.optimizer": sgd})), "not finite", "1.00e+20")


# TensorBoard


class Writer:
    """A summary writer that keeps what it was given, and fails when told to."""

    fails = ""

    def __init__(self, folder):
        self.folder, self.given = folder, []
        self._do("start")

    def add_scalar(self, key, value, epoch):
        self._do("scalar")
        self.given.append((key, value, epoch))

    def add_image(self, *_, **__):
        self._do("image")

    def flush(self):
        self._do("flush")

    def _do(self, what):
        if self.fails == what:
            raise OSError(28, "No space left on device")


@pytest.fixture
def writers(monkeypatch):
    """Stand in for the package; gives the writers that were made."""
    made = []
    module = ModuleType("torch.utils.tensorboard")

    def make(folder):
        made.append(Writer(folder))
        return made[-1]

    module.SummaryWriter = make
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return made


def test_without_the_package_it_says_what_to_install(tiny_config, train, mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    mistake(train(tiny_config({"train.tensorboard": True})), "pip install 'segkit[tensorboard]'")


def test_the_board_gets_the_history(tiny_config, train, writers, tmp_path):
    assert train(tiny_config({"train.tensorboard": True})) == 0
    [writer] = writers
    assert writer.folder == str(tmp_path / "run/tensorboard")
    losses = [(value, epoch) for key, value, epoch in writer.given if key == "loss"]
    expected = [(float(row["loss"]), int(row["epoch"])) for row in rows(tmp_path / "run")]
    assert losses == expected
    assert not [key for key, _, _ in writer.given if key == "epoch"]


@pytest.mark.parametrize("what", ["start", "scalar", "flush"])
def test_a_board_that_fails_is_told_once_and_left(
    what, tiny_config, train, writers, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(Writer, "fails", what)
    assert train(tiny_config({"train.tensorboard": True, "train.epochs": 3})) == 0
    assert capsys.readouterr().out.count("WARNING: TensorBoard fails") == 1
    assert len(rows(tmp_path / "run")) == 3


def test_the_best_of_a_passed_over_epoch_predicts(tiny_config, train, monkeypatch, tmp_path):
    poisoned(monkeypatch, 1, 2, 3)
    assert train(tiny_config({"train.skip_nonfinite": 3})) == 0
    path = tmp_path / "run/checkpoints/best.pt"
    model = restore_model(load_checkpoint(path), path).eval()
    assert model(torch.zeros(1, 3, 32, 32)).isfinite().all()
