"""Data that changes under a training that has loading processes: one sentence that names a file."""

import random
import shutil

import numpy as np
import pytest
from PIL import Image

from segkit.training.listeners import RunFolder, pictures


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def resize(path):
    Image.open(path).resize((30, 20)).save(path)


def relabel(path):
    mask = path.parents[1] / "masks" / path.name
    Image.fromarray(np.full((40, 48), 77, np.uint8)).save(mask)


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


def remove_all(path):
    shutil.rmtree(path.parents[2])


@pytest.mark.parametrize(
    "deed", [remove, empty, cut, resize, relabel, replace_by_a_folder, remove_all]
)
def test_it_ends_in_one_sentence(deed, tiny_config, tiny_set, train, monkeypatch, capfd):
    chance = random.Random(deed.__name__)
    kind = "images" if deed is relabel else chance.choice(["images", "masks"])
    path = tiny_set.root / "train" / kind / f"train_{chance.randrange(6)}.png"

    def change(self, trainer, row, scores, original=RunFolder.on_epoch_end):
        original(self, trainer, row, scores)
        if row["epoch"] == 1:
            deed(path)

    monkeypatch.setattr(RunFolder, "on_epoch_end", change)
    monkeypatch.setattr(pictures, "draw_curves", lambda *_: None)
    settings = {"data.workers": 2, "train.samples": 0, "train.epochs": 9}
    assert train(tiny_config(settings)) == 2
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert path.name in err or deed is remove_all
