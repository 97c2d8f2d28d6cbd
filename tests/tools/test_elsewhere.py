"""Data that has moved, and tools that run in another working directory."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from segkit.benchmark import data_speed, step_speed, timing
from segkit.checkpoint import load_checkpoint, restore_config
from segkit.config import load_config
from segkit.training.listeners import pictures
from segkit.training.progress import changes

TOOLS = {
    "train": ["train", "{config}", "--device", "cpu"],
    "eval": ["eval", "{run}", "--device", "cpu"],
    "compare runs": ["compare", "{run}", "--out", "{out}", "--device", "cpu"],
    "compare configs": ["compare", "{config}", "--seeds", "1", "--out", "{out}"],
    "browse": ["browse", "{config}", "--count", "1", "--out", "{out}.png"],
    "find-lr": ["find-lr", "{config}", "--steps", "10", "--out", "{out}.png"],
    "benchmark": ["benchmark", "data", "{config}", "--device", "cpu"],
    "check_data of a card": ["check-data", "{card}"],
    "check_data of a config": ["check-data", "{config}"],
}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """Measure speed for a moment, and draw no curves."""
    monkeypatch.setattr(pictures, "draw_curves", lambda *_: None)
    for module in (data_speed, timing):
        monkeypatch.setattr(module, "SECONDS", 0.01)
        monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(step_speed, "_in_another_process", lambda *_: 123_000_000)


@pytest.mark.parametrize("name", TOOLS)
def test_the_hint_for_moved_data_works(name, tool, train, tiny_config, tiny_set, tmp_path, capsys):
    places = {"config": tiny_config({"train.epochs": 1}), "card": tiny_set.card}
    places |= {"run": tmp_path / "run", "out": tmp_path / "out"}
    if "{run}" in TOOLS[name]:
        assert train(places["config"]) == 0
    command = [word.format(**places) for word in TOOLS[name]]
    moved = tmp_path / "moved to: here"
    tiny_set.root.rename(moved)
    assert tool(*command) == 2
    error = capsys.readouterr().err
    assert f"not at {tiny_set.root};" in error
    assert "--data-root DIR" in error
    assert tool(*command, "--data-root", moved) in ((0, 1) if name == "find-lr" else (0,))


def test_the_command_that_checks_the_data_says_where_it_is(
    tool, train, tiny_config, tiny_set, tmp_path, capsys
):
    moved = tmp_path / "moved"
    tiny_set.root.rename(moved)
    bad = moved / "train/masks/train_0.png"
    bad.write_bytes(bad.read_bytes()[:60])
    assert train(tiny_config(), "--data-root", moved) == 2
    command = capsys.readouterr().err.split("all there is to say: segkit ")[1].split()
    assert tool(*command) == 1
    assert "1 of 6" in capsys.readouterr().out


@pytest.fixture
def project(tiny_config, tiny_set, tmp_path):
    """Lay out configs/ and datasets/ beside each other; the card is relative, as in segkit's."""
    root = tmp_path / "project"
    for folder in ("configs", "datasets", "elsewhere"):
        (root / folder).mkdir(parents=True)
    shutil.move(tiny_set.root, root / "datasets/tiny")
    shutil.move(tiny_set.card, root / "datasets/tiny.yaml")
    config = tiny_config({"data.card": "datasets/tiny.yaml", "run_dir": "runs/a"}, "a")
    shutil.move(config, root / "configs/a.yaml")
    return root


@pytest.mark.parametrize("at", [".", "elsewhere", "configs"])
def test_a_card_is_found_from_any_working_directory(at, project, tool, monkeypatch):
    monkeypatch.chdir(project / at)
    config = os.path.relpath(project / "configs/a.yaml")
    assert tool("browse", config, "--count", 1, "--out", "sheet.png") == 0
    found = load_config(config).data.card
    assert found == ("datasets/tiny.yaml" if at == "." else str(project / "datasets/tiny.yaml"))


def test_a_card_in_the_working_directory_comes_first(project, monkeypatch):
    nearer = project / "elsewhere/datasets/tiny.yaml"
    nearer.parent.mkdir()
    shutil.copy(project / "datasets/tiny.yaml", nearer)
    monkeypatch.chdir(nearer.parents[1])
    assert load_config(project / "configs/a.yaml").data.card == "datasets/tiny.yaml"


def test_a_card_that_is_nowhere_is_told_with_the_places(project, tool, monkeypatch, capsys):
    (project / "datasets/tiny.yaml").rename(project / "datasets/tinny.yaml")
    for at, hint in (("elsewhere", ""), (".", "; did you mean datasets/tinny.yaml?")):
        monkeypatch.chdir(project / at)
        assert tool("browse", project / "configs/a.yaml") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: datasets/tiny.yaml is not a file{hint}; ")
        assert f"working directory, {project / at}, and" in error
        assert "beside that file and in the folders above it" in error


def test_a_run_goes_on_and_is_evaluated_in_another_working_directory(
    project, train, evaluate, monkeypatch
):
    monkeypatch.chdir(project)
    assert train("configs/a.yaml", "--set", "train.epochs=1") == 0
    assert yaml.safe_load(Path("runs/a/config.yaml").read_text())["data"]["card"] == (
        "datasets/tiny.yaml"
    )
    monkeypatch.chdir(project / "elsewhere")
    assert train("../runs/a", "--resume") == 0
    assert evaluate("../runs/a") == 0
    best = Path("../runs/a/checkpoints/best.pt")
    card = restore_config(load_checkpoint(best), best).data.card
    assert card == str(project / "datasets/tiny.yaml")


@pytest.mark.parametrize("name", ["train", "browse", "find-lr", "summary", "check-data"])
def test_a_folder_or_a_broken_file_is_told_in_a_sentence(name, tool, tmp_path, capsys):
    (tmp_path / "broken.yaml").write_text("data: {card: [1, 2\n")
    for path, says in (
        (tmp_path / "no.yaml", "is not a file"),
        (tmp_path, "is a folder; "),
        (tmp_path / "broken.yaml", ":2: cannot be read as YAML: "),
    ):
        assert tool(name, path) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {path}")
        assert says in error
        assert error.count("\n") == 1


def test_a_card_is_another_setting_unless_it_is_the_same_one_found_elsewhere():
    one, same, other = "datasets/a.yaml", "/home/me/datasets/a.yaml", "/home/me/datasets/b.yaml"
    settings = {path: {"data": {"card": path}} for path in (one, same, other)}
    assert changes(settings[one], settings[same]) == []
    assert changes(settings[same], settings[one]) == []
    assert changes(settings[one], settings[other]) == [f"data.card: {one} -> {other}"]
    assert changes({}, settings[one]) == [f"data.card: None -> {one}"]
