"""A split on disk as samples, against Pillow and the card's own words."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset
from segkit.data.survey import survey
from segkit.errors import UserError


def set_mask(root, name, mask, split="train"):
    Image.fromarray(mask).save(root / split / "masks" / f"{name}.png")


def test_samples_are_the_files_with_labels_mapped(tiny_set):
    written = yaml.safe_load(tiny_set.card.read_text())
    names = [entry["name"] for entry in written["classes"]]
    dataset = SegmentationDataset(load_card(tiny_set.card), "train")
    assert len(dataset) == 6
    for index in range(6):
        sample = dataset[index]
        assert sample.name == f"train_{index}"
        image = np.array(Image.open(tiny_set.root / "train/images" / f"{sample.name}.png"))
        raw = np.array(Image.open(tiny_set.root / "train/masks" / f"{sample.name}.png"))
        assert sample.image.dtype == sample.mask.dtype == torch.uint8
        assert sample.image.shape == (3, 40, 48)
        assert np.array_equal(sample.image.permute(1, 2, 0), image)
        assert set(np.unique(raw)) == {0, 10, 20, 99}
        for value, name in written["label_map"].items():
            label = 255 if name == "ignore" else names.index(name)
            assert (sample.mask.numpy()[raw == value] == label).all()
        assert sample.image.is_contiguous() or sample.image.stride() == (1, 144, 3)


def test_the_epoch_gives_another_augmentation_and_the_plain_index_is_epoch_0(tiny_set):
    chain = [{"RandomCrop": {"height": 20, "width": 20}}]
    dataset = SegmentationDataset(load_card(tiny_set.card), "train", chain)
    images = [dataset[epoch, 2].image for epoch in range(6)]
    assert torch.equal(images[0], dataset[2].image)
    assert sum(torch.equal(images[0], other) for other in images[1:]) <= 1


def test_the_seed_gives_another_augmentation(tiny_set):
    chain = [{"RandomCrop": {"height": 20, "width": 20}}]
    card = load_card(tiny_set.card)
    images = [SegmentationDataset(card, "train", chain, seed=s)[2].image for s in range(6)]
    assert sum(torch.equal(images[0], other) for other in images[1:]) <= 1


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels(tiny_set, channels):
    rng = np.random.default_rng(0)
    for index in range(3):
        (tiny_set.root / f"val/images/val_{index}.png").unlink()
        bands = rng.integers(0, 256, (40, 48, channels), dtype=np.uint8)
        np.save(tiny_set.root / f"val/images/val_{index}.npy", bands)
    dataset = SegmentationDataset(
        load_card(tiny_set.card), "val", [{"Rotate": {"limit": [40, 50], "p": 1.0}}],
        channels=channels, mean=[0.2] * channels,
    )  # fmt: skip
    sample = dataset[0]
    assert sample.image.shape == (channels, 40, 48)
    assert (sample.image[:, 0, 0] == round(0.2 * 255)).all()
    assert sample.mask[0, 0] == 255


def test_deep_images_come_as_floats_in_the_colour_of_padding_too(tiny_set):
    deep = np.full((40, 48), 3000, np.uint16)
    for index in range(3):
        Image.fromarray(deep).save(tiny_set.root / f"val/images/val_{index}.png")
    card = load_card(tiny_set.card).model_copy(update={"image_max": 4000.0})
    chain = [{"PadIfNeeded": {"min_height": 60, "min_width": 60}}]
    sample = SegmentationDataset(card, "val", chain, channels=1, mean=[0.25])[0]
    assert sample.image.dtype == torch.float32
    assert torch.equal(sample.image[0, 20:40, 20:40], torch.full((20, 20), 0.75))
    assert sample.image[0, 0, 0] == 0.25


def test_wrong_channels_name_file_and_remedy(tiny_set):
    np.save(tiny_set.root / "val/images/val_0.npy", np.zeros((40, 48, 5), np.uint8))
    (tiny_set.root / "val/images/val_0.png").unlink()
    dataset = SegmentationDataset(load_card(tiny_set.card), "val")
    with pytest.raises(UserError, match=r"val_0\.npy: has 5 channels.*model\.in_channels=5"):
        dataset[0]


def test_reading_a_sample_finds_the_same_problems(tiny_set):
    set_mask(tiny_set.root, "train_0", np.zeros((48, 40), np.uint8))
    set_mask(tiny_set.root, "train_1", np.full((40, 48), 77, np.uint8))
    dataset = SegmentationDataset(load_card(tiny_set.card), "train")
    with pytest.raises(UserError, match=r"train_0\.png is 40x48 .* is 48x40"):
        dataset[0]
    with pytest.raises(UserError, match=r"train_1\.png.*77"):
        dataset[1]


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ([{"RandomCrop": {"height": 64, "width": 64}}], "(64, 64) vs (40, 48)"),
        ([{"BBoxSafeRandomCrop": {"p": 1.0}}], "bboxes"),
    ],
    ids=["crop larger than the image", "needs boxes"],
)
def test_a_transform_that_an_image_cannot_go_through_names_both(tiny_set, chain, reason):
    dataset = SegmentationDataset(
        load_card(tiny_set.card), "train", chain, where="data.train_transforms"
    )
    with pytest.raises(UserError) as error:
        dataset[0]
    for part in ("train_0.png is 40x48", "data.train_transforms", reason, "pad_if_needed: true"):
        assert part in str(error.value)


def test_the_exif_rotation_counts_in_the_size_check(tiny_set):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tiny_set.root / "train/images/train_0.png", exif=exif)
    dataset = SegmentationDataset(load_card(tiny_set.card), "train")
    survey(dataset)
    assert np.array_equal(dataset[0].image.permute(1, 2, 0), np.rot90(image, -1))


def test_unknown_splits_and_transforms_come_first(tiny_set):
    card = load_card(tiny_set.card)
    with pytest.raises(UserError, match=r"unknown split 'test'.*Known: train, val"):
        SegmentationDataset(card, "test")
    gone = card.model_copy(update={"root": "/nowhere"})
    with pytest.raises(UserError, match=r"data\.eval_transforms\[0\].*'Rotat'"):
        SegmentationDataset(gone, "train", [{"Rotat": None}], where="data.eval_transforms")


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_camvid_reads(split, count, shared):
    card = load_card(Path(__file__).parents[2] / "datasets/camvid.yaml", shared / "data/camvid")
    dataset = SegmentationDataset(card, split)
    assert len(dataset) == count
    sample = dataset[count // 2]
    assert sample.image.shape == (3, 360, 480)
    raw = np.array(Image.open(shared / f"data/camvid/{split}annot/{sample.name}.png"))
    assert np.array_equal(sample.mask.numpy(), np.where(raw == 11, 255, raw))
