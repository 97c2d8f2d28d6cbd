"""Dataset cards: the shipped ones, every mistake in one, and where the data lies."""

from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import yaml
from hostile import hostile_texts
from pydantic import ValidationError

from segkit.data.card import Card, load_card, split_of
from segkit.data.reader import ensure_data
from segkit.errors import UserError

CARDS = sorted((Path(__file__).parents[2] / "datasets").glob("*.yaml"))


def card_data(**changes):
    data = {
        "name": "things",
        "root": "things",
        "classes": [
            {"name": "ground", "color": [0, 0, 0]},
            {"name": "thing", "color": [255, 0, 0]},
        ],
        "label_map": {0: "ground", 1: "thing", 255: "ignore"},
        "splits": {"train": {"images": "images", "masks": "masks"}},
    }
    return {k: v for k, v in {**data, **changes}.items() if v is not None}


def write_card(folder, **changes):
    path = folder / "things.yaml"
    path.write_text(yaml.safe_dump(card_data(**changes), sort_keys=False))
    return path


@pytest.mark.parametrize("path", CARDS, ids=lambda p: p.stem)
def test_shipped_cards_load(path):
    written = yaml.safe_load(path.read_text())
    card = load_card(path)
    assert card.name == written["name"] == path.stem
    if path.stem == "folder_template":
        assert card.class_names == tuple(written["classes"])
    else:
        assert card.class_names == tuple(entry["name"] for entry in written["classes"])
        assert card.colors == tuple(tuple(entry["color"]) for entry in written["classes"])
    assert card.num_classes == len(written["classes"])
    if card.by_color or card.name != "ade20k":  # two classes share their official colour there
        assert len(set(card.colors)) == card.num_classes
    assert card.label_map == written["label_map"]
    assert Path(card.root) == (path.parent / written["root"]).resolve()
    assert card.source
    assert card.licence
    assert {"train", "val"} <= set(card.splits)


def test_there_are_shipped_cards():
    assert CARDS


MISTAKES = {
    "unknown key": ({"label_maps": {0: "ground"}}, ["label_maps", "'label_map'"]),
    "unknown key of a split": (
        {"splits": {"train": {"images": "i", "mask": "m", "masks": "m"}}},
        ["splits.train.mask", "'masks'"],
    ),
    "no label map": ({"label_map": None}, ["label_map is missing", "no masks below"]),
    "classes as a mapping": ({"classes": {"ground": [0, 0, 0]}}, ["classes is", "must be a list"]),
    "a class that is a number": (
        {"classes": ["ground", 3]},
        ["classes.1 is 3: write a class as its name, or as {name: road, color: [128, 64, 128]}"],
    ),
    "a split that is a word": (
        {"splits": {"train": "images"}},
        ["splits.train is 'images': it must be a mapping with keys of images, masks, list"],
    ),
    "a name that is a path": (
        {"name": "../x"},
        ["the name '../x' becomes part of names of files; use letters, digits"],
    ),
    "a split that is a path": (
        {"splits": {"a/b": {"images": "i", "masks": "m"}}},
        ["the name 'a/b' becomes part of names of files"],
    ),
    "a hidden split": (
        {"splits": {".train": {"images": "i", "masks": "m"}}},
        ["the name '.train' becomes part of names of files"],
    ),
    "one class": (
        {"classes": [{"name": "thing", "color": [255, 0, 0]}], "label_map": {1: "thing"}},
        ["1 entry", "two classes", "background"],
    ),
    "a class twice": (
        {"classes": [{"name": "ground", "color": [0, 0, 0]}] * 2, "label_map": {0: "ground"}},
        ["unique", "['ground', 'ground']"],
    ),
    "a class named ignore": (
        {"classes": [{"name": n, "color": [0, 0, 0]} for n in ("ground", "ignore")]},
        ["'ignore'", "['ground', 'ignore']"],
    ),
    "a label of no class": (
        {"label_map": {0: "ground", 1: "thnig", 2: "thing"}},
        ["label_map[1]", "'thnig'", "did you mean 'thing'"],
    ),
    "a class without a label": (
        {"label_map": {0: "ground", 255: "ignore"}},
        ["no raw value", "thing"],
    ),
    "a colour beyond 255": (
        {"classes": [{"name": "ground", "color": [0, 300, 0]}]},
        ["classes.0.color.1", "300", "255"],
    ),
    "a colour of two numbers": (
        {"classes": [{"name": "ground", "color": [0, 1]}]},
        ["classes.0.color.2"],
    ),
    "a colour by name": (
        {"classes": [{"name": "ground", "color": "red"}]},
        ["classes.0.color", "'red'"],
    ),
    "a label below zero": ({"label_map": {0: "ground", -1: "thing"}}, ["the key -1 is neither"]),
    "a label beyond 16 bits": ({"label_map": {0: "ground", 70000: "thing"}}, ["70000", "65535"]),
    "a label that is no number": (
        {"label_map": {"zero": "ground"}},
        ["'zero'", "neither a value (0 to 65535) nor a colour (128 64 0)"],
    ),
    "a label colour beyond 255": (
        {"label_map": {"0 0 0": "ground", "0 0 256": "thing"}},
        ["the key '0 0 256'", "nor a colour"],
    ),
    "a label colour of two numbers": (
        {"label_map": {"0 0 0": "ground", "0 1": "thing"}},
        ["the key '0 1'", "nor a colour"],
    ),
    "values and colours": (
        {"label_map": {0: "ground", "1 2 3": "thing"}},
        ["mixes values and colours"],
    ),
    "images and masks that cannot be told apart": (
        {"splits": {"train": {"images": "all", "masks": "all"}}},
        ["share a folder", "mask_suffix: _mask"],
    ),
    "a foreground of no class": ({"foreground": "thng"}, ["foreground: ", "did you mean 'thing'"]),
    "a foreground of three classes": (
        {
            "classes": [{"name": n, "color": [0, 0, 0]} for n in ("ground", "thing", "sky")],
            "label_map": {0: "ground", 1: "thing", 2: "sky"},
            "foreground": "thing",
        },
        ["foreground is for two classes, and there are 3; leave it out"],
    ),
    "a pattern without end": ({"sequences": "(" * 90}, ["sequences is no regular expression"]),
    "a pattern that repeats too often": (
        {"sequences": f"(a{{{10**20}}})"},
        ["sequences is no regular expression"],
    ),
    "a pattern of 300 letters": ({"sequences": "a" * 300}, ["more than 200 characters"]),
    "a folder of no length": (
        {"splits": {"train": {"images": "a" * 300, "masks": "m"}}},
        ["longer than a path can be"],
    ),
    "ten thousand classes": ({"classes": ["a"] * 10_000}, ["10000 entries", "at most 254"]),
    "a white of zero": ({"image_max": 0}, ["image_max", "greater than 0"]),
    "too many classes": (
        {
            "classes": [{"name": f"class {i}", "color": [0, 0, 0]} for i in range(255)],
            "label_map": {i: f"class {i}" for i in range(255)},
        },
        ["255 entries", "at most 254"],
    ),
}


@pytest.mark.parametrize(("changes", "parts"), MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_is_named(tmp_path, changes, parts):
    path = write_card(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        load_card(path)
    for part in (*parts, str(path)):
        assert part in str(error.value)


@pytest.mark.parametrize("typo", ["nme", "licens", "label_mapp", "clases"])
def test_an_unknown_key_is_told_with_its_line(tmp_path, typo):
    path = write_card(tmp_path, **{typo: "x"})
    line = path.read_text().splitlines().index(f"{typo}: x") + 1
    with pytest.raises(UserError, match=rf"things\.yaml:{line}: {typo} is an unknown key"):
        load_card(path)


def test_a_raw_value_given_twice_is_no_silent_choice(tmp_path):
    path = write_card(tmp_path)
    path.write_text(path.read_text().replace("  1: thing\n", "  1: thing\n  1: ground\n"))
    with pytest.raises(UserError, match=r"label_map\.1 is given twice"):
        load_card(path)


@pytest.mark.parametrize("key", ["128 64 0", "128, 64, 0", " 128  064 0", "128,64,0"])
def test_colours_may_be_written_with_commas_and_spaces(tmp_path, key):
    card = load_card(write_card(tmp_path, label_map={"0 0 0": "ground", key: "thing"}))
    assert card.label_map == {"0 0 0": "ground", "128 64 0": "thing"}
    assert card.by_color
    assert not Card.model_validate(card_data()).by_color


def test_values_may_be_quoted(tmp_path):
    card = load_card(write_card(tmp_path, label_map={"0": "ground", "7": "thing"}))
    assert card.label_map == {0: "ground", 7: "thing"}
    assert not card.by_color


@pytest.mark.parametrize("keys", [("7", 7), ("1 2 3", "1, 2, 3"), ("1 2 3", "01 2 3")])
def test_one_label_in_two_spellings_is_no_silent_choice(tmp_path, keys):
    first = "0 0 0" if " " in str(keys[0]) else 0
    label_map = {first: "ground", keys[0]: "thing", keys[1]: "ground"}
    with pytest.raises(UserError, match=r"label_map.*twice"):
        load_card(write_card(tmp_path, label_map=label_map))


def test_a_missing_card_names_the_nearest(tmp_path):
    path = write_card(tmp_path)
    with pytest.raises(UserError) as error:
        load_card(tmp_path / "thinks.yaml")
    assert str(tmp_path / "thinks.yaml") in str(error.value)
    assert f"did you mean {path}" in str(error.value)


def test_the_root_is_relative_to_the_card(tmp_path, monkeypatch):
    (tmp_path / "cards").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = write_card(tmp_path / "cards", root="../data/things")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for given in (path, Path("../cards/things.yaml")):
        assert load_card(given).root == str(tmp_path.resolve() / "data" / "things")


def test_an_override_of_the_root_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "cards").mkdir()
    path = write_card(tmp_path / "cards")
    monkeypatch.chdir(tmp_path)
    assert load_card(path, "mine").root == str(tmp_path.resolve() / "mine")
    assert load_card(path, tmp_path / "far").root == str(tmp_path.resolve() / "far")


def test_a_card_cannot_be_changed():
    card = Card.model_validate(card_data())
    with pytest.raises(ValueError, match="frozen"):
        card.root = "elsewhere"


def test_a_card_survives_as_plain_values():
    card = Card.model_validate(card_data())
    assert Card.model_validate(card.model_dump()) == card


def test_an_unknown_split_names_the_nearest():
    card = Card.model_validate(card_data())
    assert split_of(card, "train").images == "images"
    with pytest.raises(UserError, match="unknown split 'trian'; did you mean 'train'"):
        split_of(card, "trian")


def test_a_folder_that_is_not_there_says_where_to_get_the_data(tmp_path):
    card = load_card(write_card(tmp_path, source="https://example.org/things"))
    with pytest.raises(UserError) as error:
        ensure_data(card)
    for part in (
        "'things'",
        str(tmp_path / "things"),
        "https://example.org/things",
        "--data-root DIR",
    ):
        assert part in str(error.value)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "things").mkdir()
    ensure_data(load_card(write_card(tmp_path)))
    assert list((tmp_path / "things").iterdir()) == []


def test_a_built_in_set_that_cannot_be_drawn_says_so(tmp_path):
    (tmp_path / "file").touch()
    streets = next(path for path in CARDS if path.stem == "streets")
    card = load_card(streets, tmp_path / "file" / "below")
    with pytest.raises(UserError, match=r"cannot draw the data set into .*below"):
        ensure_data(card)


def test_names_of_cards_and_splits_are_names_of_files(tmp_path):
    accepted = 0
    for text in hostile_texts(1500):
        for changes in ({"name": text}, {"splits": {text: {"images": "i", "masks": "m"}}}):
            try:
                Card.model_validate(card_data(**changes))
            except ValidationError:
                continue
            assert all(sign.isalnum() or sign in "-_." for sign in text)
            assert not text.startswith((".", "-"))
            with suppress(UnicodeEncodeError):  # of a system with ASCII alone
                (tmp_path / text).touch()
            accepted += 1
    assert accepted > 50
    for name in ("voc2012", "my-set_2.0", "道路", "train+val"):
        is_plain = "+" not in name
        with nullcontext() if is_plain else pytest.raises(ValidationError):
            Card.model_validate(card_data(name=name))
