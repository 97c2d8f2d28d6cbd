"""Any folder, ten lines of YAML, no Python: one's own data are checked, drawn and learned."""

import csv
import json
import re

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

CARD = """\
name: leaves
root: leaves
splits:
  train: {images: images/train, masks: masks/train}
  val: {images: images/val, masks: masks/val}
classes:
  - {name: background, color: [0, 0, 0]}
  - {name: thing, color: [230, 120, 30]}
"""
PALETTE = [200, 30, 30, 30, 200, 30]
COUNTS = {"train": 6, "val": 3}
CHOICES = {"data.mean": "auto", "data.std": "auto", "train.epochs": 1, "train.samples": 1}


def palette_png(path, classes):
    image = Image.fromarray(classes, "L").convert("P")
    image.putdata(classes.ravel().tolist())
    image.putpalette(PALETTE)
    image.save(path.with_suffix(".png"))


def colour_png(path, classes):
    colors = np.array([[10, 20, 30], [128, 64, 0]], np.uint8)
    Image.fromarray(colors[classes]).save(path.with_suffix(".png"))


def grey_png(path, classes):
    Image.fromarray(classes).save(path.with_suffix(".png"))


def black_and_white_png(path, classes):
    Image.fromarray(255 * classes).save(path.with_suffix(".png"))


def deep_png(path, classes):
    cv2.imwrite(str(path.with_suffix(".png")), 1000 + classes.astype(np.uint16))


def tiff(path, classes):
    tifffile.imwrite(path.with_suffix(".tif"), classes)


def npy(path, classes):
    np.save(path.with_suffix(".npy"), classes.astype(np.int64))


def image_tiff(path, image):
    tifffile.imwrite(path.with_suffix(".tif"), image, photometric="rgb")


def image_webp(path, image):
    Image.fromarray(image).save(path.with_suffix(".webp"), lossless=True)


def image_jpeg(path, image):
    Image.fromarray(image).save(path.with_suffix(".jpg"), quality=90)


def image_npy(path, image):
    np.save(path.with_suffix(".npy"), image)


PLAIN = "label_map: {0: background, 1: thing}\n"
# how masks are written -> what the card says of it
MASKS = {
    grey_png: PLAIN,
    palette_png: PLAIN,
    colour_png: "label_map: {10 20 30: background, 128 64 0: thing}\n",
    black_and_white_png: "label_map: {0: background, 255: thing}\n",
    deep_png: "label_map: {1000: background, 1001: thing}\n",
    tiff: PLAIN,
    npy: PLAIN,
}
IMAGES = [grey_png, image_tiff, image_webp, image_npy]  # each holds the same pixels


@pytest.fixture
def leaves(tmp_path):
    """Write images and masks in any encoding, and the card."""

    def write(write_mask=grey_png, label_map=PLAIN, write_image=grey_png, channels=3):
        rng = np.random.default_rng(0)
        for split, count in COUNTS.items():
            for kind in ("images", "masks"):
                (tmp_path / "leaves" / kind / split).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                classes = np.zeros((40, 48), np.uint8)
                top, left = rng.integers(2, 24, 2)
                classes[top : top + 14, left : left + 20] = 1
                image = 60 + 120 * classes[..., None] + rng.integers(0, 40, (40, 48, channels))
                name = f"{split}_{index}.x"
                write_image(tmp_path / "leaves/images" / split / name, image.astype(np.uint8))
                write_mask(tmp_path / "leaves/masks" / split / name, classes)
        card = tmp_path / "leaves.yaml"
        card.write_text(CARD + label_map)
        return card

    return write


def scores(run):
    (row,) = csv.DictReader((run / "metrics.csv").open())
    return row


@pytest.fixture
def use(check, browse, train, evaluate, tiny_config, tmp_path):
    """Check, browse, train and judge as a user would; gives what metrics.csv says."""

    def run(card, name="run", **settings):
        run = tmp_path / name
        config = tiny_config({**CHOICES, "data.card": str(card), "run_dir": str(run), **settings})
        assert check(card) == 0
        assert check(config) == 0
        assert browse(config, "--out", tmp_path / "sheet.png", "--count", 3) == 0
        assert train(config) == 0
        assert evaluate(run, "--json", tmp_path / "scores.json") == 0
        judged = json.loads((tmp_path / "scores.json").read_text())["scores"]
        assert judged["miou"] == pytest.approx(float(scores(run)["miou"]))
        return scores(run)

    return run


@pytest.mark.slow
def test_every_encoding_is_learned_alike(leaves, use, tmp_path):
    found = {}
    for index, (write_mask, label_map) in enumerate(MASKS.items()):
        for path in tmp_path.glob("leaves/*/*/*"):
            path.unlink()
        card = leaves(write_mask, label_map, IMAGES[index % len(IMAGES)])
        assert len(card.read_text().splitlines()) <= 10
        name = write_mask.__name__
        found[name] = use(card, name)
    assert all(found[name] == found["grey_png"] for name in found)
    assert float(found["grey_png"]["miou"]) > 0


def test_jpegs_will_do(leaves, use):
    use(leaves(write_image=image_jpeg))


def test_a_value_the_card_does_not_name_stops_before_the_first_step(
    leaves, train, check, tiny_config, tmp_path, capsys
):
    card = leaves(black_and_white_png, PLAIN)
    config = tiny_config({**CHOICES, "data.card": str(card)})
    assert train(config) == 2
    err = capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    first = tmp_path / "leaves/masks/train/train_0.png"
    share = (np.array(Image.open(first)) == 255).mean()
    assert f"{first}: " in err
    assert f"255 ({share:.1%} of the pixels)" in err
    pasted = re.search(r"label_map: \{.*?\}", err)[0]
    assert yaml.safe_load(pasted) == {"label_map": {0: "background", 255: "thing"}}
    card.write_text(CARD + pasted)
    assert check(card) == 0
    assert train(config) == 0


@pytest.mark.parametrize("classes", ["classes: [background, thing]\n", ""])
def test_a_first_card_needs_no_map_nor_colours(
    classes, leaves, check, train, browse, tiny_config, capsys
):
    card = leaves(black_and_white_png, "")
    start = CARD[: CARD.index("classes:")] + classes
    card.write_text(start)
    config = tiny_config({**CHOICES, "data.card": str(card)})
    for tool, source in ((check, card), (check, config), (train, config), (browse, config)):
        assert tool(source) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {card}: ")
        assert "label_map: {0: background, 255: thing}\n" in err
    pasted = re.findall(r"^(?:classes|label_map): .*$", err, re.MULTILINE)
    card.write_text("\n".join([start, *pasted]))
    assert check(card) == 0
    assert "230 159 0" in capsys.readouterr().out  # the colour that the second class was given
    assert train(config) == 0


def test_four_channels_are_normalised_by_their_own_statistics(leaves, use, tmp_path, capsys):
    def four(path, image):
        tifffile.imwrite(path.with_suffix(".tif"), image, photometric="rgb", extrasamples=[0])

    use(leaves(write_image=four, channels=4), **{"model.in_channels": 4})
    files = sorted((tmp_path / "leaves/images/train").iterdir())
    shares = np.stack([tifffile.imread(path) for path in files]).reshape(-1, 4) / 255
    computed = json.loads((tmp_path / "run/env.json").read_text())["statistics"]
    np.testing.assert_allclose(computed["mean"], shares.mean(0), rtol=1e-5)
    np.testing.assert_allclose(computed["std"], shares.std(0), rtol=1e-5)
    printed = ", ".join(f"{number:.4g}" for number in computed["mean"])
    assert re.search(rf"mean +{re.escape(printed)}\n", capsys.readouterr().out)


def test_class_weights_are_printed_and_stored_as_numbers(
    leaves, train, tiny_config, tmp_path, capsys
):
    choices = {**CHOICES, "data.card": str(leaves())}
    config = tiny_config({**choices, "train.loss": {"class_weights": "median_frequency"}})
    assert train(config) == 0
    masks = [np.array(Image.open(p)) for p in (tmp_path / "leaves/masks/train").iterdir()]
    share = np.mean(masks)  # all masks are of one size and hold both classes
    expected = 0.5 / np.array([1 - share, share])
    computed = json.loads((tmp_path / "run/env.json").read_text())["statistics"]
    np.testing.assert_allclose(computed["class_weights"], expected, rtol=1e-5)
    background, thing = (f"{weight:.4g}" for weight in expected)
    assert f"background {background}, thing {thing}\n" in capsys.readouterr().out


def test_class_weights_of_another_length_are_refused(leaves, train, tiny_config, capsys):
    choices = {**CHOICES, "data.card": str(leaves())}
    assert train(tiny_config({**choices, "train.loss": {"class_weights": [1, 2, 3]}})) == 2
    err = capsys.readouterr().err
    assert "class_weights has 3" in err
    assert "2 classes: background, thing" in err


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_a_cache_in_memory_changes_no_score(workers, leaves, train, tiny_config, tmp_path):
    augment = [{"RandomCrop": {"height": 32, "width": 32}}, {"HorizontalFlip": {}}]
    choices = {**CHOICES, "data.card": str(leaves()), "data.train_transforms": augment}
    found = []
    for cache in ("none", "ram"):
        run = tmp_path / cache
        settings = {"data.cache": cache, "data.workers": workers, "train.epochs": 3}
        assert train(tiny_config({**choices, **settings, "run_dir": str(run)})) == 0
        found.append((run / "metrics.csv").read_text())
    assert found[0] == found[1]
