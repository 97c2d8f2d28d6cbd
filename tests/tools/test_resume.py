"""A run folder is all that --resume needs."""

import csv
import shlex
import shutil
from contextlib import contextmanager

import pytest
import torch
import yaml

from segkit.training.listeners import RunFolder, pictures


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(pictures, "draw_curves", lambda *_: None)


def rows(run):
    return list(csv.DictReader((run / "metrics.csv").open()))


def weights(run):
    return torch.load(run / "checkpoints/last.pt", weights_only=True)["model"]


@pytest.fixture
def stopping(monkeypatch):
    """Stop every run after an epoch, within the context that this gives."""

    def stop(self, trainer, row, scores, original=RunFolder.on_epoch_end):
        original(self, trainer, row, scores)
        trainer.signals.requested = True

    @contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "on_epoch_end", stop)
            yield

    return context


@pytest.fixture
def stopped(stopping, tiny_config, train, tmp_path):
    """Stop a run with settings of its own after an epoch; gives its folder."""
    run = tmp_path / "stopped"
    settings = ["seed=5", "train.optimizer.lr=0.001", "train.samples=0", f"run_dir={run}"]

    def begin(*arguments):
        with stopping():
            assert train(tiny_config(), *arguments, "--set", *settings) == 130
        return run

    return begin


def test_the_command_that_is_printed_goes_on(stopped, tiny_config, train, tool, tmp_path, capsys):
    straight = tmp_path / "straight"
    settings = ["seed=5", "train.optimizer.lr=0.001", "train.samples=0", f"run_dir={straight}"]
    assert train(tiny_config(), "--set", *settings) == 0
    run = stopped()
    command = shlex.split(capsys.readouterr().out.split("go on with: ")[1])
    assert command == ["segkit", "train", str(run), "--resume", "--device", "cpu"]
    (tmp_path / "tiny_run.yaml").unlink()
    assert tool("train", *command[2:]) == 0
    one, other = weights(straight), weights(run)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (straight / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_a_renamed_run_folder_stays_where_it_is(stopped, train, tmp_path):
    run = stopped()
    renamed = tmp_path / "renamed"
    run.rename(renamed)
    assert train(renamed, "--resume") == 0
    assert len(rows(renamed)) == 2
    assert not run.exists()
    assert yaml.safe_load((renamed / "config.yaml").read_text())["run_dir"] == str(renamed)


def test_changed_settings_on_top_want_an_override(stopped, train, capsys):
    run = stopped()
    assert train(run, "--resume", "--set", "train.epochs=3") == 2
    error = capsys.readouterr().err
    assert "train.epochs: 2 -> 3" in error
    assert "--override" in error
    assert train(run, "--resume", "--override", "--set", "train.epochs=3") == 0
    assert len(rows(run)) == 3


def test_forgotten_settings_are_told_with_the_folder(stopped, tiny_config, train, capsys):
    run = stopped()
    assert train(tiny_config({"run_dir": str(run)}), "--resume") == 2
    error = capsys.readouterr().err
    assert "seed: 5 -> 0" in error
    assert f"resume the run folder, {run}," in error


def test_a_folder_alone_is_no_experiment(stopped, train, tmp_path, capsys):
    run = stopped()
    assert train(run) == 2
    assert f"{run} is a folder; add --resume" in capsys.readouterr().err
    assert train(tmp_path, "--resume") == 2
    assert f"there is no {tmp_path / 'config.yaml'}" in capsys.readouterr().err
    shutil.rmtree(run / "checkpoints")
    assert train(run, "--resume") == 2
    assert "nothing to resume: there is no" in capsys.readouterr().err


def test_a_run_in_the_way_is_told_with_the_command_that_goes_on(
    stopped, tiny_config, train, tool, capsys
):
    run = stopped()
    assert train(tiny_config({"run_dir": str(run)})) == 2
    command = capsys.readouterr().err.split("go on with it by ")[1].split(", or ")[0]
    assert tool("train", *shlex.split(command)[2:], "--device", "cpu") == 0
    assert len(rows(run)) == 2


def test_an_overfit_run_goes_on_with_its_images(stopped, stopping, train, tool, capsys):
    run = stopped("--overfit", 2).with_name("stopped_overfit2")
    command = shlex.split(capsys.readouterr().out.split("go on with: ")[1])
    assert command[2:] == [str(run), "--resume", "--device", "cpu", "--overfit", "2"]
    assert train(run, "--resume") == 2
    assert "training images: 50 -> 6" in capsys.readouterr().err
    with stopping():
        assert tool("train", *command[2:]) == 130
    assert len(rows(run)) == 2
