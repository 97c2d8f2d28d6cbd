"""A card without a label map: what the masks hold is told, with a map that works once pasted."""

import re

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from segkit.data.card import load_card
from segkit.data.label_map import LabelMap
from segkit.errors import UserError

CLASSES = np.zeros((20, 30), np.uint8)
CLASSES[4:12, 5:15] = 1
CLASSES[14:18, 10:25] = 2
BINARY = np.where(CLASSES == 2, 0, CLASSES)
RED_BLUE = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


@pytest.fixture
def propose(tmp_path):
    """Load a card for masks and further keys; gives the refusal, and the card once mended."""

    def load(masks, **keys):
        folder = tmp_path / "cells/masks"
        folder.mkdir(parents=True)
        for index, mask in enumerate(masks):
            mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
            mask.save(folder / f"{index}.png")
        split = {"images": "images", "masks": "masks"}
        card = {"name": "cells", "root": "cells", "splits": {"train": split}, **keys}
        path = tmp_path / "cells.yaml"
        path.write_text(yaml.safe_dump(card))
        with pytest.raises(UserError) as error:
            load_card(path)
        text = str(error.value)
        assert text.startswith(f"{path}:")
        pasted = re.findall(r"^(?:classes|label_map|lossy_masks): .*$", text, re.MULTILINE)
        card.pop("label_map", None)
        path.write_text("\n".join([yaml.safe_dump(card), *pasted]))
        return text.splitlines()[0], (lambda: load_card(path)), folder

    return load


def palette_image(classes):
    image = Image.fromarray(classes, "L").convert("P")
    image.putdata(classes.ravel().tolist())
    image.putpalette([200, 30, 30, 30, 200, 30, 9, 9, 9])
    return image


def test_black_and_white_masks(propose):
    told, load, folder = propose([255 * BINARY, 0 * BINARY], classes=["background", "membrane"])
    share = BINARY.mean() / 2
    assert "label_map is missing" in told
    assert f"The 2 masks below {folder.parent} hold the values" in told
    assert f"0 ({1 - share:.1%} of the pixels) and 255 ({share:.1%})" in told
    card = load()
    assert card.label_map == {0: "background", 255: "membrane"}
    assert np.array_equal(LabelMap(card).read(folder / "0.png"), BINARY)


@pytest.mark.parametrize("given", [None, {}])
def test_an_empty_map_is_none(given, propose):
    _, load, _ = propose([255 * BINARY], classes=["background", "membrane"], label_map=given)
    assert load().label_map == {0: "background", 255: "membrane"}


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (palette_image(CLASSES), {0: "a", 1: "b", 2: "c"}),
        (RED_BLUE[CLASSES], {"0 0 0": "a", "0 0 255": "b", "255 0 0": "c"}),
        (np.repeat(CLASSES[..., None], 3, -1), {0: "a", 1: "b", 2: "c"}),
        (CLASSES.astype(np.uint16) + 1000, {1000: "a", 1001: "b", 1002: "c"}),
    ],
    ids=["palette", "rgb", "grey as rgb", "16 bits"],
)
def test_each_encoding_is_read_as_training_reads_it(mask, expected, propose):
    _, load, folder = propose([mask], classes=["a", "b", "c"])
    card = load()
    assert card.label_map == expected
    assert set(np.unique(LabelMap(card).read(folder / "0.png"))) == {0, 1, 2}


def test_colours_that_a_card_gives_to_classes_are_matched_first(propose):
    classes = ["ground", {"name": "car", "color": [255, 0, 0]}, "sky"]
    _, load, folder = propose([RED_BLUE[CLASSES]], classes=classes)
    card = load()
    assert card.label_map == {"0 0 0": "ground", "255 0 0": "car", "0 0 255": "sky"}
    assert np.array_equal(LabelMap(card).read(folder / "0.png"), CLASSES)


def test_a_palette_beside_colours_is_taken_by_its_colours(propose):
    _, load, _ = propose([palette_image(BINARY), RED_BLUE[BINARY]], classes=["a", "b", "c", "d"])
    assert set(load().label_map) == {"200 30 30", "30 200 30", "0 0 0", "255 0 0"}


def test_more_values_than_classes(propose):
    mask = np.where(BINARY == 0, CLASSES + 5, 9).astype(np.uint8)
    told, load, _ = propose([mask], classes=["ground", "thing"])
    assert "3 for 2 classes; those ignored below" in told
    assert load().label_map == {5: "ground", 7: "ignore", 9: "thing"}  # 7 is the rarest


def test_one_value_too_many_that_is_255_is_void(propose):
    mask = np.full_like(CLASSES, 255)  # most of it
    mask[:6] = BINARY[:6]
    _, load, _ = propose([mask], classes=["ground", "thing"])
    assert load().label_map == {0: "ground", 1: "thing", 255: "ignore"}


def test_fewer_values_than_classes(propose):
    told, load, _ = propose([255 * BINARY], classes=["ground", "thing", "sky"])
    assert "2 for 3 classes, so that none is left for sky" in told
    with pytest.raises(UserError, match="no raw value for sky"):
        load()


def test_blurred_borders_become_the_nearest_class(propose):
    disc = cv2.circle(np.zeros((60, 60), np.uint8), (30, 30), 18, 1, -1)
    blurred = cv2.GaussianBlur(255 * disc, (0, 0), 1)
    told, load, folder = propose([blurred], classes=["ground", "thing"])
    assert "of which the most frequent are taken" in told
    card = load()
    assert card.lossy_masks
    assert card.label_map == {0: "ground", 255: "thing"}
    assert (LabelMap(card).read(folder / "0.png") == disc).mean() > 0.95


def test_photographs_are_no_masks(propose):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    told, load, _ = propose([noise], classes=["ground", "thing"])
    assert "too many for masks" in told
    with pytest.raises(UserError, match="label_map is missing"):
        load()


@pytest.mark.parametrize(
    ("mask", "names", "label_map"),
    [
        (255 * BINARY, ["background", "thing"], {0: "background", 255: "thing"}),
        (CLASSES * 7, ["class_0", "class_1", "class_2"], {0: 0, 7: 1, 14: 2}),
        (np.where(CLASSES == 2, 255, CLASSES), ["background", "thing"], {0: 0, 1: 1, 255: None}),
    ],
    ids=["0 and 255", "three", "void"],
)
def test_without_classes_both_are_proposed(mask, names, label_map, propose):
    told, load, _ = propose([mask.astype(np.uint8)])
    assert "classes and label_map are missing" in told
    card = load()
    assert list(card.class_names) == names
    expected = {
        raw: "ignore" if name is None else names[name] if isinstance(name, int) else name
        for raw, name in label_map.items()
    }
    assert card.label_map == expected


def test_without_classes_colours_stay_as_they_are(propose):
    _, load, folder = propose([RED_BLUE[CLASSES]])
    card = load()
    painted = np.array(card.colors)[LabelMap(card).read(folder / "0.png")]
    assert np.array_equal(painted, RED_BLUE[CLASSES])


def test_one_value_makes_no_classes(propose):
    told, _, _ = propose([0 * BINARY])
    assert "the value 0 (100.0% of the pixels), while 2 to 254 make classes" in told


def test_without_masks_an_example_is_shown(propose):
    told, _, folder = propose([], classes=["ground", "thing"])
    assert f"no masks below {folder.parent}" in told
    assert "label_map: {0: ground, 1: thing}" in told


def test_another_mistake_is_told_first(propose):
    told, _, _ = propose([255 * BINARY], classes=["ground", "thing"], sorce="here")
    assert "sorce is an unknown key; did you mean 'source'?" in told


def test_a_misspelt_map_is_no_missing_one(propose):
    told, _, _ = propose([BINARY], classes=["a", "b"], label_mapp={0: "a", 1: "b"})
    assert "did you mean 'label_map'?" in told


def test_images_in_the_folder_of_the_masks_are_left_out(tmp_path):
    (tmp_path / "all").mkdir()
    for index in range(3):
        Image.fromarray(RED_BLUE[CLASSES]).save(tmp_path / f"all/{index}.png")
        Image.fromarray(255 * BINARY).save(tmp_path / f"all/{index}_mask.png")
    split = {"images": "all", "masks": "all", "mask_suffix": "_mask"}
    card = {"name": "c", "root": ".", "splits": {"train": split}, "classes": ["ground", "thing"]}
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(UserError, match=r"The 3 masks .*\nlabel_map: \{0: ground, 255: thing\}"):
        load_card(path)
