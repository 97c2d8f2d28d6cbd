"""Class weights, mean and deviation of a split, against NumPy over its files."""

import os

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from segkit.config import load_config
from segkit.data.card import load_card
from segkit.data.reader import SampleReader
from segkit.data.statistics import (
    Statistics,
    channel_statistics,
    class_weights,
    compute_statistics,
    count_classes,
    statistics_lines,
)
from segkit.errors import UserError

NAMES = ("ground", "box", "bar")


@pytest.fixture
def compute(tiny_set, tiny_config):
    """Compute the tiny experiment's statistics with overrides; `card` changes its card's file."""

    def call(overrides, card=None):
        if card:
            written = yaml.safe_load(tiny_set.card.read_text())
            tiny_set.card.write_text(yaml.safe_dump(written | card))
        config = load_config(tiny_config(overrides))
        return compute_statistics(config, open_train(config))

    return call


KINDS = ["median_frequency", "sqrt_median_frequency", "inverse_frequency"]


def open_train(config):
    card = load_card(config.data.card)
    return SampleReader(card, config.data.train_split, config.model.in_channels)


def class_masks(root, split="train"):
    """Read masks as class indices, void as 255."""
    for path in sorted((root / split / "masks").iterdir()):
        raw = np.array(Image.open(path))
        yield np.select([raw == 0, raw == 10, raw == 20], [0, 1, 2], 255)


def weights_of(kind, masks, classes=3):
    """Weigh as the papers have it, image by image."""
    masks = list(masks)
    pixels = np.array([sum((m == c).sum() for m in masks) for c in range(classes)], float)
    around = np.array([sum((m != 255).sum() for m in masks if c in m) for c in range(classes)])
    present = pixels > 0
    weights = np.zeros(classes)
    if kind.endswith("median_frequency"):
        frequency = pixels[present] / around[present]
        weights[present] = np.median(frequency) / frequency
        if kind.startswith("sqrt"):
            weights **= 0.5
    else:
        weights[present] = pixels[present].mean() / pixels[present]
    return weights


def uneven(tiny_set, without=()):
    """Take classes out of some masks, so that not each is in every image."""
    for index, raw in ((0, 10), (1, 10), (2, 20), *((i, raw) for i in range(6) for raw in without)):
        path = tiny_set.root / f"train/masks/train_{index}.png"
        mask = np.array(Image.open(path))
        mask[mask == raw] = 99 if raw in without else 0
        Image.fromarray(mask).save(path)


# Class weights


@pytest.mark.parametrize("kind", KINDS)
def test_class_weights_equal_numpy(tiny_set, compute, kind):
    uneven(tiny_set)
    weights = compute({"train.loss": {"class_weights": kind}}).class_weights
    expected = weights_of(kind, class_masks(tiny_set.root))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert len({round(w, 3) for w in weights}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_does_not_occur_weighs_nothing(tiny_set, compute, kind):
    uneven(tiny_set, without=(20,))
    weights = compute({"train.loss": {"class_weights": kind}}).class_weights
    assert weights[2] == 0
    np.testing.assert_allclose(weights, weights_of(kind, class_masks(tiny_set.root)), rtol=1e-5)


def test_the_two_kinds_differ_where_classes_are_not_everywhere(tiny_set):
    uneven(tiny_set)
    counts = count_classes(SampleReader(load_card(tiny_set.card), "train"))
    median, inverse = (class_weights(f"{k}_frequency", counts) for k in ("median", "inverse"))
    ratio = np.divide(median, inverse)
    assert not np.allclose(ratio, ratio[0], rtol=0.05)


def test_the_training_split_is_what_counts(tiny_set, compute):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(tiny_set.root / "val/masks/val_0.png")
    overrides = {"data.train_split": "val", "train.loss": {"class_weights": "inverse_frequency"}}
    weights = compute(overrides).class_weights
    expected = weights_of("inverse_frequency", class_masks(tiny_set.root, "val"))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
def test_a_wrong_number_of_weights_names_the_classes(compute, weights):
    with pytest.raises(UserError) as error:
        compute({"train.loss": {"class_weights": weights}})
    for part in (f"has {len(weights)} numbers", "'tiny' has 3 classes", "ground, box, bar"):
        assert part in str(error.value)


# Mean and deviation


def assert_channels(statistics, images):
    """Compare with all pixels at once, as shares of white."""
    pixels = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
    np.testing.assert_allclose(statistics.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, pixels.std(0), rtol=1e-5)


AUTO = {"data.mean": "auto", "data.std": "auto"}


def test_mean_and_deviation_of_8_bit_images(tiny_set, compute):
    path = tiny_set.root / "train/images/train_0.png"
    Image.open(path).resize((96, 80)).save(path)  # pixels count, not images
    images = sorted((tiny_set.root / "train/images").iterdir())
    assert_channels(compute(AUTO), [np.array(Image.open(path)) / 255 for path in images])


def test_mean_and_deviation_of_16_bit_images(tiny_set, compute):
    rng = np.random.default_rng(0)
    deep = rng.integers(900, 4096, (6, 40, 48, 3), dtype=np.uint16)
    for index, image in enumerate(deep):
        path = tiny_set.root / f"train/images/train_{index}.png"
        cv2.imwrite(str(path), image[..., ::-1])
    assert_channels(compute(AUTO, {"image_max": 4095}), deep / 4095)


@pytest.mark.parametrize("channels", [1, 5])
def test_mean_and_deviation_of_other_channels(tiny_set, compute, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 48, channels), dtype=np.uint8)
    for index, image in enumerate(images):
        (tiny_set.root / f"train/images/train_{index}.png").unlink()
        np.save(tiny_set.root / f"train/images/train_{index}.npy", image)
    statistics = compute({**AUTO, "model.in_channels": channels})
    assert len(statistics.mean) == len(statistics.std) == channels
    assert_channels(statistics, images / 255)


def test_a_channel_of_one_value_is_refused(tiny_set, compute):
    for path in (tiny_set.root / "train/images").iterdir():
        pixels = np.array(Image.open(path))
        pixels[..., 1] = 7
        Image.fromarray(pixels).save(path)
    with pytest.raises(UserError, match=r"data\.std: auto: channel 1 has one value .*'train'"):
        compute(AUTO)


def test_channels_are_remembered_until_a_file_changes(tiny_set):
    reader = SampleReader(load_card(tiny_set.card), "train")
    first = channel_statistics(reader)
    path = tiny_set.root / "train/images/train_4.png"
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert channel_statistics(reader) == first
    os.utime(path)
    with pytest.raises(UserError, match=r"train_4\.png: cannot be read"):
        channel_statistics(reader)


# What is given stays


def test_given_numbers_are_left_alone_and_no_file_is_read(tiny_set, tiny_config):
    loss = {"class_weights": [1.0, 0.0, 2.5]}
    overrides = {"data.mean": [0.1, 0.2, 0.3], "data.std": [1.0, 2.0, 3.0], "train.loss": loss}
    config = load_config(tiny_config(overrides))
    for path in tiny_set.root.rglob("*.png"):
        path.write_bytes(b"")
    expected = Statistics((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (1.0, 0.0, 2.5))
    assert compute_statistics(config, open_train(config)) == expected
    defaults = load_config(tiny_config())
    imagenet = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), None)
    assert compute_statistics(defaults, open_train(defaults)) == imagenet


@pytest.mark.parametrize("key", ["mean", "std"])
def test_one_may_be_given_and_the_other_computed(compute, key):
    both = compute(AUTO)
    given = compute({**AUTO, f"data.{key}": [0.5, 0.6, 0.7]})
    other = {"mean": "std", "std": "mean"}[key]
    assert getattr(given, key) == (0.5, 0.6, 0.7)
    assert getattr(given, other) == getattr(both, other)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"data.mean": [0.5]}, "data.mean has 1 numbers and data.std 3, but"),
        ({"data.std": [1.0] * 4}, "data.mean has 3 numbers and data.std 4, but"),
        ({"data.mean": "auto", "data.std": [1.0]}, "data.mean has 3 numbers and data.std 1, but"),
    ],
)
def test_there_is_one_number_a_channel(compute, given, sentence):
    with pytest.raises(UserError) as error:
        compute(given)
    assert f"{sentence} model.in_channels is 3; give one a channel" in str(error.value)


def test_what_was_computed_or_given_is_told(tiny_set, tiny_config):
    overrides = {**AUTO, "train.loss": {"class_weights": "inverse_frequency"}}
    config = load_config(tiny_config(overrides))
    statistics = compute_statistics(config, open_train(config))
    lines = statistics_lines(config, statistics, NAMES)
    assert [line.split()[0] for line in lines] == ["mean", "std", "weights"]
    for name, weight in zip(NAMES, statistics.class_weights, strict=True):
        assert f"{name} {weight:.4g}" in lines[2]
    given = {"data.mean": list(statistics.mean), "data.std": list(statistics.std)}
    config = load_config(tiny_config({**given, "train.loss": overrides["train.loss"]}))
    assert statistics_lines(config, statistics, NAMES) == lines
    plain = load_config(tiny_config())
    assert statistics_lines(plain, compute_statistics(plain, open_train(plain)), NAMES) == []
