"""Parts that live outside of the package: from YAML with --import, and from Python."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

import segkit
from segkit import registry
from segkit.commands import main
from segkit.config import load_config
from segkit.errors import UserError
from segkit.testing import check_decoder, check_encoder, check_loss

PARTS = Path(__file__).with_name("my_parts.py")
NAMES = {
    "encoder": "tiny_pools",
    "decoder": "scores",
    "loss": "brier",
    "optimizer": "rmsprop",
    "schedule": "halves",
}


def forget():
    """Undo the import, as a new process would begin."""
    for kind, name in NAMES.items():
        registry.unregister(kind, name)
    sys.modules.pop("my_parts", None)
    registry._imported.clear()


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


@pytest.fixture
def experiment(tiny_config):
    return tiny_config(
        {
            "model.encoder": {"name": "tiny_pools", "width": 4},
            "model.decoder": {"name": "scores"},
            "train.loss": {"name": "brier", "power": 1.5},
            "train.optimizer": {"name": "rmsprop", "lr": 1e-3, "encoder_lr_factor": 0.5},
            "train.schedule": {"name": "halves"},
        }
    )


def weights(run):
    return torch.load(run / "checkpoints/last.pt", weights_only=True)["model"]


@pytest.mark.slow
def test_parts_of_a_file_go_through_every_tool(
    experiment, train, evaluate, compare, predict, tiny_set, tmp_path, capsys
):
    given = ("--import", PARTS)
    assert train(experiment, *given) == 0
    shown = capsys.readouterr().out
    assert "scores on tiny_pools" in shown
    assert f"--import {PARTS}" in shown  # in the command that comes next
    run = tmp_path / "run"
    content = torch.load(run / "checkpoints/last.pt", weights_only=True)
    assert content["imports"] == [str(PARTS)]
    assert json.loads((run / "env.json").read_text())["imports"] == [str(PARTS)]

    one = tmp_path / "one"
    assert train(experiment, *given, "--set", f"run_dir={one}", "train.epochs=1") == 0
    more = ("--set", f"run_dir={one}", "--resume", "--override")
    assert train(experiment, *given, *more) == 0
    assert weights(run).keys() == weights(one).keys()
    assert all(torch.equal(value, weights(one)[name]) for name, value in weights(run).items())

    assert evaluate(run, *given, "--json", tmp_path / "scores.json") == 0
    found = json.loads((tmp_path / "scores.json").read_text())["scores"]["miou"]
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert max(float(row["miou"]) for row in rows) == pytest.approx(found)
    image = tiny_set.root / "val/images/val_0.png"
    assert predict(run, image, *given, "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out/val_0.png") as mask, Image.open(image) as pixels:
        assert mask.size == pixels.size
    assert compare(run, one, *given, "--out", tmp_path / "compared") == 0


def test_the_contract_kit_finds_no_fault_with_them():
    registry.import_parts([str(PARTS)])
    check_encoder(registry.find("encoder", "tiny_pools"))
    check_decoder(registry.find("decoder", "scores"))
    check_decoder(registry.find("decoder", "scores"), (4, 6, 8), (2, 4, 8))
    check_loss(registry.find("loss", "brier"))


def test_a_checkpoint_says_how_to_bring_its_parts(experiment, train, evaluate, tmp_path, capsys):
    assert train(experiment, "--import", PARTS) == 0
    forget()
    capsys.readouterr()
    assert evaluate(tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "tiny_pools" in error
    assert f"add --import {PARTS}" in error
    assert train(tmp_path / "run", "--resume") == 2
    error = capsys.readouterr().err
    assert "tiny_pools" in error
    assert f"add --import {PARTS}" in error
    assert train(tmp_path / "run", "--resume", "--import", PARTS) == 0


def test_mistakes_in_the_options_of_own_parts_have_a_line(experiment):
    registry.import_parts([str(PARTS)])
    load_config(experiment)
    text = experiment.read_text()
    experiment.write_text(text.replace("power: 1.5", "powr: 1.5"))
    with pytest.raises(UserError, match=r"yaml:\d+: train.loss.powr is an unknown key; did you me"):
        load_config(experiment)
    experiment.write_text(text.replace("power: 1.5", "power: 0"))
    with pytest.raises(UserError, match=r"train.loss.power is 0: input should be greater than 0"):
        load_config(experiment)
    experiment.write_text(text.replace("name: scores", "name: scorse"))
    with pytest.raises(UserError, match=r"model.decoder.name is 'scorse'; did you mean 'scores'"):
        load_config(experiment)


def test_yaml_imports_nothing(experiment):
    with pytest.raises(UserError, match=r"model\.encoder\.name is 'tiny_pools'"):
        load_config(experiment)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no_such_module_anywhere", "ModuleNotFoundError"),
        ("no/such/file.py", "there is no such file"),
    ],
)
def test_what_cannot_be_imported_is_told(given, message, experiment, train, capsys):
    assert train(experiment, "--import", given) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --import {given}")
    assert message in error


# From Python


class Squares(Dataset):
    """Bright squares on noise: uint8 images `(H, W, 3)` and int64 masks."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.masks = np.zeros((count, 24, 28), np.int64)
        for mask in self.masks:
            top, left = rng.integers(0, 14, 2)
            mask[top : top + 9, left : left + 9] = 1
            mask[:, -1] = 255
        noise = rng.integers(0, 60, (*self.masks.shape, 3))
        self.images = (noise + 180 * (self.masks == 1)[..., None]).astype(np.uint8)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        return self.images[index], self.masks[index]


def build(epochs=3, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    from segkit.hardware import choose_hardware

    settings = {
        "loss": lambda logits, target: nn.functional.cross_entropy(
            logits, target, ignore_index=255
        ),
        "optimizer": {"name": "adamw", "lr": 0.03},
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "batch_size": 4,
        "hardware": choose_hardware("cpu", "fp32"),
    }
    settings |= options
    return segkit.Experiment(model, Squares(8, 0), Squares(3, 1), epochs=epochs, **settings)


def test_a_plain_module_and_dataset_train_evaluate_and_predict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = build()
    assert experiment.classes.names == ("0", "1")
    history = segkit.Trainer(experiment).fit()
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[-1]["miou"] > 0.9
    assert list(tmp_path.iterdir()) == []  # without a folder nothing is written

    predictor = segkit.Predictor(experiment.model, mean=[0.5] * 3, std=[0.5] * 3)
    val = Squares(3, 1)
    loader = DataLoader(
        val, batch_size=2, collate_fn=lambda items: tuple(map(np.stack, zip(*items, strict=True)))
    )
    chw = [
        (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks))
        for images, masks in loader
    ]
    scores = segkit.evaluate(predictor, chw, 2).scores
    assert scores.miou == history[-1]["miou"]
    mask = predictor(val.images[0]).mask.numpy()
    valid = val.masks[0] != 255
    assert (mask == val.masks[0])[valid].mean() > 0.95


def test_a_run_from_python_resumes_to_the_bit(tmp_path):
    straight = segkit.Trainer(build(), tmp_path / "straight")
    straight.fit()

    class Stop(segkit.Listener):
        def on_step(self, trainer, loss):
            trainer.signals.requested = trainer.state.progress.epoch == 1

    stopped = segkit.Trainer(build(), tmp_path / "run", [Stop()])
    stopped.fit()
    assert stopped.stopped
    assert (stopped.state.progress.epoch, stopped.state.progress.step) == (1, 1)
    resumed = segkit.Trainer(build(), tmp_path / "run", resume=True)
    resumed.fit()
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "run")
    assert all(torch.equal(one[name], other[name]) for name in one)
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("straight", "run")]
    assert tables[0] == tables[1]
    with pytest.raises(UserError, match=r"other settings \(train.epochs: 3 -> 4\)"):
        segkit.Trainer(build(epochs=4), tmp_path / "run", resume=True)


def test_an_unknown_key_of_the_recipe_is_refused():
    with pytest.raises(UserError, match="epohcs is an unknown key; did you mean 'epochs'"):
        build(epohcs=3)
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        build(optimizer={"name": "adamww", "lr": 0.1})


def test_bytes_are_normalised_as_for_imagenet_unless_told_otherwise():
    plain = build(mean=None, std=None)
    assert (plain.mean, plain.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert segkit.Trainer(plain).fit()[-1]["miou"] > 0.9
    with pytest.raises(UserError, match="pass both mean and std"):
        build(std=None)


def test_own_parts_are_listed_with_their_costs(monkeypatch, capsys):
    registry.names("encoder")  # registers ours, which would take a minute to look at
    few = {"lenet": registry.find("encoder", "lenet")}
    monkeypatch.setitem(registry._parts, "encoder", few)
    command = ["summary", "--list", "--encoder", "lenet", "--size", "32", "32", "--import"]
    assert main([*command, str(PARTS)]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^ scores +[\d,]+ .* 1 2 *$", output, re.MULTILINE)
    assert re.search(r"^ tiny_pools +[\d,]+ .* 1 2 4 *$", output, re.MULTILINE)
    assert re.search(r"^ fcn +the decoder needs maps of strides", output, re.MULTILINE)
    assert "brier" in output
