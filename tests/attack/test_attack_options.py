"""Options of all parts, and settings, with numbers and values that do not fit."""

import inspect
import random
import shutil

import albumentations
import pytest

from segkit.commands import main
from segkit.registry import find, names

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
VALUES = (
    *(0, -1, 1, 2, 10**9, 10**18, -0.5, 0.5, 1.5, 1e-300, 1e300, float("inf"), float("nan")),
    *(True, None, "x", "null", "mean", {}, [], ["x"], [0], [0, 0], [-1, 0.9], [0.9, 1.0]),
    *([1, 2], [1e300, 0.5], [0] * 4, [-1] * 4, [1e9] * 4, [2, 2, 2, 2], [[1]], {"name": "x"}),
)
TRANSFORMS = (
    *("RandomCrop", "Resize", "HorizontalFlip", "RandomScale", "ColorJitter", "GaussianBlur"),
    *("PadIfNeeded", "Rotate", "CoarseDropout", "RandomResizedCrop", "ElasticTransform", "ToGray"),
    *("LongestMaxSize", "Affine", "Normalize", "RandomBrightnessContrast", "CenterCrop"),
)
SETTINGS = (
    *("epochs", "accumulate", "ema", "clip_norm", "patience", "samples", "timeout", "loss"),
    *("optimizer.weight_decay", "optimizer.encoder_lr_factor", "optimizer.lr", "init_from"),
)
OTHERS = (
    *("data.batch_size", "data.workers", "data.mean", "data.std", "data.cache", "data.root"),
    *("data.train_split", "data.train_transforms", "model.in_channels", "model.encoder.weights"),
    *("seed", "precision", "run_dir", "checkpoint.every"),
)


def places():
    """Yield all keys of all parts, each with what must stand beside it."""
    for kind in ("encoder", "decoder", "loss", "optimizer", "schedule"):
        section = "model" if kind in ("encoder", "decoder") else "train"
        for name in names(kind):
            options = inspect.signature(find(kind, name)).parameters
            beside = {"name": name}
            if kind == "optimizer":
                beside["lr"] = 0.001
            if kind == "encoder" and "width" in options:
                beside["width"] = 0.03
            for option in options:
                yield f"{section}.{kind}", beside, option
    for key in (*(f"train.{key}" for key in SETTINGS), *OTHERS):
        yield key, None, None
    for name in TRANSFORMS:
        for option in inspect.signature(getattr(albumentations, name)).parameters:
            for split in ("train", "val"):
                yield f"data.{split}_transforms", name, option


def test_values_that_do_not_fit(tiny_config, tmp_path, monkeypatch, capsys, rounds, count):
    monkeypatch.chdir(tmp_path)
    all_places = list(places())
    for case in range(1500 * rounds):
        rng = random.Random(case)
        overrides = {
            "train.epochs": 1,
            "train.samples": 0,
            "model.encoder": {"name": "vgg11_bn", "width": 0.03},
            "model.decoder": {"name": "fcn", "stride": 32, "classifier": "linear"},
        }
        for _ in range(rng.choice((1, 1, 1, 2))):
            key, beside, option = rng.choice(all_places)
            value = rng.choice(VALUES)
            if isinstance(beside, str):
                overrides[key] = [{beside: {option: value}}]
            else:
                overrides[key] = value if beside is None else {**beside, option: value}
        config = tiny_config(overrides)
        assert main(["train", str(config), "--device", "cpu"]) in (0, 2), overrides
        assert len(capsys.readouterr().err) < 20_000, overrides
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    count("options and settings", 1500 * rounds)
