"""A split on disk as samples, against Pillow and the card's own words."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset, as_sample
from segkit.data.reader import SampleReader
from segkit.data.statistics import count_classes
from segkit.errors import UserError


def open_split(tiny_set, split="train", transforms=(), channels=3, changes=(), **options):
    card = load_card(tiny_set.card).model_copy(update=dict(changes))
    return SegmentationDataset(SampleReader(card, split, channels), transforms, **options)


def set_mask(root, name, mask, split="train"):
    Image.fromarray(mask).save(root / split / "masks" / f"{name}.png")


def test_samples_are_the_files_with_labels_mapped(tiny_set):
    written = yaml.safe_load(tiny_set.card.read_text())
    names = [entry["name"] for entry in written["classes"]]
    dataset = open_split(tiny_set)
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
    dataset = open_split(tiny_set, "train", chain)
    images = [dataset.sample(2, epoch).image for epoch in range(6)]
    assert torch.equal(images[0], dataset[2].image)
    assert sum(torch.equal(images[0], other) for other in images[1:]) <= 1


def test_the_seed_gives_another_augmentation(tiny_set):
    chain = [{"RandomCrop": {"height": 20, "width": 20}}]
    images = [open_split(tiny_set, "train", chain, seed=s)[2].image for s in range(6)]
    assert sum(torch.equal(images[0], other) for other in images[1:]) <= 1


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels(tiny_set, channels):
    rng = np.random.default_rng(0)
    for index in range(3):
        (tiny_set.root / f"val/images/val_{index}.png").unlink()
        bands = rng.integers(0, 256, (40, 48, channels), dtype=np.uint8)
        np.save(tiny_set.root / f"val/images/val_{index}.npy", bands)
    rotate = [{"Rotate": {"limit": [40, 50], "p": 1.0}}]
    dataset = open_split(tiny_set, "val", rotate, channels, mean=[0.2] * channels)
    sample = dataset[0]
    assert sample.image.shape == (channels, 40, 48)
    assert (sample.image[:, 0, 0] == round(0.2 * 255)).all()
    assert sample.mask[0, 0] == 255


def test_deep_images_come_as_floats_in_the_colour_of_padding_too(tiny_set):
    deep = np.full((40, 48), 3000, np.uint16)
    for index in range(3):
        Image.fromarray(deep).save(tiny_set.root / f"val/images/val_{index}.png")
    chain = [{"PadIfNeeded": {"min_height": 60, "min_width": 60}}]
    sample = open_split(tiny_set, "val", chain, 1, {"image_max": 4000.0}, mean=[0.25])[0]
    assert sample.image.dtype == torch.float32
    assert torch.equal(sample.image[0, 20:40, 20:40], torch.full((20, 20), 0.75))
    assert sample.image[0, 0, 0] == 0.25


def test_wrong_channels_name_file_and_remedy(tiny_set):
    np.save(tiny_set.root / "val/images/val_0.npy", np.zeros((40, 48, 5), np.uint8))
    (tiny_set.root / "val/images/val_0.png").unlink()
    dataset = open_split(tiny_set, "val")
    with pytest.raises(UserError, match=r"val_0\.npy: has 5 channels.*model\.in_channels=5"):
        dataset[0]


def test_reading_a_sample_finds_the_same_problems(tiny_set):
    set_mask(tiny_set.root, "train_0", np.zeros((48, 40), np.uint8))
    set_mask(tiny_set.root, "train_1", np.full((40, 48), 77, np.uint8))
    dataset = open_split(tiny_set)
    with pytest.raises(UserError, match=r"train_0\.png is 40x48 .* is 48x40"):
        dataset[0]
    with pytest.raises(UserError, match=r"train_1\.png.*77"):
        dataset[1]


CROP = {"RandomCrop": {"height": 64, "width": 64}}


@pytest.mark.parametrize(
    ("chain", "name", "reason", "remedy"),
    [
        ([CROP], "RandomCrop", "(64, 64) vs (40, 48)", "pad_if_needed: true"),
        ([{"BBoxSafeRandomCrop": {"p": 1.0}}], "BBoxSafeRandomCrop", "'bboxes'", "leave "),
        (
            [{"NoOp": None}, {"OneOf": {"transforms": [CROP], "p": 1.0}}],
            "RandomCrop",
            "(64, 64) vs (40, 48)",
            "pad_if_needed: true",
        ),
    ],
    ids=["crop larger than the image", "needs boxes", "nested"],
)
def test_a_transform_that_an_image_cannot_go_through_names_both(
    tiny_set, chain, name, reason, remedy
):
    dataset = open_split(tiny_set, "train", chain, where="data.train_transforms")
    with pytest.raises(UserError) as error:
        dataset[0]
    text = str(error.value)
    assert text.startswith(f"data.train_transforms: {name} cannot transform ")
    for part in ("train_0.png, 40x48 (H x W) with 3 channels: ", reason, remedy):
        assert part in text


@pytest.mark.parametrize("name", ["ColorJitter", "HueSaturationValue", "RGBShift", "RandomFog"])
def test_a_transform_of_colours_on_six_channels_is_no_crop_that_fails(tiny_set, name):
    for file in (tiny_set.root / "train/images").iterdir():
        file.unlink()
        np.save(file.with_suffix(".npy"), np.zeros((40, 48, 6), np.uint8))
    reader = SampleReader(load_card(tiny_set.card), "train", channels=6)
    chain = [{"HorizontalFlip": None}, {name: {"p": 1.0}}]
    dataset = SegmentationDataset(reader, chain, mean=[0.5] * 6, where="data.train_transforms")
    with pytest.raises(UserError, match=f"{name} cannot transform .*npy.* 6 channels") as error:
        dataset[0]
    assert str(error.value).endswith(f"leave {name} out")
    assert "crop" not in str(error.value)
    assert "pad_if_needed" not in str(error.value)


def test_the_exif_rotation_counts_in_the_size_check(tiny_set):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tiny_set.root / "train/images/train_0.png", exif=exif)
    dataset = open_split(tiny_set)
    count_classes(dataset.reader)
    assert np.array_equal(dataset[0].image.permute(1, 2, 0), np.rot90(image, -1))


def test_unknown_splits_and_transforms_are_refused(tiny_set):
    with pytest.raises(UserError, match=r"unknown split 'test'.*Known: train, val"):
        open_split(tiny_set, "test")
    with pytest.raises(UserError, match=r"data\.eval_transforms\[0\].*'Rotat'"):
        open_split(tiny_set, "train", [{"Rotat": None}], where="data.eval_transforms")


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_repeated_images_are_augmented_differently(tiny_set, cache):
    reader = SampleReader(load_card(tiny_set.card), "train", cache=cache)
    chain = [{"RandomCrop": {"height": 8, "width": 8}}]
    dataset = SegmentationDataset(reader, chain, repeat=3)
    samples = list(dataset)
    assert len(samples) == len(dataset) == 18
    names = [f"train_{number}" for number in range(6)]
    assert [sample.name for sample in samples] == names * 3
    plain = SegmentationDataset(reader, chain)
    assert all(torch.equal(plain[i].image, samples[i].image) for i in range(6))
    for number in range(6):
        image = np.array(Image.open(tiny_set.root / f"train/images/train_{number}.png"))
        crops = [sample.image.permute(1, 2, 0).numpy() for sample in samples[number::6]]
        assert len({crop.tobytes() for crop in crops}) > 1
        windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8, 3))[:, :, 0]
        assert all((windows == crop).all((2, 3, 4)).any() for crop in crops)


# What a user's own dataset may return

MASK = np.arange(6, dtype=np.int64).reshape(2, 3)
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize(
    "image",
    [PIXELS, Image.fromarray(PIXELS), torch.from_numpy(PIXELS).permute(2, 0, 1)],
    ids=["array", "PIL", "tensor"],
)
@pytest.mark.parametrize(
    "mask",
    [
        *(MASK.astype(t) for t in (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64)),
        torch.from_numpy(MASK),
        Image.fromarray(MASK.astype(np.uint8)),
    ],
)
def test_images_and_masks_of_any_kind_become_a_sample(image, mask):
    sample = as_sample((image, mask), 7)
    assert sample.image.dtype == sample.mask.dtype == torch.uint8
    assert np.array_equal(sample.image.permute(1, 2, 0), PIXELS)
    assert np.array_equal(sample.mask, MASK)
    assert sample.name == "7"
    assert as_sample([image, mask, "seven"], 7).name == "seven"


def test_floats_and_void_stay_and_grey_gets_a_channel():
    image = np.linspace(-2, 2, 6).reshape(2, 3)
    sample = as_sample((image, np.full((2, 3), 255)), 0)
    assert sample.image.dtype == torch.float32
    assert np.array_equal(sample.image, image[None].astype(np.float32))
    assert (sample.mask == 255).all()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ((PIXELS, MASK - 1), "sample 4: the mask holds -1; class indices are 0 to 254"),
        ((PIXELS, MASK + 251), "sample 4: the mask holds 256"),
        ((PIXELS, MASK.astype(float)), r"the mask is torch\.float64; return class indices"),
        ((PIXELS, "mask.png"), "the mask is of type str"),
        ((PIXELS, MASK.T), r"the image is \(3, 2, 3\) and the mask \(3, 2\)"),
        ((PIXELS, MASK[None]), r"the mask \(1, 2, 3\); return an image \(C, H, W\)"),
        ((PIXELS.astype(np.int64), MASK), r"the image is torch\.int64 \(3, 2, 3\)"),
        ((PIXELS[None], MASK), r"the image is torch\.uint8 \(1, 2, 3, 3\)"),
        (("image.png", MASK), "the image is of type str; return a tensor"),
        (PIXELS, r"sample 4 is of type ndarray; .* \(image, mask, name\)"),
        ((PIXELS,), r"a dataset must return \(image, mask\)"),
    ],
)
def test_what_is_no_sample_is_refused(item, reason):
    with pytest.raises(UserError, match=reason):
        as_sample(item, 4)


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_camvid_reads(split, count, shared):
    card = load_card(Path(__file__).parents[2] / "datasets/camvid.yaml", shared / "data/camvid")
    dataset = SegmentationDataset(SampleReader(card, split))
    assert len(dataset) == count
    sample = dataset[count // 2]
    assert sample.image.shape == (3, 360, 480)
    raw = np.array(Image.open(shared / f"data/camvid/{split}annot/{sample.name}.png"))
    assert np.array_equal(sample.mask.numpy(), np.where(raw == 11, 255, raw))
