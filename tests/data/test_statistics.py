"""Class weights, mean and deviation of a split, against NumPy over its files."""

import os

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from segkit.config import load_config
from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset
from segkit.data.statistics import (
    channel_statistics,
    class_weights,
    resolve_statistics,
    statistics_lines,
)
from segkit.data.survey import survey
from segkit.errors import UserError

NAMES = ("ground", "box", "bar")


@pytest.fixture
def resolve(tiny_set, tiny_config):
    """Load the tiny experiment with overrides and resolve it; `card` changes its card's file."""

    def call(overrides, card=None):
        if card:
            written = yaml.safe_load(tiny_set.card.read_text())
            tiny_set.card.write_text(yaml.safe_dump(written | card))
        config = load_config(tiny_config(overrides))
        return resolve_statistics(config, load_card(config.data.card))

    return call


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
    if kind == "median_frequency":
        frequency = pixels[present] / around[present]
        weights[present] = np.median(frequency) / frequency
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


@pytest.mark.parametrize("kind", ["median_frequency", "inverse_frequency"])
def test_class_weights_equal_numpy(tiny_set, resolve, kind):
    uneven(tiny_set)
    weights = resolve({"train.loss": {"class_weights": kind}}).train.loss.class_weights
    expected = weights_of(kind, class_masks(tiny_set.root))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert len({round(w, 3) for w in weights}) == 3


@pytest.mark.parametrize("kind", ["median_frequency", "inverse_frequency"])
def test_a_class_that_does_not_occur_weighs_nothing(tiny_set, resolve, kind):
    uneven(tiny_set, without=(20,))
    weights = resolve({"train.loss": {"class_weights": kind}}).train.loss.class_weights
    assert weights[2] == 0
    np.testing.assert_allclose(weights, weights_of(kind, class_masks(tiny_set.root)), rtol=1e-5)


def test_the_two_kinds_differ_where_classes_are_not_everywhere(tiny_set):
    uneven(tiny_set)
    counts = survey(SegmentationDataset(load_card(tiny_set.card), "train"))
    median, inverse = (class_weights(f"{k}_frequency", counts) for k in ("median", "inverse"))
    ratio = np.divide(median, inverse)
    assert not np.allclose(ratio, ratio[0], rtol=0.05)


def test_the_training_split_is_what_counts(tiny_set, resolve):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(tiny_set.root / "val/masks/val_0.png")
    overrides = {"data.train_split": "val", "train.loss": {"class_weights": "inverse_frequency"}}
    weights = resolve(overrides).train.loss.class_weights
    expected = weights_of("inverse_frequency", class_masks(tiny_set.root, "val"))
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
def test_a_wrong_number_of_weights_names_the_classes(resolve, weights):
    with pytest.raises(UserError) as error:
        resolve({"train.loss": {"class_weights": weights}})
    for part in (f"has {len(weights)} numbers", "'tiny' has 3 classes", "ground, box, bar"):
        assert part in str(error.value)


# Mean and deviation


def assert_channels(resolved, images):
    """Compare with all pixels at once, as shares of white."""
    pixels = np.concatenate([image.reshape(-1, image.shape[-1]) for image in images])
    np.testing.assert_allclose(resolved.data.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(resolved.data.std, pixels.std(0), rtol=1e-5)


AUTO = {"data.mean": "auto", "data.std": "auto"}


def test_mean_and_deviation_of_8_bit_images(tiny_set, resolve):
    path = tiny_set.root / "train/images/train_0.png"
    Image.open(path).resize((96, 80)).save(path)  # pixels count, not images
    images = sorted((tiny_set.root / "train/images").iterdir())
    assert_channels(resolve(AUTO), [np.array(Image.open(path)) / 255 for path in images])


def test_mean_and_deviation_of_16_bit_images(tiny_set, resolve):
    rng = np.random.default_rng(0)
    deep = rng.integers(900, 4096, (6, 40, 48, 3), dtype=np.uint16)
    for index, image in enumerate(deep):
        path = tiny_set.root / f"train/images/train_{index}.png"
        cv2.imwrite(str(path), image[..., ::-1])
    assert_channels(resolve(AUTO, {"image_max": 4095}), deep / 4095)


@pytest.mark.parametrize("channels", [1, 5])
def test_mean_and_deviation_of_other_channels(tiny_set, resolve, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 48, channels), dtype=np.uint8)
    for index, image in enumerate(images):
        (tiny_set.root / f"train/images/train_{index}.png").unlink()
        np.save(tiny_set.root / f"train/images/train_{index}.npy", image)
    resolved = resolve({**AUTO, "model.in_channels": channels})
    assert len(resolved.data.mean) == len(resolved.data.std) == channels
    assert_channels(resolved, images / 255)


def test_a_channel_of_one_value_is_refused(tiny_set, resolve):
    for path in (tiny_set.root / "train/images").iterdir():
        pixels = np.array(Image.open(path))
        pixels[..., 1] = 7
        Image.fromarray(pixels).save(path)
    with pytest.raises(UserError, match=r"data\.std: auto: channel 1 has one value .*'train'"):
        resolve(AUTO)


def test_channels_are_remembered_until_a_file_changes(tiny_set):
    dataset = SegmentationDataset(load_card(tiny_set.card), "train")
    first = channel_statistics(dataset)
    path = tiny_set.root / "train/images/train_4.png"
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert channel_statistics(dataset) == first
    os.utime(path)
    with pytest.raises(UserError, match=r"train_4\.png: cannot be read"):
        channel_statistics(dataset)


# What is given stays


def test_given_numbers_are_left_alone_and_no_file_is_read(tiny_set, tiny_config):
    loss = {"class_weights": [1.0, 0.0, 2.5]}
    overrides = {"data.mean": [0.1, 0.2, 0.3], "data.std": [1.0, 2.0, 3.0], "train.loss": loss}
    config = load_config(tiny_config(overrides))
    for path in tiny_set.root.rglob("*.png"):
        path.write_bytes(b"")
    assert resolve_statistics(config, load_card(tiny_set.card)) == config
    defaults = load_config(tiny_config())
    assert resolve_statistics(defaults, load_card(tiny_set.card)) == defaults


@pytest.mark.parametrize("key", ["mean", "std"])
def test_one_may_be_given_and_the_other_computed(resolve, key):
    both = resolve(AUTO)
    given = resolve({**AUTO, f"data.{key}": [0.5, 0.6, 0.7]})
    other = {"mean": "std", "std": "mean"}[key]
    assert getattr(given.data, key) == (0.5, 0.6, 0.7)
    assert getattr(given.data, other) == getattr(both.data, other)


def test_a_resolved_config_is_as_good_as_a_written_one(resolve):
    asked = {**AUTO, "train.loss": {"class_weights": "median_frequency"}}
    resolved = resolve(asked)
    assert type(resolved).model_validate(resolved.model_dump()) == resolved


def test_what_was_computed_is_told(tiny_set, tiny_config):
    overrides = {**AUTO, "train.loss": {"class_weights": "inverse_frequency"}}
    asked, card = load_config(tiny_config(overrides)), load_card(tiny_set.card)
    resolved = resolve_statistics(asked, card)
    lines = statistics_lines(asked, resolved, card)
    assert [line.split()[0] for line in lines] == ["mean", "std", "weights"]
    for name, weight in zip(NAMES, resolved.train.loss.class_weights, strict=True):
        assert f"{name} {weight:.4g}" in lines[2]
    assert statistics_lines(resolved, resolved, card) == lines[2:]
    plain = load_config(tiny_config())
    assert statistics_lines(plain, plain, card) == []
