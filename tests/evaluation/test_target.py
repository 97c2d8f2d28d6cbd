"""The data that a checkpoint is evaluated on: never drawn where the checkpoint says."""

import pytest

from segkit import streets
from segkit.comparison import contestants
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.errors import UserError
from segkit.evaluation.target import load_split


@pytest.fixture
def content(tiny_config, tmp_path, monkeypatch):
    """A checkpoint of the drawn set, whose card names a folder that is not there."""
    monkeypatch.setattr(streets, "SPLITS", {"train": 2, "val": 3, "test": 1})
    config = load_config(tiny_config({"data.card": "streets"}))
    card = load_card("streets").model_copy(update={"root": str(tmp_path / "named")})
    return {
        "config": config.model_dump(),
        "card": card.model_dump(),
        "statistics": {"mean": (0.0,) * 3, "std": (1.0,) * 3, "class_weights": None},
        "epoch": 1,
    }


@pytest.mark.parametrize("is_there", [False, True])
def test_nothing_is_drawn_where_a_checkpoint_says(content, is_there, tmp_path):
    if is_there:
        (tmp_path / "named").mkdir()
    with pytest.raises(UserError, match=r"named.*--data-root DIR"):
        load_split(content, tmp_path / "a.pt")
    assert not is_there or not list((tmp_path / "named").iterdir())
    assert is_there or not (tmp_path / "named").exists()


def test_it_is_read_where_it_is(content, tmp_path):
    streets.generate(tmp_path / "named")
    assert len(load_split(content, tmp_path / "a.pt")) == 3


def test_the_user_says_where_to_draw(content, tmp_path):
    mine = tmp_path / "mine"
    assert len(load_split(content, tmp_path / "a.pt", data_root=str(mine))) == 3
    assert sorted(path.name for path in mine.iterdir()) == ["test", "train", "val"]
    assert not (tmp_path / "named").exists()


def test_a_card_that_the_user_names_is_drawn(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = load_card("streets").model_copy(update={"root": "own"})
    (tmp_path / "own.yaml").write_text(card.model_dump_json())
    assert len(load_split(content, tmp_path / "a.pt", card=tmp_path / "own.yaml")) == 3
    assert not (tmp_path / "named").exists()


def test_a_comparison_measures_on_the_data_that_is_evaluated(content, tmp_path, monkeypatch):
    content["config"]["data"]["root"] = str(tmp_path / "elsewhere")
    monkeypatch.setattr(contestants, "load_content", lambda source: content)
    monkeypatch.setattr(contestants, "find_checkpoint", lambda source: source)
    [found] = contestants.gather([tmp_path / "a.pt"], 1, tmp_path)
    assert found.config.data.root == found.card.root == str(tmp_path / "named")
