"""segkit find-lr as a user runs it: a picture, a number, and nothing else left behind."""

import re
import shlex
import signal
import tempfile

import cv2
import matplotlib as mpl
import numpy as np
import pytest
import torch
import torch._dynamo  # which makes a folder for temporary files once it is loaded
from PIL import Image

from segkit.commands import main
from segkit.config import load_config
from segkit.training.step import NonFinite, Step


@pytest.fixture
def find_lr(monkeypatch, tmp_path):
    """Run segkit find-lr on the CPU; gives its exit code."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main(["find-lr", *map(str, arguments), "--device", "cpu"])


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert all(400 < side < 1500 for side in image.size)
        return np.array(image.convert("RGB"))


def settings():
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        cv2.getNumThreads(),
        mpl.get_backend(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )


@pytest.mark.parametrize(
    ("overrides", "low", "high"),
    [
        ({}, 1e-6, 1),
        ({"train.optimizer": {"name": "sgd", "lr": 0.1}, "train.accumulate": 2}, 1e-5, 10),
        ({"data.workers": 1, "train.tensorboard": True, "train.ema": 0.9}, 1e-6, 1),
    ],
    ids=["adamw", "sgd", "worker"],
)
def test_a_number_and_a_picture(overrides, low, high, find_lr, tiny_config, tmp_path, capsys):
    path = tiny_config(overrides)
    before, set_so = set(tmp_path.rglob("*")), settings()
    out = tmp_path / "range.png"
    assert find_lr(path, "--steps", 40, "--out", out, "--set", "seed=4", "precision=fp32") == 0
    assert set(tmp_path.rglob("*")) == before | {out}
    assert settings() == set_so

    said = capsys.readouterr().out
    number = re.search(r"^suggest  (\S+), ", said, re.MULTILINE)[1]
    assert low < float(number) < high
    assert re.search(rf"^tested   \d+ learning rates from {low:.1e} to ", said, re.MULTILINE)
    assert str(out) in said
    command = shlex.split(re.search(r"^use it   (.*)$", said, re.MULTILINE)[1])
    assert command[:4] == ["segkit", "train", str(path), "--set"]
    config = load_config(command[2], command[4:])
    assert (config.train.optimizer.lr, config.seed) == (float(number), 4)

    drawn = pixels(out).astype(int)
    red, blue = drawn[..., 0], drawn[..., 2]
    height = len(drawn)
    for color in ((red > 180) & (blue < 80), (blue > 150) & (red < 80)):
        assert color.any()
    assert (((red > 180) & (blue < 80)).sum(axis=0) > 0.6 * height).sum() in (1, 2, 3)  # one line


def test_the_same_seed_gives_the_same_number(find_lr, tiny_config, capsys):
    said = []
    for _ in range(2):
        assert find_lr(tiny_config(), "--steps", 20) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "drawn in tiny_run_lr.png" in said[0]
    assert pixels("tiny_run_lr.png").any()


def test_a_run_that_is_there_is_left_alone(find_lr, tiny_config, tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.pt").write_text("mine")
    assert find_lr(tiny_config(), "--steps", 20, "--out", "curve") == 0
    assert [path.read_text() for path in (tmp_path / "run").rglob("*.*")] == ["mine"]
    assert pixels("curve.png").any()


def refuse(self, parts):
    raise NonFinite([], torch.tensor(float("nan")))


def stand_still(self, parts):
    self.state.optimizer.step()
    self.state.schedule.step()
    return torch.tensor(1.5)


@pytest.mark.parametrize("step", [refuse, stand_still])
def test_where_nothing_falls_nothing_is_suggested(step, find_lr, tiny_config, monkeypatch, capsys):
    monkeypatch.setattr(Step, "__call__", step)
    assert find_lr(tiny_config(), "--steps", 20, "--out", "curve.png") == 1
    out, err = capsys.readouterr()
    assert err.startswith("no suggestion: the smoothed loss never fell by a tenth; ")
    assert err.count("\n") == 1
    assert err.endswith("tiny_run.yaml --overfit 4\n")
    assert "suggest " not in out
    assert pixels("curve.png").any()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--steps", "9"], ["9 steps are too few", "take 10 or more"]),
        (["--out", "{folder}/no/curve.png"], ["cannot write", "no/curve.png"]),
        (["--out", "{folder}/curve.xyz"], ["cannot write", "curve.xyz", "name it curve.png"]),
        (["--out", "{folder}/folder.png"], ["cannot write", "folder.png"]),
        (["--set", "train.optimiser.lr=1"], ["did you mean 'optimizer'"]),
        (["--set", "data.batch_size=7"], ["'train' has 6 images, but a step takes 7"]),
    ],
)
def test_misuse_is_told_in_a_sentence(arguments, parts, find_lr, tiny_config, tmp_path, capsys,
                                      monkeypatch):  # fmt: skip
    monkeypatch.delattr(Step, "__call__")  # all before the first step
    (tmp_path / "folder.png").mkdir()
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert find_lr(tiny_config(), *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert all(part in err for part in parts), err
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("wanted", [False, True])
def test_the_range_test_is_as_deterministic_as_training(wanted, find_lr, tiny_config, monkeypatch):
    found = set()

    def watch(self, parts):
        found.add(torch.are_deterministic_algorithms_enabled())
        return stand_still(self, parts)

    monkeypatch.setattr(Step, "__call__", watch)
    find_lr(tiny_config({"train.deterministic": wanted}), "--steps", 10, "--out", "curve.png")
    assert found == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()
