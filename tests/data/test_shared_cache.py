"""Samples kept in shared memory: the same ones, read once by all processes together."""

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data import shared_cache
from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.reader import SampleReader
from segkit.data.shared_cache import SharedCache, free_memory
from segkit.errors import UserError

FLIP = [{"HorizontalFlip": {"p": 1.0}}]


def many_sizes(tiny_set, deep=False):
    """Give every image of the split another size, odd ones too, and 16 bits if asked."""
    rng = np.random.default_rng(0)
    for index in range(6):
        size = (21 + 3 * index, 17 + index)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        if deep:
            image = rng.integers(0, 65536, size, dtype=np.uint16)
        Image.fromarray(image).save(tiny_set.root / f"train/images/train_{index}.png")
        mask = rng.choice([0, 10, 20, 99], size).astype(np.uint8)
        Image.fromarray(mask).save(tiny_set.root / f"train/masks/train_{index}.png")


def open_split(tiny_set, cache="ram", transforms=(), deep=False):
    card = load_card(tiny_set.card)
    card = card.model_copy(update={"image_max": 65535.0}) if deep else card
    return SegmentationDataset(SampleReader(card, "train", cache=cache), transforms)


def remove_files(tiny_set):
    for path in tiny_set.root.rglob("train_*.png"):
        path.unlink()


def read(loader):
    """Read an epoch: images and masks by name."""
    return {
        name: (image, mask)
        for batch in loader
        for name, image, mask in zip(batch.names, batch.images, batch.masks, strict=True)
    }


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        for a, b in zip(left[name], right[name], strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


@pytest.mark.parametrize("deep", [False, True], ids=["uint8", "float32"])
@pytest.mark.parametrize(
    ("workers", "context"),
    [
        (0, None),
        pytest.param(2, "fork", marks=pytest.mark.fork),
        pytest.param(1, "spawn", marks=pytest.mark.slow),
    ],
    ids=["none", "fork", "spawn"],
)
def test_files_are_read_once_in_all_and_samples_are_the_same(tiny_set, workers, context, deep):
    many_sizes(tiny_set, deep)
    expected = read(Loader(open_split(tiny_set, "none", deep=deep), EpochBatches(6, 2), 0))
    dataset = open_split(tiny_set, deep=deep)
    loader = Loader(dataset, EpochBatches(6, 2), workers)
    if context:
        loader.loader.multiprocessing_context = context
    assert_same(read(loader), expected)
    assert dataset.reader.cache.filled.all()
    remove_files(tiny_set)
    loader.sampler.set_epoch(1)  # in another order, so each worker needs what another has read
    assert_same(read(loader), expected)
    assert_same(read(Loader(dataset, EpochBatches(6, 3), 0)), expected)


def test_augmentation_goes_on_and_does_not_touch_what_is_kept(tiny_set):
    chain = [
        *FLIP,
        {"CoarseDropout": {"p": 1.0}},
        {"ColorJitter": {"p": 1.0}},
        {"GaussNoise": {"p": 1.0}},
    ]
    plain = open_split(tiny_set, "none", chain)
    kept = open_split(tiny_set, "ram", chain)
    before = [kept.reader.read(index)[0].copy() for index in range(6)]
    for epoch in range(3):
        for index in range(6):
            assert torch.equal(kept.sample(index, epoch).image, plain.sample(index, epoch).image)
            assert torch.equal(kept.sample(index, epoch).mask, plain.sample(index, epoch).mask)
    assert not torch.equal(kept.sample(1, 0).image, kept.sample(1, 1).image)
    for index in range(6):
        assert np.array_equal(kept.reader.read(index)[0], before[index])


@pytest.mark.parametrize("name", ["CoarseDropout", "GridDropout", "PixelDropout", "Erasing"])
def test_transforms_that_write_into_images_get_a_copy(tiny_set, name):
    dataset = open_split(tiny_set, "ram", [{name: {"p": 1.0}}])
    image, mask = (part.copy() for part in dataset.reader.read(0))
    for epoch in range(5):
        dataset.sample(0, epoch)
    again, mask_again = dataset.reader.read(0)
    assert np.array_equal(image, again)
    assert np.array_equal(mask, mask_again)


def test_a_file_that_grew_meanwhile_is_read_each_time(tiny_set):
    dataset = open_split(tiny_set)
    for kind, size in (("images", (50, 60, 3)), ("masks", (50, 60))):
        path = tiny_set.root / "train" / kind / "train_0.png"
        Image.fromarray(np.zeros(size, np.uint8)).save(path)
    for _ in range(2):
        assert dataset[0].image.shape == (3, 50, 60)
    assert not dataset.reader.cache.filled[0]


def test_a_turned_image_finds_its_place(tiny_set):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(turned).save(tiny_set.root / "train/images/train_2.png", exif=exif)
    dataset = open_split(tiny_set)
    for _ in range(2):
        assert np.array_equal(dataset.reader.read(2)[0], np.rot90(turned, -1))
    assert dataset.reader.cache.filled[2]


# Room


def test_too_little_memory_says_how_much_is_missing(tiny_set, monkeypatch):
    gib = 2**30
    monkeypatch.setattr(shared_cache, "free_memory", lambda: 1.5 * gib)
    shapes = [(1000, 1000, 3)] * 1074  # of 4 bytes, and a mask: 13 MB each
    with pytest.raises(UserError) as error:
        SharedCache(shapes, np.float32, "train")
    need = 1074 * 1000 * 1000 * 13 / gib
    for part in (
        f"needs {need:.2f} GiB",
        "'train'",
        "1.50 GiB of shared memory is free",
        f"{need - 1.5:.2f} GiB too little",
        "data.cache=none",
        "--shm-size",
    ):
        assert part in str(error.value)
    monkeypatch.setattr(shared_cache, "free_memory", lambda: 100)
    with pytest.raises(UserError, match=r"data\.cache: ram needs"):
        open_split(tiny_set)


def test_what_just_fits_is_kept(monkeypatch):
    need = 2 * 4 * 16 * 16
    monkeypatch.setattr(shared_cache, "free_memory", lambda: need)
    assert len(SharedCache([(16, 16, 3)] * 2, np.uint8, "train").memory) == need
    monkeypatch.setattr(shared_cache, "free_memory", lambda: need - 1)
    with pytest.raises(UserError):
        SharedCache([(16, 16, 3)] * 2, np.uint8, "train")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_neighbours_do_not_overlap(kind):
    rng = np.random.default_rng(0)
    shapes = [(h, w, c) for h in (1, 3, 5) for w in (1, 7) for c in (1, 3, 5)]
    cache = SharedCache(shapes, kind, "train")
    images = [(255 * rng.random(shape)).astype(kind) for shape in shapes]
    masks = [rng.integers(0, 256, shape[:2], dtype=np.uint8) for shape in shapes]
    for index in rng.permutation(len(shapes)).tolist():
        assert cache.get(index) is None
        cache.put(index, images[index], masks[index])
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        kept_image, kept_mask = cache.get(index)
        assert kept_image.dtype == kind
        assert kept_image.flags.aligned
        assert np.array_equal(kept_image, image)
        assert np.array_equal(kept_mask, mask)


def test_free_memory_is_a_number_of_bytes():
    assert free_memory() > 2**20
