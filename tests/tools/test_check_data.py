"""segkit check-data as a user runs it: exit codes, overrides, and reports in files."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segkit import streets

CARDS = Path(__file__).parents[2] / "datasets"


def change(path, pixels, value):
    mask = np.array(Image.open(path))
    mask[pixels] = value
    Image.fromarray(mask).save(path)


def plant_warning(tiny_set):
    """An image twice in a split, to be warned of."""
    images = tiny_set.root / "train/images"
    shutil.copy(images / "train_0.png", images / "train_1.png")


def plant_faults(tiny_set):
    """One of each kind that stops training or spoils a score; (check, split, count) of each."""
    train, val = tiny_set.root / "train", tiny_set.root / "val"
    (train / "images/alone.png").touch()
    (train / "masks/train_0.tif").touch()
    (train / "images/train_1.png").write_text("no image")
    (train / "masks/train_2.png").write_bytes((train / "masks/train_2.png").read_bytes()[:90])
    Image.new("RGB", (50, 40), (1, 2, 3)).save(train / "images/train_3.png")
    change(train / "masks/train_4.png", np.s_[:10], 77)
    change(val / "masks/val_0.png", np.s_[:], 99)
    change(val / "masks/val_1.png", np.s_[:], 10)
    shutil.copy(train / "images/train_5.png", val / "images/val_2.png")
    return {
        ("pairing", "train", 1), ("double names", "train", 1), ("images", "train", 1),
        ("masks", "train", 1), ("sizes", "train", 1), ("constant", "train", 1),
        ("labels", "train", 1), ("empty masks", "val", 1), ("single class", "val", 1),
        ("leak", "train and val", 1),
    }  # fmt: skip


def told(capsys):
    """What was printed; tables are cut at the width of a terminal, findings are not."""
    return capsys.readouterr().out


def test_a_sound_set_passes(tiny_set, check, capsys):
    assert check(tiny_set.card) == 0
    out = told(capsys)
    assert f"tiny at {tiny_set.root}: nothing is wrong with it" in out
    assert "train: 6 pairs" in out
    assert "error" not in out
    assert "warning" not in out


def test_warnings_alone_pass(tiny_set, check, capsys):
    plant_warning(tiny_set)
    assert check(tiny_set.card) == 0
    out = told(capsys)
    assert "warning: duplicates: train: 1 of 6 images are copies" in out
    assert "    train_0 | train_1" in out
    assert "0 errors, 1 warning\n" in out


@pytest.mark.parametrize("by", ["card", "config"])
def test_all_faults_are_told_at_once(by, tiny_set, tiny_config, check, tmp_path, capsys):
    planted = plant_faults(tiny_set)
    report = tmp_path / "report.json"
    assert check(tiny_set.card if by == "card" else tiny_config(), "--json", report) == 1
    found = json.loads(report.read_text())
    assert planted <= {(f["check"], f["split"], f["count"]) for f in found["findings"]}
    out = told(capsys)
    for finding in found["findings"]:
        assert f"{finding['severity']}: {finding['check']}: {finding['split']}: " in out
        assert finding["text"] in out
        assert all(f"    {example}\n" in out for example in finding["examples"])
    errors = sum(finding["severity"] == "error" for finding in found["findings"])
    assert found["errors"] == errors == 7
    assert f"7 errors, {found['warnings']} warnings\n" in out


def test_the_shell_gets_the_exit_code(tiny_set, start):
    plant_faults(tiny_set)
    process = start("check_data.py", tiny_set.card)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    assert "error: pairing: train: " in out


def test_the_page_stands_alone_and_holds_every_finding(tiny_set, check, tmp_path):
    plant_faults(tiny_set)
    page, report = tmp_path / "report.html", tmp_path / "report.json"
    assert check(tiny_set.card, "--html", page, "--json", report) == 1
    html = page.read_text(encoding="utf-8")
    texts, tags = [], set()
    parser = HTMLParser()
    parser.handle_data = texts.append
    parser.handle_starttag = lambda tag, attributes: tags.add(tag)
    parser.feed(html)
    shown = " ".join(" ".join(texts).split())
    for finding in json.loads(report.read_text())["findings"]:
        assert all(text in shown for text in (finding["text"], *finding["examples"]))
    assert all(name in shown for name in ("ground", "box", "bar", "train: 6 pairs"))
    assert "script" not in tags
    assert "http://" not in html
    assert "https://" not in html


# Where the data lies, and which of them


@pytest.mark.parametrize("key", ["root", "data.root"])
@pytest.mark.parametrize("by", ["card", "config"])
def test_the_root_is_set_for_a_card_and_a_config(by, key, tiny_set, tiny_config, check, tmp_path):
    source = tiny_set.card if by == "card" else tiny_config()
    moved = tmp_path / "elsewhere"
    tiny_set.root.rename(moved)
    assert check(source) == 2
    report = tmp_path / "report.json"
    assert check(source, "--set", f"{key}={moved}", "--json", report) == 0
    assert json.loads(report.read_text())["root"] == str(moved)


def add_split(tiny_set, name):
    card = yaml.safe_load(tiny_set.card.read_text())
    card["splits"][name] = {"images": f"{name}/images", "masks": f"{name}/masks"}
    tiny_set.card.write_text(yaml.safe_dump(card, sort_keys=False))


def test_a_split_that_is_not_there_matters_where_it_is_used(
    tiny_set, tiny_config, check, tmp_path, capsys
):
    for name in ("test", "night"):
        add_split(tiny_set, name)
    assert check(tiny_set.card) == 0
    out = told(capsys)
    assert f"warning: missing: test: there is no folder {tiny_set.root}/test/images" in out
    assert "warning: missing: night: " in out
    assert check(tiny_config()) == 0
    out = told(capsys)
    assert "missing: test" in out
    assert "night" not in out  # the experiment does not use it
    assert check(tiny_config({"data.val_split": "night"})) == 1
    assert "error: missing: night: " in told(capsys)


def test_a_config_asks_for_its_channels(tiny_config, tiny_set, check, capsys):
    grey = {"model.in_channels": 1, "data.mean": [0.5], "data.std": [0.5]}
    assert check(tiny_config(grey)) == 0  # colour becomes grey
    four = {"model.in_channels": 4, "data.mean": [0.5] * 4, "data.std": [0.5] * 4}
    capsys.readouterr()
    assert check(tiny_config(four)) == 1
    out = told(capsys)
    assert "error: images: train: 6 of 6 images cannot be used" in out
    assert "(40, 48, 3) (H, W, C), but model.in_channels is 4" in out


# Misuse


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["{folder}/no.yaml"], ["no.yaml is not a file"]),
        (["{card}", "--set", "rot=x"], ["--set rot=x", "did you mean 'root'"]),
        (["{config}", "--set", "data.rot=x"], ["--set data.rot=x", "did you mean 'root'"]),
        (["{card}", "--set", "root={folder}/no"], ["not at", "/no;"]),
        (["{card}", "--json", "{folder}/no/report.json"], ["cannot write", "no/report.json"]),
        (["{card}", "--html", "{folder}"], ["cannot write"]),
    ],
)
def test_misuse_is_told_in_a_sentence(
    arguments, parts, tiny_set, tiny_config, check, tmp_path, capsys
):
    known = {"folder": tmp_path, "card": tiny_set.card, "config": tiny_config()}
    assert check(*(argument.format(**known) for argument in arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert all(part in err for part in parts), err


# Data sets that are known


def test_streets_are_sound(check, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(streets, "SPLITS", {"train": 12, "val": 6, "test": 6})
    report = tmp_path / "report.json"
    root = tmp_path / "streets"
    assert check(CARDS / "streets.yaml", "--set", f"root={root}", "--json", report) == 0
    assert json.loads(report.read_text())["findings"] == []
    assert [split["pairs"] for split in json.loads(report.read_text())["splits"]] == [12, 6, 6]


@pytest.mark.slow
def test_camvids_val_continues_a_scene_of_its_train(check, shared, tmp_path):
    report = tmp_path / "report.json"
    root = shared / "data/camvid"
    assert check(CARDS / "camvid.yaml", "--set", f"root={root}", "--json", report) == 0
    found = {f["check"]: f for f in json.loads(report.read_text())["findings"]}
    assert "val continues a scene of train" in found["scene"]["text"]
    assert "101 of 101 frames of val and 204 of 367 of train" in found["scene"]["text"]
    assert found.keys() <= {"scene", "missing"}  # the copy beside the checkout has no test split
