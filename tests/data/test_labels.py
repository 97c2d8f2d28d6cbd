"""Raw label values to classes and back, against plain dicts."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from segkit.data.card import Card, load_card
from segkit.data.labels import IGNORE_INDEX, LabelMap
from segkit.errors import UserError

CARDS = sorted((Path(__file__).parents[2] / "datasets").glob("*.yaml"))


def make_card(label_map, names=None):
    names = names or sorted(set(label_map.values()) - {"ignore"})
    return Card.model_validate(
        {
            "name": "things",
            "root": "things",
            "classes": [{"name": name, "color": [9, 9, 9]} for name in names],
            "label_map": label_map,
            "splits": {},
        }
    )


def by_dict(card, raw):
    """Look every pixel up in the card, one by one."""
    index = {name: i for i, name in enumerate(card.class_names)} | {"ignore": 255}
    pixels = [index[card.label_map[int(value)]] for value in raw.ravel()]
    return np.array(pixels).reshape(raw.shape)


def pasted_map(message):
    return yaml.safe_load("{" + re.search(r"label_map: \{.*\}", str(message)).group() + "}")


@pytest.mark.parametrize("path", CARDS, ids=lambda p: p.stem)
def test_shipped_cards_map_as_they_say_and_back(path):
    card = load_card(path)
    labels = LabelMap(card)
    rng = np.random.default_rng(0)
    raw = rng.choice(list(card.label_map), size=(37, 53)).astype(np.uint8)
    classes = labels.to_classes(raw, "mask.png")
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, by_dict(card, raw))
    assert set(np.unique(classes)) == {*range(card.num_classes), IGNORE_INDEX}

    again = labels.to_raw(classes)
    assert again.dtype == np.uint8
    assert set(np.unique(again)) <= set(card.label_map)
    assert np.array_equal(labels.to_classes(again, "mask.png"), classes)


def test_several_raw_values_of_a_class_return_as_the_smallest():
    card = make_card({7: "b", 3: "b", 5: "a", 200: "ignore", 100: "ignore"})
    classes = LabelMap(card).to_classes(np.array([[3, 5, 7, 100, 200]]), "mask.png")
    assert classes.tolist() == [[1, 0, 1, 255, 255]]
    assert LabelMap(card).to_raw(classes).tolist() == [[3, 5, 3, 100, 100]]


def test_the_order_of_the_classes_decides_not_that_of_the_map():
    card = make_card({0: "road", 1: "sky", 2: "car"}, names=["sky", "car", "road"])
    assert LabelMap(card).to_classes(np.array([[0, 1, 2]]), "m").tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("seed", range(40))
def test_no_random_mask_comes_out_unmapped(seed):
    """A label outside 0 ... C-1 and 255 would be an IndexError or a CUDA assert in the loss."""
    rng = np.random.default_rng(seed)
    names = [f"class {i}" for i in range(rng.integers(2, 30))]
    spare = rng.choice([*names, "ignore"], size=256 - len(names))
    meanings = rng.permutation([*names, *spare])
    known = range(256) if seed % 2 else sorted(rng.permutation(256)[: rng.integers(200, 256)])
    label_map = {int(raw): str(meanings[raw]) for raw in known}
    names = sorted(set(label_map.values()) - {"ignore"})
    card = make_card(label_map, names)
    high = int(rng.integers(3, 257))
    raw = rng.integers(0, high, size=(17, 23), dtype=np.uint8)

    if set(np.unique(raw).tolist()) <= set(label_map):
        classes = LabelMap(card).to_classes(raw, "mask.png")
        assert np.array_equal(classes, by_dict(card, raw))
        assert set(np.unique(classes)) <= {*range(card.num_classes), IGNORE_INDEX}
    else:
        with pytest.raises(UserError, match=r"mask\.png"):
            LabelMap(card).to_classes(raw, "mask.png")


def test_255_in_a_file_means_nothing_of_itself():
    raw = np.array([[0, 1], [1, 255]], np.uint8)
    with pytest.raises(UserError, match=r"255 \(25\.0% of the pixels\)"):
        LabelMap(make_card({0: "ground", 1: "thing"})).to_classes(raw, "m")
    as_class = LabelMap(make_card({0: "ground", 1: "ground", 255: "thing"}))
    assert as_class.to_classes(raw, "m").tolist() == [[0, 0], [0, 1]]
    as_void = LabelMap(make_card({0: "ground", 1: "thing", 255: "ignore"}))
    assert as_void.to_classes(raw, "m").tolist() == [[0, 1], [1, IGNORE_INDEX]]


@pytest.mark.parametrize(
    "raw",
    [
        np.array([[0] * 6 + [3, 77], [1] * 6 + [77, 77]], np.uint8),
        np.array([[0, 1, 5, 65535, 300]], np.uint16),
    ],
    ids=["8 bit", "16 bit"],
)
def test_unknown_values_come_with_file_shares_and_a_map_that_works(raw):
    card = make_card({0: "ground", 1: "thing"})
    with pytest.raises(UserError) as error:
        LabelMap(card).to_classes(raw, Path("masks/a.png"))
    message = str(error.value)
    assert message.startswith("masks/a.png: ")
    assert "'things'" in message
    for value in set(raw.ravel().tolist()) - {0, 1}:
        share = (raw == value).mean()
        assert f"{value} ({100 * share:.1f}% of the pixels)" in message
    assert "0 (" not in message.replace("300 (", "")

    mended = card.model_dump() | pasted_map(message)
    classes = LabelMap(Card.model_validate(mended)).to_classes(raw, "a.png")
    assert np.array_equal(classes == IGNORE_INDEX, raw > 1)
    assert np.array_equal(classes[raw <= 1], raw[raw <= 1])


@pytest.mark.parametrize(
    ("label_map", "values", "expected"),
    [
        ({0: "background", 1: "thing"}, (0, 255), {0: "background", 255: "thing"}),
        ({255: "background", 1: "thing"}, (0, 255), {255: "background", 0: "thing"}),
        ({0: "background", 1: "thing"}, (1, 2), {2: "background", 1: "thing"}),
    ],
)
def test_a_binary_mask_of_two_values_is_not_told_to_ignore_one(label_map, values, expected):
    """With 255 ignored, masks of 0 and 255 would train to a loss of zero and mean nothing."""
    card = make_card(label_map, ["background", "thing"])
    raw = np.array([[values[0], values[0], values[1]]], np.uint8)
    with pytest.raises(UserError) as error:
        LabelMap(card).to_classes(raw, "a.png")
    assert pasted_map(error.value) == {"label_map": expected}
    mended = Card.model_validate(card.model_dump() | pasted_map(error.value))
    assert set(np.unique(LabelMap(mended).to_classes(raw, "a.png"))) == {0, 1}


def test_many_unknown_values_are_cut_short():
    raw = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.raises(UserError, match="and 249 more") as error:
        LabelMap(make_card({0: "ground", 1: "thing"})).to_classes(raw, "a.png")
    assert len(str(error.value)) < 500
    assert set(pasted_map(error.value)["label_map"]) == set(range(7))


def test_values_beyond_8_bits_go_both_ways():
    card = make_card({256: "ground", 1000: "thing", 65535: "ignore"})
    raw = np.array([[256, 1000, 65535]], np.uint16)
    classes = LabelMap(card).to_classes(raw, "m")
    assert classes.tolist() == [[0, 1, IGNORE_INDEX]]
    again = LabelMap(card).to_raw(classes)
    assert again.dtype == np.uint16
    assert np.array_equal(again, raw)
