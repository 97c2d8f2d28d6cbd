"""segkit compare on tiny networks, as a user runs it."""

import csv
import json
import re
import shutil

import pytest
import torch
import yaml

from segkit.benchmark import step_speed, timing


@pytest.fixture(autouse=True)
def _hasty_timing(monkeypatch):
    """Time each training step once."""
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(step_speed, "_in_another_process", lambda *_: 123_000_000)


@pytest.fixture
def pair(tiny_config):
    """Two experiments that differ by their decoder alone."""
    unet = tiny_config(name="unet")
    decoder = {"name": "interpolate", "widths": [8, 8, 8, 8, 8]}
    return [unet, tiny_config({"model.decoder": decoder}, name="plain")]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_experiments_are_trained_judged_and_written(compare, evaluate, pair, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(*pair, "--seeds", 2, "--out", out) == 0
    shown = capsys.readouterr().out.replace("\u00a0", " ")
    runs = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert runs == ["plain-seed0", "plain-seed1", "unet-seed0", "unet-seed1"]
    assert "WARNING" not in shown  # nothing but the decoder differs

    rows = rows_of(out / "comparison.csv")
    assert [(row["model"], row["run"]) for row in rows] == [
        ("unet", "0"), ("unet", "1"), ("plain", "0"), ("plain", "1"),
    ]  # fmt: skip
    for row in rows:
        scores = tmp_path / "scores.json"
        assert evaluate(out / f"{row['model']}-seed{row['run']}", "--json", scores) == 0
        judged = json.loads(scores.read_text())
        assert float(row["miou"]) == judged["scores"]["miou"]
        assert float(row["boundary_f1"]) == judged["headlines"]["boundary_f1"]["value"]
        assert float(row["iou/box"]) == judged["scores"]["iou"][1]
        weights = torch.load(out / f"{row['model']}-seed0/checkpoints/best.pt")["model"]
        counted = sum(v.numel() for k, v in weights.items() if re.search("weight|bias", k))
        assert int(row["parameters"]) == counted

    markdown = (out / "comparison.md").read_text("utf-8")
    page = (out / "comparison.html").read_text("utf-8")
    mean = sum(float(row["miou"]) for row in rows if row["model"] == "unet") / 2
    for text in (shown, markdown, page):
        assert f"{100 * mean:.1f} ± " in text
        assert "3 images; 2 runs of each model" in text.replace("\n", " ")
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_call_trains_nothing(compare, pair, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(*pair, "--seeds", 1, "--out", out) == 0
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    assert compare(*pair, "--seeds", 1, "--out", out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} == times
    assert capsys.readouterr().out.count("training ") == 2 + 2  # and "measuring training steps"


def test_an_interrupted_training_is_gone_on_with(compare, train, pair, tmp_path, monkeypatch):
    from segkit.training.listeners import RunFolder

    out, save = tmp_path / "out", RunFolder.on_epoch_end

    def stop(self, trainer, row, scores):
        save(self, trainer, row, scores)
        trainer.signals.requested = True

    monkeypatch.setattr(RunFolder, "on_epoch_end", stop)
    assert compare(pair[0], "--seeds", 1, "--out", out) == 130
    monkeypatch.setattr(RunFolder, "on_epoch_end", save)
    assert compare(pair[0], "--seeds", 1, "--out", out) == 0
    straight = tmp_path / "straight"
    assert train(pair[0], "--set", f"run_dir={straight}") == 0
    one, other = ((folder / "metrics.csv").read_text() for folder in (out / "unet-seed0", straight))
    assert one == other


def test_runs_that_differ_by_their_seed_are_one_model(compare, train, pair, tmp_path, capsys):
    for seed in (3, 4):
        assert train(pair[0], "--set", f"seed={seed}", f"run_dir={tmp_path}/mine-seed{seed}") == 0
    assert train(pair[1], "--set", f"run_dir={tmp_path}/other") == 0
    folders = [tmp_path / name for name in ("mine-seed3", "other", "mine-seed4")]
    assert compare(*folders, "--out", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out" / "comparison.csv")
    assert [(row["model"], row["run"]) for row in rows] == [
        ("mine", "0"), ("mine", "1"), ("other", "0"),
    ]  # fmt: skip


def test_one_foreground_serves_all_models(compare, train, pair, tiny_set, tmp_path):
    card = yaml.safe_load(tiny_set.card.read_text())
    card["classes"] = card["classes"][:2]
    card["label_map"] = {0: "box", 10: "ground", 20: "ground", 99: "ignore"}
    for config, foreground in zip(pair, ({}, {"foreground": "ground"}), strict=True):
        tiny_set.card.write_text(yaml.safe_dump({**card, **foreground}))
        run = f"run_dir={tmp_path}/{config.stem}"
        assert train(config, "--set", run, "train.epochs=1") == 0
    runs = [tmp_path / config.stem for config in pair]
    assert compare(*runs, "--out", tmp_path / "out") == 0
    for row in rows_of(tmp_path / "out" / "comparison.csv"):
        assert row["foreground_iou"] == row["iou/ground"] != row["iou/box"]
    assert "foreground IoU (ground) %" in (tmp_path / "out" / "comparison.md").read_text("utf-8")


def test_whatever_else_differs_is_told(compare, tiny_config, tmp_path, capsys):
    a, b = tiny_config(name="a"), tiny_config({"train.epochs": 1}, name="b")
    assert compare(a, b, "--seeds", 1, "--out", tmp_path / "out") == 0
    out = capsys.readouterr().out.replace("\n", " ")
    assert "WARNING: b differs from a in train.epochs: 2 -> 1" in out


def test_values_of_a_key_are_compared(compare, tiny_config, tmp_path, capsys):
    out = tmp_path / "out"
    words = [tiny_config(name="mine"), "--vary", "model.decoder.widths=[8,8,8,8],[4, 4, 4, 4]"]
    words += ["--set", "train.epochs=1", "--seeds", 1, "--out", out]
    assert compare(*words) == 0
    shown = " ".join(capsys.readouterr().out.replace("\u00a0", " ").split())
    assert "Varied: model.decoder.widths; all else is as in mine.yaml." in shown
    assert "Set in all models: train.epochs=1." in shown
    assert "WARNING" not in shown
    names = ["widths=[8,8,8,8]", "widths=[4, 4, 4, 4]"]
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        f"{name}-seed0" for name in names
    }
    assert [row["model"] for row in rows_of(out / "comparison.csv")] == names
    assert all(name in shown for name in names)  # brackets are not markup
    assert {row["score"] for row in rows_of(out / "differences.csv")} == {"miou", "boundary_f1"}

    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    assert len(times) >= 2
    assert compare(*words) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} == times
    assert compare(*words, "--set", "train.epochs=2") == 2
    assert "trained with other settings (train.epochs: 1 -> 2)" in capsys.readouterr().err


def test_mistakes_in_what_is_varied_end_in_a_sentence(compare, tiny_config, tmp_path, capsys):
    config, out = tiny_config(), ("--out", tmp_path / "out")
    assert compare(config, "--vary", "train.loss.nam=a,b", *out) == 2
    assert "did you mean 'name'?" in capsys.readouterr().err
    assert compare(config, config, "--vary", "train.epochs=1,2", *out) == 2
    assert "name the one experiment" in capsys.readouterr().err
    assert compare(config, "--vary", "train.epochs=1,2", "--vary", "seed=1,2", *out) == 2
    assert "--vary is given twice" in capsys.readouterr().err


def test_other_settings_in_the_way_are_refused(compare, tiny_config, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(tiny_config(name="a"), "--seeds", 1, "--out", out) == 0
    changed = tiny_config({"train.epochs": 1}, name="a")
    assert compare(changed, "--seeds", 1, "--out", out) == 2
    error = capsys.readouterr().err
    assert "trained with other settings (train.epochs: 2 -> 1)" in error
    assert "--out" in error


def test_mistakes_end_in_a_sentence(compare, train, tiny_config, tiny_set, tmp_path, capsys):
    assert compare(tmp_path / "no.yaml") == 2
    assert compare(tmp_path / "no_run") == 2
    config = tiny_config(name="a")
    assert compare(config, config, "--out", tmp_path / "out") == 2
    assert "two contestants are called a" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        compare(config, "--seeds", 0)
    (tmp_path / "file").write_text("")
    assert compare(config, "--out", tmp_path / "file") == 2

    assert train(config) == 0
    other = tmp_path / "other.yaml"
    text = tiny_set.card.read_text()
    other.write_text(text.replace("box", "crate"))
    second = tiny_config({"data.card": str(other), "run_dir": str(tmp_path / "second")}, name="c")
    assert train(second) == 0
    capsys.readouterr()
    assert compare(tmp_path / "run", tmp_path / "second", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "ground, crate, bar" in error
    assert "ground, box, bar" in error

    shutil.rmtree(tmp_path / "out")
