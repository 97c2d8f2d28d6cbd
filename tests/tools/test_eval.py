"""segkit eval as a user runs it: its options, its files, and what it refuses."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from segkit.inference import Predictor


@pytest.fixture
def trained(tiny_config, train, tmp_path):
    """A run folder of the tiny experiment, of one epoch."""
    assert train(tiny_config({"train.epochs": 1})) == 0
    return tmp_path / "run"


def figures(evaluate, run, tmp_path, *options):
    file = tmp_path / "figures.json"
    assert evaluate(run, "--json", file, *options) == 0
    return json.loads(file.read_text())


def test_a_report_is_written_and_written_over(evaluate, trained, tmp_path, capsys):
    out = tmp_path / "deep" / "report"
    for _ in range(2):
        assert evaluate(trained, "--report", out) == 0
    assert f"report: {out}/report.html" in capsys.readouterr().out
    names = ["classes.csv", "images.csv", "metrics.json", "report.html"]
    assert sorted(path.name for path in out.iterdir()) == names
    found = json.loads((out / "metrics.json").read_text())
    assert found == figures(evaluate, trained, tmp_path)
    assert "<html" in (out / "report.html").read_text("utf-8")


def test_every_headline_has_an_interval(evaluate, trained, tiny_set, tmp_path, capsys):
    for kind in ("images", "masks"):
        folder = tiny_set.root / "val" / kind
        for number in range(3, 10):
            shutil.copy(folder / f"val_{number % 3}.png", folder / f"val_{number}.png")
    found = figures(evaluate, trained, tmp_path)
    assert found["intervals"] == {"level": 0.95, "block": 1, "blocks": 10}
    out = capsys.readouterr().out
    for name in ("miou", "pixel_accuracy", "boundary_f1", "boundary_iou"):
        value, (low, high) = found["headlines"][name].values()
        assert low <= value <= high
        assert f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" in out


def test_blocks_are_the_users_choice(evaluate, trained, tmp_path, capsys):
    assert figures(evaluate, trained, tmp_path, "--block", "2")["intervals"]["block"] == 2
    assert "no intervals: 1 block of 2 consecutive images, and" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        evaluate(trained, "--block", "0")
    assert "--block: '0' is no number from 1 upwards" in capsys.readouterr().err


def test_other_conventions_are_shown_when_asked_for(evaluate, trained, capsys):
    assert evaluate(trained) == 0
    assert "ultralytics" not in capsys.readouterr().out
    assert evaluate(trained, "--conventions") == 0
    assert "ultralytics" in capsys.readouterr().out


def test_exact_tiles_change_no_figure(evaluate, trained, tmp_path):
    whole = figures(evaluate, trained, tmp_path)
    tiled = figures(evaluate, trained, tmp_path, "--tile", "16")
    assert tiled["confusion_matrix"] == whole["confusion_matrix"]
    assert tiled["headlines"] == whole["headlines"]


def test_flipping_changes_confidence(evaluate, trained, tmp_path):
    whole, flipped = (
        figures(evaluate, trained, tmp_path, *options)["calibration"]
        for options in ((), ("--flip",))
    )
    assert whole["confidence"] != flipped["confidence"]


def test_another_card_with_the_same_classes(evaluate, trained, tiny_set, tmp_path, capsys):
    card = tiny_set.card.read_text()
    other = tmp_path / "other.yaml"
    other.write_text(card.replace("name: tiny\n", "name: elsewhere\n"))
    assert figures(evaluate, trained, tmp_path, "--card", other)["data"] == "elsewhere"
    other.write_text(card.replace("box", "crate"))
    assert evaluate(trained, "--card", other) == 2
    error = capsys.readouterr().err
    assert "ground, crate, bar" in error
    assert "ground, box, bar" in error


def test_the_foreground_travels_with_the_checkpoint(
    evaluate, train, tiny_config, tiny_set, tmp_path, capsys
):
    card = yaml.safe_load(tiny_set.card.read_text())
    card["classes"] = card["classes"][:2]
    card["label_map"] = {0: "box", 10: "ground", 20: "ground", 99: "ignore"}
    tiny_set.card.write_text(yaml.safe_dump({**card, "foreground": "ground"}))
    assert train(tiny_config({"train.epochs": 1})) == 0
    tiny_set.card.write_text(yaml.safe_dump(card))  # the card on disk counts no longer
    file = tmp_path / "run/checkpoints/best.pt"
    assert Predictor.load(file, "cpu").classes.foreground == "ground"

    def foreground(*options):
        found = figures(evaluate, *options)
        ious = dict(zip(found["classes"], found["scores"]["iou"], strict=True))
        assert found["headlines"]["foreground_iou"]["value"] == ious[found["foreground"]]
        assert f"foreground IoU ({found['foreground']}) " in capsys.readouterr().out
        return found["foreground"]

    assert foreground(file, tmp_path) == "ground"
    assert foreground(file, tmp_path, "--card", tiny_set.card) == "ground"
    content = torch.load(file, weights_only=True)
    for part in ("card", "classes"):  # as a checkpoint was before cards had a foreground
        del content[part]["foreground"]
    old = tmp_path / "old.pt"
    torch.save(content, old)
    assert foreground(old, tmp_path) == "box"
    named = tmp_path / "named.yaml"
    named.write_text(yaml.safe_dump({**card, "foreground": "ground"}))
    assert foreground(old, tmp_path, "--card", named) == "ground"


def test_a_split_without_images(evaluate, trained, tiny_set, capsys):
    for kind in ("images", "masks"):
        shutil.rmtree(tiny_set.root / "val" / kind)
        (tiny_set.root / "val" / kind).mkdir()
    assert evaluate(trained) == 2
    assert "val" in capsys.readouterr().err


def test_a_split_that_is_all_void(evaluate, trained, tiny_set, tmp_path, capsys):
    for path in (tiny_set.root / "val/masks").iterdir():
        Image.fromarray(np.full((40, 48), 99, np.uint8)).save(path)
    found = figures(evaluate, trained, tmp_path, "--report", tmp_path / "report")
    assert found["scores"]["miou"] is None
    assert "WARNING: every pixel of the truth is void" in capsys.readouterr().out


def test_an_image_that_is_broken(evaluate, trained, tiny_set, capsys):
    path = next((tiny_set.root / "val/images").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    assert evaluate(trained) == 2
    assert path.name in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(evaluate, trained, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert evaluate(trained, "--report", tmp_path / "closed" / "report") == 2
    assert "closed" in capsys.readouterr().err


def test_a_report_where_a_file_is(evaluate, trained, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert evaluate(trained, "--report", tmp_path / "file") == 2
    assert "file" in capsys.readouterr().err
    assert evaluate(trained, "--scales", "0") == 2
    assert "scales" in capsys.readouterr().err
