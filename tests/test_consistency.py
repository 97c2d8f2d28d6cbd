"""Facts that processes compare: each difference of the data, the card or the settings shows."""

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml

import segkit
from segkit import consistency
from segkit.checkpoint import weights_checksum
from segkit.config import load_config
from segkit.consistency import code_facts, settings_facts, split_facts
from segkit.data.card import load_card
from segkit.data.reader import SampleReader


def facts(card):
    return split_facts(SampleReader(load_card(card), "train"))


def differing(one, other):
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


def remove(images, masks):
    images[-1].unlink()
    masks[-1].unlink()


def rename(images, masks):
    for file in (images[-1], masks[-1]):
        file.rename(file.with_stem("train_9"))


def change(images, masks):
    data = bytearray(masks[0].read_bytes())
    data[-1] ^= 1
    masks[0].write_bytes(data)


def enlarge(images, masks):
    with images[1].open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (remove, {"number of images", "names of the images", "sizes of the files", "files"}),
        (rename, {"names of the images"}),
        (change, {"files"}),
        (enlarge, {"sizes of the files", "files"}),
    ],
)
def test_other_data_shows(edit, expected, tiny_set):
    before = facts(tiny_set.card)
    folder = tiny_set.root / "train"
    edit(sorted((folder / "images").iterdir()), sorted((folder / "masks").iterdir()))
    assert differing(before, facts(tiny_set.card)) == {
        f"the {name} in 'train'" for name in expected
    }


def test_another_place_does_not_show(tiny_set, tmp_path):
    before = facts(tiny_set.card)
    card = yaml.safe_load(tiny_set.card.read_text())
    card["root"] = str(tmp_path / "moved")
    shutil.move(tiny_set.root, tmp_path / "moved")
    tiny_set.card.write_text(yaml.safe_dump(card))
    assert facts(tiny_set.card) == before


def test_other_settings_and_classes_show(tiny_config, tiny_set):
    def read(changes):
        config = load_config(tiny_config(), changes)
        return settings_facts(config, load_card(config.data.card, config.data.root))

    before = read([])
    assert differing(before, read(["train.epochs=77"])) == {"train.epochs"}
    assert differing(before, read(["data.workers=3"])) == set()
    card = yaml.safe_load(tiny_set.card.read_text())
    card["label_map"][98] = "ignore"
    tiny_set.card.write_text(yaml.safe_dump(card))
    assert differing(before, read([])) == {"the card's label_map"}


def test_other_versions_and_code_show(monkeypatch, tmp_path):
    before = code_facts()
    copy = shutil.copytree(Path(segkit.__file__).parent, tmp_path / "segkit")
    with (copy / "units.py").open("a") as file:
        file.write("# changed\n")
    monkeypatch.setattr(segkit, "__file__", str(copy / "__init__.py"))
    assert differing(before, code_facts()) == {"segkit's code"}
    monkeypatch.undo()
    other = {"torch": "9.9"}
    monkeypatch.setattr(consistency, "version", lambda name: other.get(name) or version(name))
    assert differing(before, code_facts()) == {"the version of torch"}


def test_code_and_weights_are_compared():
    assert code_facts() == code_facts()
    weights = {"a": torch.zeros(2, 3), "b": torch.tensor(4)}
    digest = weights_checksum(weights)
    weights["a"] = torch.zeros(3, 2).T  # the same numbers in another order in memory
    assert weights_checksum(weights) == digest
    weights["a"][1, 2] = 1e-30
    assert weights_checksum(weights) != digest
