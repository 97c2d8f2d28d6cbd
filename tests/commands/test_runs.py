"""`segkit runs`: what is finished, running and stopped, and what differs."""

import json
import os
import platform

import pytest
import yaml

from segkit.commands import main
from segkit.training.runs import differing_settings, find_runs


@pytest.fixture
def run_folder(tmp_path):
    """Make a run folder as a training leaves it."""

    def make(name, rows, pid=None, **train):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints/last.pt").touch()
        config = {"seed": 0, "run_dir": name, "train": {"epochs": 3, "patience": None, **train}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "env.json").write_text(json.dumps({"pid": pid, "host": platform.node()}))
        return folder

    return make


def row(epoch, miou=None, seconds=30.0):
    scores = {} if miou is None else {"miou": miou}
    return {"epoch": epoch, "loss": 1 / epoch, "seconds": seconds, **scores}


def test_states(run_folder, tmp_path):
    run_folder("a_done", [row(1, 0.2), row(2, 0.6), row(3, 0.5)])
    run_folder("b_going", [row(1)], pid=os.getpid())
    run_folder("c_stopped", [row(1, 0.3)], pid=2**22 + 1)
    run_folder("d_patient", [row(1, 0.4), row(2, 0.3)], patience=1)
    run_folder("e_begun", [])
    run_folder("f_unjudged", [row(1, 0.4), row(2)], patience=1)  # the validation is yet to come
    found = find_runs(tmp_path)
    assert [each.state for each in found] == [
        "finished", "running", "stopped", "finished", "stopped", "stopped"
    ]  # fmt: skip
    done = found[0]
    assert (done.epochs, done.planned, done.miou, done.minutes) == (3, 3, 0.6, 1.5)
    assert found[1].miou is None


def test_a_run_built_by_hand(tmp_path):
    (tmp_path / "hand/checkpoints").mkdir(parents=True)
    (tmp_path / "hand/checkpoints/last.pt").touch()
    settings = {"seed": 7, "train": {"epochs": 1, "patience": None}}
    (tmp_path / "hand/env.json").write_text(json.dumps({"settings": settings}))
    (tmp_path / "hand/metrics.jsonl").write_text(json.dumps(row(1)) + "\n")
    [found] = find_runs(tmp_path)
    assert (found.state, found.planned, found.settings["seed"]) == ("finished", 1, 7)


def test_what_differs(run_folder, tmp_path):
    run_folder("a", [], optimizer={"name": "adamw", "lr": 0.1})
    run_folder("b", [], optimizer={"name": "adamw", "lr": 0.2})
    assert differing_settings(find_runs(tmp_path)) == ["train.optimizer.lr"]


def test_options_are_compared_among_runs_with_the_same_part(run_folder, tmp_path):
    run_folder("a", [], loss={"name": "focal", "gamma": 2})
    run_folder("b", [], loss={"name": "dice", "smooth": 0})
    assert differing_settings(find_runs(tmp_path)) == ["train.loss.name"]
    run_folder("c", [], loss={"name": "focal", "gamma": 3})
    assert differing_settings(find_runs(tmp_path)) == ["train.loss.gamma", "train.loss.name"]


def test_the_table_and_json(run_folder, tmp_path, capsys):
    run_folder("a", [row(1, 0.25), row(2), row(3, 0.5)], loss={"name": "focal"})
    run_folder("b", [row(1, 0.1, seconds=90)], loss={"name": "dice"})
    assert main(["runs", str(tmp_path), "--json", str(tmp_path / "runs.json")]) == 0
    out = capsys.readouterr().out
    a, b = (line.split() for line in out.splitlines() if str(tmp_path / "runs") in line)
    assert a[1:] == ["finished", "3/3", "1.5", "50.0", "0.333", "focal"]
    assert b[1:] == ["stopped", "1/3", "1.5", "10.0", "1.000", "dice"]
    content = json.loads((tmp_path / "runs.json").read_text())
    assert [each["state"] for each in content] == ["finished", "stopped"]


def test_many_settings_do_not_make_the_table_wide(run_folder, tmp_path, capsys):
    keys = [f"key_{letter}" for letter in "abcdefg"]
    run_folder("a", [], **dict.fromkeys(keys, 1))
    run_folder("b", [], **dict.fromkeys(keys, "a long word " * 20))
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "they also differ in train.key_f, train.key_g" in out
    assert max(len(line) for line in out.splitlines()) < 250


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("metrics.jsonl", '{"epoch": 1, "loss": "small"}\n', "metrics.jsonl: loss"),
        ("metrics.jsonl", '{"epoch": 1, "lo', "metrics.jsonl: Invalid JSON"),
        ("env.json", '{"pid": 99999999999999999999}', "env.json: pid"),
        ("env.json", "[" * 10_000, "env.json: Invalid JSON"),
        ("config.yaml", "train: {epochs: many}", "config.yaml: train.epochs"),
        ("config.yaml", "- a list", "config.yaml: Input should be"),
        ("config.yaml", "train: [", "config.yaml:1"),
    ],
)
def test_a_damaged_run_is_listed_beside_the_others(run_folder, tmp_path, capsys, name, text, told):
    run_folder("a", [row(1, 0.25)])
    run_folder("b", [row(1, 0.25)])
    (tmp_path / "runs/a" / name).write_text(text)
    assert main(["runs", str(tmp_path), "--json", str(tmp_path / "runs.json")]) == 1
    said = capsys.readouterr()
    a, b = (line.split() for line in said.out.splitlines() if str(tmp_path / "runs") in line)
    assert a[1] == "damaged"
    assert b[1:] == ["stopped", "1/3", "0.5", "25.0", "1.000"]
    assert f"damaged: {tmp_path / 'runs/a'}" in said.err
    assert told in said.err
    content = json.loads((tmp_path / "runs.json").read_text())
    assert [each["state"] for each in content] == ["damaged", "stopped"]


def test_no_folder(tmp_path, capsys):
    assert main(["runs", str(tmp_path / "no")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["runs", str(tmp_path)]) == 0
    assert "0 runs" in capsys.readouterr().out
