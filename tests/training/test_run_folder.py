"""What a run leaves behind, and when it refuses to."""

import csv
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from segkit.config import load_config
from segkit.distributed import SINGLE
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.hardware import Hardware
from segkit.training.listeners import RunFolder, run_folder
from segkit.training.trainer import Trainer

CPU = Hardware(torch.device("cpu"), "fp32", "for the tests")


@pytest.fixture
def config(tiny_config):
    return load_config(tiny_config())


def created(config):
    folder = RunFolder(config.run_dir)
    start(folder, config)
    return folder


def start(folder, config):
    """Have the folder made as the start of a run does."""
    experiment = SimpleNamespace(processes=SINGLE, config=config, statistics=None, hardware=CPU)
    folder.on_start(SimpleNamespace(experiment=experiment, resumed_from=None))


def rows(count=3):
    return [
        {
            "epoch": epoch,
            "loss": 1 / 3 / epoch,
            "miou": 0.1 * epoch,
            "iou/car": math.nan,
            'iou/sky, "blue"': 0.5,
            "seconds_per_step": 1.5 + epoch,
            "images_per_second": 9.0,
        }
        for epoch in range(1, count + 1)
    ]


def test_a_new_run_makes_its_folders(config, tmp_path):
    folder = RunFolder(config.run_dir, resume=False)
    assert not (tmp_path / "run").exists()  # nothing is left behind should a later check fail
    start(folder, config)
    assert folder.path == tmp_path / "run"
    assert (folder.path / "samples").is_dir()
    assert folder.last == tmp_path / "run/checkpoints/last.pt"
    assert folder.best == tmp_path / "run/checkpoints/best.pt"
    assert folder.last.parent.is_dir()


def test_another_run_is_not_overwritten(config, tmp_path):
    created(config).last.write_bytes(b"x")
    with pytest.raises(UserError) as error:
        RunFolder(config.run_dir, resume=False)
    for part in (str(tmp_path / "run"), "already holds a run", "--resume", "--set run_dir=DIR"):
        assert part in str(error.value)
    assert RunFolder(config.run_dir, resume=True).last.read_bytes() == b"x"


def test_a_folder_without_a_checkpoint_may_be_used_again(config):
    created(config)
    created(config)


def test_resuming_without_a_run_says_what_is_missing(config, tmp_path):
    with pytest.raises(UserError) as error:
        RunFolder(config.run_dir, resume=True)
    for part in ("nothing to resume", str(tmp_path / "run/checkpoints/last.pt"), "leave out"):
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_named(tiny_config, tmp_path, name):
    (tmp_path / "file").touch()
    config = load_config(tiny_config({"run_dir": str(tmp_path / name)}))
    with pytest.raises(UserError) as error:
        RunFolder(config.run_dir, resume=False)
    for part in ("cannot make the run folder", str(tmp_path / name), "--set run_dir=DIR"):
        assert part in str(error.value)


def test_a_folder_that_turns_into_a_file_is_told_too(config, tmp_path):
    folder = RunFolder(config.run_dir, resume=False)
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match=r"cannot make the run folder .*--set run_dir=DIR"):
        start(folder, config)


def test_the_settings_load_as_the_same_config(config):
    folder = created(config)
    assert load_config(folder.path / "config.yaml") == config
    environment = json.loads((folder.path / "env.json").read_text())
    assert torch.__version__.startswith(environment["packages"]["torch"])
    assert environment["threads"] == torch.get_num_threads()
    assert "fp32" in environment["device"]


def test_the_history_reads_back(config):
    folder = created(config)
    written = rows()
    folder.write_history(written)

    text = (folder.path / "metrics.jsonl").read_text()
    read = [json.loads(line) for line in text.splitlines()]
    assert repr(read) == repr(written)

    with (folder.path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3
    for row, original in zip(table, written, strict=True):
        kept = [key for key in original if key not in ("seconds_per_step", "images_per_second")]
        assert list(row) == kept
        for key in kept:
            assert repr(float(row[key])) == repr(float(original[key]))


def test_equal_runs_leave_equal_tables(config):
    """Timings differ from run to run, so they stay out of the table."""
    folder = created(config)
    tables = []
    for seconds in (1.0, 2.0):
        folder.write_history([{**row, "seconds_per_step": seconds} for row in rows()])
        tables.append((folder.path / "metrics.csv").read_bytes())
    assert tables[0] == tables[1]


def test_the_history_is_written_whole_each_time(config):
    folder = created(config)
    folder.write_history(rows(3))
    folder.write_history(rows(2))
    assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == 2
    assert len((folder.path / "metrics.csv").read_text().splitlines()) == 3
    files = {p.name for p in folder.path.iterdir() if p.is_file()}
    assert files == {"config.yaml", "env.json", "metrics.csv", "metrics.jsonl"}


def test_a_failed_write_keeps_the_old_file(config, monkeypatch):
    folder = created(config)
    folder.write_history(rows(1))
    before = (folder.path / "metrics.jsonl").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl.*No space left"):
        folder.write_history(rows(2))
    assert (folder.path / "metrics.jsonl").read_bytes() == before
    assert not list(folder.path.glob(".*"))


def test_a_table_that_is_held_open_is_written_after_the_next_epoch(config, monkeypatch, capsys):
    """Checkpoints come first, and only they are needed to go on."""
    held, write = iter([True, False]), run_folder.write_file

    def write_file(path, content):
        if path.name == "metrics.csv" and next(held):
            assert (path.parent / "checkpoints" / "last.pt").exists()
            raise UserError(f"cannot write {path}: Permission denied")
        write(path, content)

    monkeypatch.setattr(run_folder, "write_file", write_file)
    Trainer(Experiment.from_config(config), config.run_dir).fit()
    assert capsys.readouterr().out.count("WARNING: cannot write ") == 1
    assert len((Path(config.run_dir) / "metrics.csv").read_text().splitlines()) == 3


def test_a_table_that_a_killed_process_left_out_is_written_when_it_goes_on(config):
    Trainer(Experiment.from_config(config), config.run_dir).fit()
    path = Path(config.run_dir) / "metrics.csv"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:2]))
    Trainer(Experiment.from_config(config), config.run_dir, resume=True).fit()
    assert path.read_text() == whole
