"""Mask files of every encoding to classes and back, against plain dicts."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from torchmetrics.classification import MulticlassConfusionMatrix

from segkit.data.card import Card, load_card
from segkit.data.label_map import LabelMap, UnknownLabels
from segkit.data.raw_labels import pack, unpack
from segkit.errors import UserError
from segkit.evaluation.scores import scores_of
from segkit.labels import IGNORE_INDEX

CARDS = sorted((Path(__file__).parents[2] / "datasets").glob("*.yaml"))
COLORS = ((128, 64, 128), (0, 0, 0), (255, 200, 0), (200, 255, 0))  # grey values tell no two apart
BY_COLOR = {"128 64 128": "road", "0 0 0": "sky", "255 200 0": "car", "200 255 0": "ignore"}
NAMES = ["road", "sky", "car"]


def make_card(label_map, names=None, **options):
    names = names or sorted(set(label_map.values()) - {"ignore"})
    return Card.model_validate(
        {
            "name": "things",
            "root": "things",
            "classes": [{"name": name, "color": [9, 9, 9]} for name in names],
            "label_map": label_map,
            "splits": {},
            **options,
        }
    )


def by_dict(card, raw):
    """Look every pixel up in the card, one by one."""
    index = {name: i for i, name in enumerate(card.class_names)} | {"ignore": 255}
    if card.by_color:
        keys = [" ".join(map(str, color)) for color in raw.reshape(-1, 3).tolist()]
        return np.array([index[card.label_map[key]] for key in keys]).reshape(raw.shape[:2])
    pixels = [index[card.label_map[int(value)]] for value in raw.ravel()]
    return np.array(pixels).reshape(raw.shape)


def pasted_map(message):
    return yaml.safe_load("{" + re.search(r"label_map: \{.*\}", str(message)).group() + "}")


# Encodings: all hold LABELS, in the one way or the other

LABELS = np.random.default_rng(0).integers(0, 4, (9, 14), dtype=np.uint8)
PAINTED = np.array(COLORS, np.uint8)[LABELS]
VALUES = {0: "road", 1: "sky", 2: "car", 3: "ignore"}


def pillow(pixels, **options):
    return lambda path: Image.fromarray(pixels).save(path, **options)


def palette(colors=COLORS, **options):
    def write(path):
        image = Image.fromarray(LABELS)
        image.putpalette(np.ravel(colors).tolist())
        image.save(path, **options)

    return write


def tiff(pixels, **options):
    def write(path):
        if options.get("compression") == "lzw":
            pytest.importorskip("imagecodecs")
        tifffile.imwrite(path, pixels, **options)

    return write


def tiff_palette(path):
    table = np.zeros((3, 256), np.uint16)
    table[:, :4] = np.array(COLORS).T * 257
    tifffile.imwrite(path, LABELS, photometric="palette", colormap=table)


def npy(kind):
    return lambda path: np.save(path, LABELS.astype(kind))


WITH_ALPHA = np.dstack([LABELS] * 3 + [np.full_like(LABELS, 255)])
VALUE_FILES = {
    "grey.png": pillow(LABELS),
    "16 bit.png": pillow(LABELS.astype(np.uint16)),
    "grey as RGB.png": pillow(WITH_ALPHA[..., :3]),
    "grey as RGBA.png": pillow(WITH_ALPHA),
    "grey with alpha.png": pillow(WITH_ALPHA[..., 2:]),
    "palette.png": palette(),
    "palette of 2 bits.png": palette(bits=2),
    "palette of 4 bits.png": palette(bits=4),
    "palette of 8 bits.png": palette(bits=8),
    "grey palette.png": palette([(50, 50, 50), (30, 30, 30), (20, 20, 20), (90, 90, 90)]),
    "palette.gif": palette(),
    "grey.bmp": pillow(LABELS),
    "palette.bmp": palette(),
    "grey.webp": pillow(WITH_ALPHA[..., :3], lossless=True),
    "raw.tif": tiff(LABELS),
    "lzw.tif": tiff(LABELS, compression="lzw"),
    "deflate.tif": tiff(LABELS, compression="zlib"),
    "16 bit.tif": tiff(LABELS.astype(np.uint16)),
    "signed.tif": tiff(LABELS.astype(np.int32)),
    "white is zero.tif": tiff(255 - LABELS, photometric="miniswhite"),
    "palette.tiff": tiff_palette,
    **{f"{kind}.npy": npy(kind) for kind in ("uint8", "uint16", "int64", "int8", ">u2")},
}
COLOR_FILES = {
    "RGB.png": pillow(PAINTED),
    "RGBA.png": pillow(np.dstack([PAINTED, WITH_ALPHA[..., 3]])),
    "palette.png": palette(),
    "palette of 2 bits.png": palette(bits=2),
    "RGB.bmp": pillow(PAINTED),
    "palette.gif": palette(),
    "RGB.webp": pillow(PAINTED, lossless=True),
    "RGB.tif": tiff(PAINTED),
    "lzw.tif": tiff(PAINTED, compression="lzw"),
    "deflate.tif": tiff(PAINTED, compression="zlib"),
    "planar.tif": tiff(np.moveaxis(PAINTED, 2, 0), photometric="rgb", planarconfig="separate"),
    "palette.tif": tiff_palette,
    "RGB.npy": lambda path: np.save(path, PAINTED),
}
BINARY = (LABELS > 1).astype(np.uint8)
BINARY_FILES = {
    "0 and 255.png": ({0: "sky", 255: "road"}, pillow(255 * BINARY)),
    "0 and 255.bmp": ({0: "sky", 255: "road"}, pillow(255 * BINARY)),
    "1 bit.png": ({0: "sky", 1: "road"}, pillow(BINARY > 0)),
    "1 bit.tif": ({0: "sky", 1: "road"}, pillow(BINARY > 0)),
    "packed.tif": ({0: "sky", 1: "road"}, tiff(BINARY > 0, photometric="minisblack")),
    "white is zero.tif": ({0: "sky", 1: "road"}, tiff(BINARY == 0, photometric="miniswhite")),
    "bool.npy": ({0: "sky", 1: "road"}, lambda path: np.save(path, BINARY > 0)),
    "black and white.png": (
        {"0 0 0": "sky", "255 255 255": "road"},
        pillow(np.dstack([255 * BINARY] * 3)),
    ),
    "grey.png": ({"0 0 0": "sky", "255 255 255": "road"}, pillow(255 * BINARY)),
}


@pytest.mark.parametrize(
    ("name", "write", "label_map"),
    [
        *((name, write, VALUES) for name, write in VALUE_FILES.items()),
        *((name, write, BY_COLOR) for name, write in COLOR_FILES.items()),
    ],
)
def test_one_mask_in_every_encoding_reads_the_same(tmp_path, name, write, label_map):
    write(tmp_path / name)
    classes = LabelMap(make_card(label_map, NAMES)).read(tmp_path / name)
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, np.where(LABELS == 3, IGNORE_INDEX, LABELS))


@pytest.mark.parametrize(("name", "mapped"), BINARY_FILES.items(), ids=BINARY_FILES)
def test_a_binary_mask_in_every_encoding_reads_the_same(tmp_path, name, mapped):
    label_map, write = mapped
    write(tmp_path / name)
    assert np.array_equal(
        LabelMap(make_card(label_map, NAMES[1::-1])).read(tmp_path / name), BINARY
    )


@pytest.mark.parametrize(("bits", "colors"), [(1, 2), (2, 4), (4, 16)])
def test_packed_palettes_read_as_indices(tmp_path, bits, colors):
    labels = (np.arange(9 * 14) % colors).astype(np.uint8).reshape(9, 14)
    rng = np.random.default_rng(0)
    image = Image.fromarray(labels)
    image.putpalette(rng.integers(0, 256, 3 * colors).tolist())
    image.save(tmp_path / "mask.png", bits=bits)
    assert (tmp_path / "mask.png").read_bytes()[24] == bits
    card = make_card({index: f"class {index:02}" for index in range(colors)})
    assert np.array_equal(LabelMap(card).read(tmp_path / "mask.png"), labels)


def test_16_bit_values_are_kept(tmp_path):
    raw = np.array([[0, 255, 256], [1000, 40000, 65535]], np.uint16)
    Image.fromarray(raw).save(tmp_path / "mask.png")
    tifffile.imwrite(tmp_path / "mask.tif", raw)
    card = make_card({0: "a", 255: "b", 256: "c", 1000: "d", 40000: "ignore", 65535: "e"})
    for suffix in ("png", "tif"):
        classes = LabelMap(card).read(tmp_path / f"mask.{suffix}")
        assert classes.tolist() == [[0, 1, 2], [3, 255, 4]]


def test_a_mask_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LABELS).save(tmp_path / "mask.png", exif=exif)
    classes = LabelMap(make_card(VALUES, NAMES)).read(tmp_path / "mask.png")
    upright = np.rot90(LABELS, -1)
    assert np.array_equal(classes, np.where(upright == 3, IGNORE_INDEX, upright))


def test_a_colour_mask_is_told_its_map_by_a_card_of_values(tmp_path):
    Image.fromarray(PAINTED).save(tmp_path / "mask.png")
    card = make_card(VALUES, NAMES)
    entries = zip(card.classes, COLORS, strict=False)
    classes = tuple(entry.model_copy(update={"color": color}) for entry, color in entries)
    card = card.model_copy(update={"classes": classes})
    with pytest.raises(UserError, match=r"mask\.png: is a colour mask of 4 colours") as error:
        LabelMap(card).read(tmp_path / "mask.png")
    assert pasted_map(error.value) == {"label_map": BY_COLOR}
    mended = Card.model_validate(card.model_dump() | pasted_map(error.value))
    expected = np.where(LABELS == 3, IGNORE_INDEX, LABELS)
    assert np.array_equal(LabelMap(mended).read(tmp_path / "mask.png"), expected)


UNFIT = {
    "floats": (LABELS.astype(np.float32), VALUES, "holds float32; save labels as whole numbers"),
    "negative": (LABELS.astype(np.int16) - 1, VALUES, "holds labels from -1 to 2"),
    "beyond 16 bits": (LABELS.astype(np.int64) + 65533, VALUES, "from 65533 to 65536"),
    "deep colours": (
        PAINTED.astype(np.uint16),
        BY_COLOR,
        "uint16 pixels, but the card's label_map",
    ),
    "deep colours for values": (PAINTED.astype(np.uint16), VALUES, "colours of uint16"),
}


@pytest.mark.parametrize(("pixels", "label_map", "message"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_labels_is_refused(tmp_path, pixels, label_map, message):
    np.save(tmp_path / "mask.npy", pixels)
    with pytest.raises(UserError, match=rf"mask\.npy: .*{message}"):
        LabelMap(make_card(label_map, NAMES)).read(tmp_path / "mask.npy")


# Lossy formats


LOSSY = {"jpg": {"quality": 80}, "webp": {"quality": 80}}


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_masks_are_refused(tmp_path, suffix):
    Image.fromarray(PAINTED).save(tmp_path / f"mask.{suffix}", **LOSSY[suffix])
    with pytest.raises(UserError, match=r"lossy format.*lossy_masks: true"):
        LabelMap(make_card(BY_COLOR, NAMES)).read(tmp_path / f"mask.{suffix}")


@pytest.mark.parametrize("suffix", LOSSY)
@pytest.mark.parametrize("label_map", [BY_COLOR, {0: "road", 90: "sky", 170: "car", 255: "ignore"}])
def test_lossy_masks_take_the_nearest_known_label(tmp_path, suffix, label_map):
    areas = np.kron(LABELS[:3, :5], np.ones((20, 20), np.uint8))  # not on blocks of 8
    by_color = label_map is BY_COLOR
    known = np.array(COLORS) if by_color else np.array([[v] * 3 for v in label_map])
    path = tmp_path / f"mask.{suffix}"
    painted = known[areas] if by_color else known[areas][..., 0]
    Image.fromarray(painted.astype(np.uint8)).save(path, **LOSSY[suffix])
    classes = LabelMap(make_card(label_map, NAMES, lossy_masks=True)).read(path)
    with Image.open(path) as image:
        stored = np.array(image.convert("RGB")).astype(int)
    distance = ((stored[:, :, None] - known) ** 2).sum(-1)
    nearest = distance.argmin(-1)
    assert (np.sort(distance, -1)[..., 0] > 0).any()
    assert np.array_equal(classes, np.where(nearest == 3, IGNORE_INDEX, nearest))
    assert (classes == np.where(areas == 3, IGNORE_INDEX, areas)).mean() > 0.9


def test_labels_that_are_known_stay_where_strays_are_moved():
    card = make_card({10: "road", 20: "sky", 21: "ignore"}, ["road", "sky"], lossy_masks=True)
    raw = np.array([[0, 10, 14, 16, 20, 21, 22, 200]], np.uint8)
    classes = LabelMap(card).to_classes(raw, "mask.png").tolist()
    assert classes == [[0, 0, 0, 1, 1, 255, 255, 255]]


# Values and classes


@pytest.mark.parametrize("path", CARDS, ids=lambda p: p.stem)
def test_shipped_cards_map_as_they_say_and_back(path):
    card = load_card(path)
    labels = LabelMap(card)
    rng = np.random.default_rng(0)
    raw = rng.choice(list(card.label_map), size=(37, 53)).astype(np.uint8)
    classes = labels.to_classes(raw, "mask.png")
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, by_dict(card, raw))
    void = {IGNORE_INDEX} if "ignore" in card.label_map.values() else set()
    assert set(np.unique(classes)) == {*range(card.num_classes)} | void

    again = labels.to_raw(classes)
    assert again.dtype == np.uint8
    assert set(np.unique(again)) <= set(card.label_map)
    assert np.array_equal(labels.to_classes(again, "mask.png"), classes)


@pytest.mark.parametrize("seed", range(5))
def test_colours_map_as_the_card_says_and_back(seed):
    rng = np.random.default_rng(seed)
    colors = np.unique(rng.integers(0, 256, (30, 3), dtype=np.uint8), axis=0)
    names = [f"class {i}" for i in range(12)]
    meanings = [*names, "ignore", *rng.choice([*names, "ignore"], size=len(colors) - 13)]
    keys = [" ".join(map(str, color)) for color in colors.tolist()]
    card = make_card(dict(zip(keys, meanings, strict=True)), names)
    raw = rng.choice(colors, size=(17, 23))
    classes = LabelMap(card).to_classes(raw, "mask.png")
    assert np.array_equal(classes, by_dict(card, raw))
    again = LabelMap(card).to_raw(classes)
    assert again.shape == (17, 23, 3)
    assert again.dtype == np.uint8
    assert np.array_equal(LabelMap(card).to_classes(again, "mask.png"), classes)


@pytest.mark.parametrize(
    "card", [*CARDS, make_card(BY_COLOR, NAMES)], ids=lambda c: Path(c.name).stem
)
def test_the_ground_truth_scores_100_against_itself(card):
    card = load_card(card) if isinstance(card, Path) else card
    rng = np.random.default_rng(0)
    classes = rng.integers(0, card.num_classes + 1, (64, 96))
    classes[classes == card.num_classes] = IGNORE_INDEX
    if "ignore" not in card.label_map.values():
        classes[classes == IGNORE_INDEX] = 0
    labels = LabelMap(card)
    truth = torch.from_numpy(labels.to_classes(labels.to_raw(classes), "mask.png")).long()
    matrix = MulticlassConfusionMatrix(card.num_classes, ignore_index=IGNORE_INDEX)
    prediction = torch.from_numpy(classes).clamp(max=card.num_classes - 1)  # void is no answer
    scores = scores_of(matrix(prediction, truth))
    assert scores.miou == scores.pixel_accuracy == scores.mean_accuracy == 1
    assert scores.classes_present == card.num_classes


def test_packing_is_undone():
    colors = np.array([[0, 0, 0], [255, 255, 255], [1, 2, 3], [255, 0, 1]], np.uint8)
    assert pack(colors).tolist() == [0, 0xFFFFFF, 0x010203, 0xFF0001]
    assert np.array_equal(unpack(pack(colors)), colors)


def test_several_raw_values_of_a_class_return_as_the_smallest():
    card = make_card({7: "b", 3: "b", 5: "a", 100: "ignore", 200: "ignore"})
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


def test_unknown_colours_come_with_shares_nearest_and_a_map_that_works():
    card = make_card(BY_COLOR, NAMES)
    raw = np.array([[COLORS[0]] * 5 + [COLORS[1]] + [(130, 60, 120)] * 3 + [(250, 250, 10)]])
    with pytest.raises(UnknownLabels) as error:
        LabelMap(card).to_classes(raw.astype(np.uint8), "mask.png")
    message = str(error.value)
    for part in (
        "mask.png: the card 'things'",
        "130 60 120 (30.0% of the pixels, nearest: 128 64 128 road)",
        "250 250 10 (10.0% of the pixels, nearest: 255 200 0 car)",
    ):
        assert part in message
    assert message.index("130 60 120") < message.index("250 250 10")
    assert error.value.pixels == {0x823C78: 3, 0xFAFA0A: 1}

    mended = Card.model_validate(card.model_dump() | pasted_map(message))
    classes = LabelMap(mended).to_classes(raw, "mask.png")
    assert classes.tolist() == [[0] * 5 + [1] + [255] * 4]


def test_unknown_labels_survive_the_way_between_processes():
    with pytest.raises(UnknownLabels) as error:
        LabelMap(make_card({0: "ground", 1: "thing"})).to_classes(np.array([[0, 7, 7]]), "m.png")
    again = pickle.loads(pickle.dumps(error.value))
    assert type(again) is UnknownLabels
    assert str(again) == str(error.value)
    assert vars(again) == vars(error.value)
    assert again.pixels == {7: 2}


@pytest.mark.parametrize("seed", range(5))
def test_no_random_colours_come_out_unmapped(seed):
    rng = np.random.default_rng(seed)
    card = make_card(BY_COLOR, NAMES)
    raw = rng.choice(COLORS, size=(17, 23)).astype(np.uint8)
    for place in rng.integers(0, 17, (seed, 2)):
        raw[tuple(place)] ^= 1
    if seed:
        with pytest.raises(UnknownLabels) as error:
            LabelMap(card).to_classes(raw, "mask.png")
        changed = {tuple(c) for c in raw.reshape(-1, 3).tolist()} - set(COLORS)
        assert {tuple(unpack(np.array(v)).tolist()) for v in error.value.pixels} == changed
    else:
        assert np.array_equal(LabelMap(card).to_classes(raw, "mask.png"), by_dict(card, raw))
    lossy = make_card(BY_COLOR, NAMES, lossy_masks=True)
    assert set(np.unique(LabelMap(lossy).to_classes(raw, "mask.png"))) <= {0, 1, 2, 255}


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
