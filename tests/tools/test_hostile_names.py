"""Classes of any name go through every tool: nothing obeys them, and every table holds them."""

import csv

import pytest
import yaml

NAMES = (
    ("=1+1", "[/x]", "$\\frac{$"),
    ("@SUM(A1)", "[red]a", "_b"),
    ("-1", "道路 (wet) [1]", "$x$\\"),
)


@pytest.mark.slow
@pytest.mark.parametrize("names", NAMES)
def test_class_names_are_only_names(names, train, tool, tiny_config, tiny_set, tmp_path, capsys):
    card = yaml.safe_load(tiny_set.card.read_text())
    old = [entry["name"] for entry in card["classes"]]
    for entry, name in zip(card["classes"], names, strict=True):
        entry["name"] = name
    new = dict(zip(old, names, strict=True))
    card["label_map"] = {key: new.get(name, name) for key, name in card["label_map"].items()}
    tiny_set.card.write_text(yaml.safe_dump(card), encoding="utf-8")
    config, run, out = tiny_config({"train.epochs": 1}), tmp_path / "run", tmp_path / "out"
    assert train(config) == 0
    assert tool("eval", run, "--report", out) == 0
    assert tool("check-data", config, "--html", tmp_path / "a.html") in (0, 1)
    assert tool("browse", config, "--out", tmp_path / "sheet.png") == 0
    image = tiny_set.root / "val/images/val_0.png"
    assert tool("predict", run, image, "--out", out, "--overlay") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert all(name in (run / "train.log").read_text(encoding="utf-8") for name in names)
    for table in (run / "metrics.csv", out / "classes.csv", out / "images.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        texts = [cell for cell in cells if cell and not cell.replace(".", "").isdigit()]
        assert any(names[0] in text for text in texts)
        assert not [text for text in texts if text[0] in "=@+-\t"]
