"""Images that are trained on and judged by: the log of a run warns of them."""

import pytest
import yaml

from segkit.config import load_config
from segkit.config.overfit import to_overfit
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware


@pytest.fixture
def notes(tiny_config):
    """Build an experiment; gives what the log will say."""

    def build(settings=None, overfit=None):
        config = load_config(tiny_config(settings or {}))
        config = to_overfit(config, overfit) if overfit else config
        hardware = choose_hardware("cpu", "fp32")
        return Experiment.from_config(config, hardware, overfit=overfit).notes

    return build


def test_splits_without_a_common_image_are_no_matter(notes):
    assert notes() == []


def test_one_split_for_both_is_told(notes):
    (note,) = notes({"data.val_split": "train"})
    assert note.startswith("WARNING: data.train_split and data.val_split are both 'train', so ")
    assert "scores will be too high" in note


def test_learning_by_heart_means_to_do_so(notes):
    assert notes(overfit=2) == []


def test_lists_that_share_names_are_told(notes, tiny_set):
    card = yaml.safe_load(tiny_set.card.read_text())
    folders = {"images": "train/images", "masks": "train/masks"}
    for split, chosen in (("train", range(4)), ("val", range(2, 6))):
        card["splits"][split] = {**folders, "list": f"{split}.txt"}
        (tiny_set.root / f"{split}.txt").write_text("\n".join(f"train_{i}" for i in chosen))
    tiny_set.card.write_text(yaml.safe_dump(card))
    (note,) = notes()
    assert "2 of the 4 images of 'val' are in 'train' too" in note
