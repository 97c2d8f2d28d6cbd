"""The shipped cards against what is known of their data sets, by other ways than they were made."""

import re
from pathlib import Path

import pytest
import yaml

from segkit.data.card import load_card
from segkit.data.fetch import BY_HAND, SOURCES

CARDS = Path(__file__).parents[2] / "datasets"
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@pytest.fixture
def card():
    """Load a shipped card by name."""
    return lambda name: load_card(CARDS / f"{name}.yaml")


def index_map(card) -> dict[int, int | str]:
    """Raw value to class index, or ignore."""
    names = card.class_names
    return {r: names.index(n) if n in names else n for r, n in card.label_map.items()}


def voc_color(index: int) -> tuple[int, int, int]:
    """Three bits of the index at a time, from the low end, fill R, G, B from the top."""
    color = [0, 0, 0]
    for place in range(7, -1, -1):
        for channel in range(3):
            color[channel] |= (index >> channel & 1) << place
        index >>= 3
    return tuple(color)


def test_voc(card):
    voc = card("voc2012")
    assert index_map(voc) == {**{i: i for i in range(21)}, 255: "ignore"}
    assert voc.colors == tuple(voc_color(i) for i in range(21))
    # devkit's order: alphabetical, behind background
    assert voc.class_names[0] == "background"
    assert list(voc.class_names[1:]) == sorted(voc.class_names[1:])
    assert {"aeroplane", "diningtable", "pottedplant", "tvmonitor"} < set(voc.class_names)
    assert set(voc.splits) == {"train", "val", "trainval", "train_aug"}
    for name, split in voc.splits.items():
        assert split.images == "VOCdevkit/VOC2012/JPEGImages"
        assert split.list == f"VOCdevkit/VOC2012/ImageSets/Segmentation/{name}.txt"
        folder = "SegmentationClassAug" if name == "train_aug" else "SegmentationClass"
        assert split.masks == f"VOCdevkit/VOC2012/{folder}"


def test_cityscapes(card):
    towns = card("cityscapes")
    expected = dict.fromkeys(range(34), "ignore")
    assert index_map(towns) == {**expected, **{r: i for i, r in enumerate(CITYSCAPES_IDS)}}
    by_name = dict(zip(towns.class_names, towns.colors, strict=True))
    assert by_name["road"] == (128, 64, 128)
    assert by_name["traffic light"] == (250, 170, 30)
    assert by_name["rider"] == (255, 0, 0)
    assert by_name["bicycle"] == (119, 11, 32)
    assert len(set(towns.colors)) == 19
    for name in ("train", "val"):
        split = towns.splits[name]
        assert (split.images, split.masks) == (f"leftImg8bit/{name}", f"gtFine/{name}")
        assert split.image_suffix == "_leftImg8bit"
        assert split.mask_suffix == "_gtFine_labelIds"


def test_ade20k(card):
    ade = card("ade20k")
    assert index_map(ade) == {0: "ignore", **{i + 1: i for i in range(150)}}
    assert len(set(ade.class_names)) == 150
    # lines of objectInfo150.txt, counted from one
    known = {1: "wall", 8: "bed", 13: "person", 21: "car", 59: "screen door", 90: "television"}
    known |= {105: "fountain", 117: "minibike", 131: "screen", 142: "crt screen", 150: "flag"}
    assert {raw: ade.label_map[raw] for raw in known} == known
    # lines of color150, counted from one; two of them are the same, and no others
    colors = {1: (120,) * 3, 7: (140,) * 3, 13: (150, 5, 61), 49: (140,) * 3, 150: (92, 0, 255)}
    assert {raw: ade.colors[raw - 1] for raw in colors} == colors
    assert len(set(ade.colors)) == 149


def test_pets(card):
    pets = card("oxford_pets")
    assert pets.class_names == ("background", "pet")
    assert pets.label_map == {1: "pet", 2: "background", 3: "ignore"}
    lists = {name: split.list for name, split in pets.splits.items()}
    assert lists == {name: f"{name}.txt" for name in ("train", "val", "test")}


def test_the_template_names_every_key_a_user_may_set(card):
    template = (CARDS / "folder_template.yaml").read_text()
    loaded = card("folder_template")
    keys = set(type(loaded).model_fields) - {"builtin"}
    keys |= set(type(loaded.splits["train"]).model_fields)
    keys |= set(type(loaded.classes[0]).model_fields)
    for key in keys:
        assert re.search(rf"\b{key}: ", template), key


def test_what_the_template_comments_out_is_right_too(tmp_path):
    template = (CARDS / "folder_template.yaml").read_text()
    hints = dict(re.findall(r"^ *# +([\w ]+): (\S+)  ", template, re.MULTILINE))
    data = yaml.safe_load(template)
    for key in ("list", "image_suffix", "mask_suffix"):
        data["splits"]["train"][key] = hints.pop(key)
    assert hints.pop("128") == "ignore"
    assert hints.pop("128 64 128") == "thing"
    data["label_map"] = {"0 0 0": "background", "128 64 128": "thing"}
    data |= {key: yaml.safe_load(value) for key, value in hints.items()}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(data))
    card = load_card(tmp_path / "card.yaml")
    assert card.splits["train"].mask_suffix == "_mask"
    assert card.label_map == data["label_map"]
    assert card.lossy_masks
    assert card.image_max == 4095


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_card_names_its_source(path):
    loaded = load_card(path)
    assert loaded.source
    assert loaded.licence
    if path.stem not in ("streets", "folder_template"):
        assert re.search(r"[A-Z]\w+.*(19|20)\d\d", loaded.citation, re.DOTALL)


@pytest.mark.parametrize("name", sorted({*BY_HAND, *(s.card for s in SOURCES.values())}))
def test_what_fetching_makes_is_what_the_cards_read(card, name):
    """Each folder and list of a card lies in something that fetching makes or asks for."""
    made = [path for source in SOURCES.values() if source.card == name for path in source.layout]
    for split in card(name).splits.values():
        for path in filter(None, (split.images, split.masks, split.list)):
            assert name in BY_HAND or path in made or str(Path(path).parent) in made
