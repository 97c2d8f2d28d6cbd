"""A run folder that changes under a training: it goes on where it can, else ends in a sentence."""

import shutil

import pytest
import torch

from segkit.commands import main
from segkit.config import load_config
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.training.listeners import Listener, pictures
from segkit.training.trainer import Trainer


def remove(run):
    shutil.rmtree(run)


def rename(run):
    run.rename(run.with_name("renamed"))


def remove_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def block_samples(run):
    shutil.rmtree(run / "samples")
    (run / "samples").write_text("in the way")


def block_curves(run):
    (run / "curves.png").unlink()
    (run / "curves.png").mkdir()


def block_run(run):
    shutil.rmtree(run)
    run.write_text("in the way")


def block_checkpoints(run):
    (run / "checkpoints").rename(run / "kept")
    (run / "checkpoints").write_text("in the way")


@pytest.fixture
def changed(tiny_config, tmp_path, monkeypatch, capsys):
    """Change the run folder at the start of the second of three epochs; gives what is printed."""
    monkeypatch.setattr(pictures, "EVERY_S", 0)

    def run(deed):
        class Change(Listener):
            def on_epoch_start(self, trainer):
                if trainer.state.progress.epoch == 1:
                    deed(tmp_path / "run")

        config = load_config(tiny_config({"train.epochs": 3}))
        Trainer(Experiment.from_config(config), tmp_path / "run", [Change()]).fit()
        return capsys.readouterr().out

    return run


def epochs_in(path):
    return torch.load(path, weights_only=True)["training"]["position"]["epoch"]


@pytest.mark.slow
@pytest.mark.parametrize("deed", [remove, rename, remove_checkpoints])
def test_what_is_gone_is_made_again(deed, changed, tmp_path):
    assert "WARNING" not in changed(deed)
    run = tmp_path / "run"
    assert epochs_in(run / "checkpoints/last.pt") == 3
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert (run / "samples/epoch_003.png").is_file()
    assert load_config(run / "config.yaml").train.epochs == 3
    assert main(["train", str(run), "--resume", "--device", "cpu"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "name"), [(block_samples, "samples"), (block_curves, "curves.png")]
)
def test_pictures_that_cannot_be_written_are_told_once_and_dropped(deed, name, changed, tmp_path):
    [told] = [line for line in changed(deed).splitlines() if "WARNING" in line]
    assert str(tmp_path / "run" / name) in told
    assert told.endswith("the run goes on without pictures")
    assert epochs_in(tmp_path / "run/checkpoints/last.pt") == 3


@pytest.mark.parametrize("deed", [block_run, block_checkpoints])
def test_without_a_place_for_checkpoints_it_ends_in_a_sentence(deed, changed, tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*checkpoints/"):
        changed(deed)
    if deed is block_checkpoints:
        assert epochs_in(tmp_path / "run/kept/last.pt") == 1
