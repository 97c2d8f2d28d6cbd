"""One stream of batches, whatever the number of workers, and wherever it was cut."""

import gc
import multiprocessing

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from squares import Squares, read_until_error

from segkit.data.batch import as_batch
from segkit.data.card import load_card
from segkit.data.dataset import Sample, SegmentationDataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.reader import SampleReader
from segkit.errors import UserError

CHAIN = [
    {"RandomScale": {"scale_limit": [-0.2, 0.4], "p": 1.0}},
    {"RandomCrop": {"height": 24, "width": 24, "pad_if_needed": True}},
    {"HorizontalFlip": {"p": 0.5}},
    {"GaussNoise": {"p": 0.5}},
]


def augmented(tiny_set, seed=0):
    return SegmentationDataset(SampleReader(load_card(tiny_set.card), "train"), CHAIN, seed=seed)


def stream(dataset, workers, epochs=(0, 1, 2), batch_size=4, context=None, seed=0):
    sampler = EpochBatches(len(dataset), batch_size, seed=seed)
    loader = Loader(dataset, sampler, workers)
    if context:
        loader.loader.multiprocessing_context = context
    read = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        read.append(list(loader))
    return read


def assert_same(left, right):
    assert len(left) == len(right)
    for a_epoch, b_epoch in zip(left, right, strict=True):
        assert len(a_epoch) == len(b_epoch)
        for a, b in zip(a_epoch, b_epoch, strict=True):
            assert a.names == b.names
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.masks, b.masks)


@pytest.mark.fork
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_one_stream(tiny_set, workers):
    dataset = augmented(tiny_set)
    assert_same(stream(dataset, workers, context="fork"), stream(dataset, 0))


@pytest.mark.slow
def test_spawned_workers_give_the_same_stream(tiny_set):
    dataset = augmented(tiny_set)
    spawned = stream(dataset, 1, epochs=(5,), context="spawn")
    assert_same(spawned, stream(dataset, 0, epochs=(5,)))


def test_epochs_and_seeds_differ_in_order_and_augmentation(tiny_set):
    epochs = stream(augmented(tiny_set), 0, range(5))
    seeds = [stream(augmented(tiny_set, seed), 0, (0,), seed=seed)[0] for seed in range(5)]
    for streams in (epochs, seeds):
        orders = [tuple(n for batch in read for n in batch.names) for read in streams]
        assert len(set(orders)) >= 4
        first = [dict(zip(b.names, b.images, strict=True)) for read in streams for b in read]
        versions = [images["train_0"] for images in first if "train_0" in images]
        assert len(versions) == 5
        assert len({version.numpy().tobytes() for version in versions}) >= 4


def test_an_epoch_read_alone_is_the_same_as_in_a_row(tiny_set):
    dataset = augmented(tiny_set)
    assert_same(stream(dataset, 0, epochs=(2,)), stream(dataset, 0)[2:])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_skipping_goes_on_exactly_where_it_was_cut(tiny_set, steps, workers):
    dataset = augmented(tiny_set)
    [whole] = stream(dataset, 0, epochs=(3,), batch_size=2)
    sampler = EpochBatches(len(dataset), 2)
    rest = [batch for [batch] in Loader(dataset, sampler, workers).steps(3, steps)]
    assert len(sampler) == len(rest) == 3 - steps
    assert_same([rest], [whole[steps:]])


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_a_shuffled_epoch_has_every_sample_once(length):
    sampler = EpochBatches(length, 4, seed=4)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = [key for batch in sampler for key in batch]
        assert {epoch for epoch, _ in keys} == {epoch}
        orders.append([index for _, index in keys])
        assert sorted(orders[-1]) == list(range(length))
    if length > 1:
        assert orders[0] != list(range(length))
        assert len({tuple(order) for order in orders}) == 3 or length < 7


def test_without_shuffling_the_order_is_that_of_the_set():
    assert list(EpochBatches(4, 3, shuffle=False)) == [[(0, 0), (0, 1), (0, 2)], [(0, 3)]]


def test_the_order_does_not_depend_on_the_global_seed():
    orders = []
    for seed in range(3):
        torch.manual_seed(seed)
        orders.append(list(EpochBatches(50, 8, seed=1)))
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize("length", [5, 7, 8, 9, 24, 25])
@pytest.mark.parametrize(
    ("batch_size", "count", "accumulate"), [(8, 1, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 3, 2)]
)
def test_a_step_has_the_same_samples_however_it_is_cut(length, batch_size, count, accumulate):
    """Against the order of one process, cut into steps by hand; samples are shared out evenly."""
    size = batch_size * count * accumulate
    order = [index for [(_, index)] in EpochBatches(length, 1, seed=3)]
    expected = [sorted(order[start : start + size]) for start in range(0, length, size)]
    parts = [
        EpochBatches(length, batch_size, seed=3, rank=rank, count=count, accumulate=accumulate)
        for rank in range(count)
    ]
    for skip in range(len(expected)):
        steps = [[] for _ in expected[skip:]]
        for part in parts:
            part.set_epoch(0, skip)
            assert part.steps == len(expected)
            assert part.step_size == size
            batches_read = iter(part)
            for step, members in enumerate(steps, start=skip):
                mine = [next(batches_read) for _ in range(part.batches_in(step))]
                assert all(1 <= len(batch) <= batch_size for batch in mine)
                most = max(one.batches_in(step) for one in parts)
                assert part.most_batches_in(step) == most
                members += [index for batch in mine for _, index in batch]
            assert list(batches_read) == []
            assert len(part) == sum(part.batches_in(step) for step in range(skip, part.steps))
        assert [sorted(members) for members in steps] == expected[skip:]
    shares = [sum(len(batch) for batch in part) for part in parts]
    assert max(shares) - min(shares) <= accumulate


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_no_global_random_numbers(workers):
    """Else dropout would differ with the number of workers, and after going on mid-epoch."""
    loader = Loader(Squares(4, 4), EpochBatches(2, 1), workers)
    before = torch.get_rng_state()
    for _ in range(2):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_mistake_arrives_as_itself(workers):
    loader = Loader(Squares(4, 4, 0, 4), EpochBatches(4, 2, shuffle=False), workers)
    read, error = read_until_error(loader)
    assert read == [["image 0", "image 1"]]
    assert type(error) is UserError
    assert str(error) == "image 2: cannot be read; take it out"


@pytest.mark.parametrize("workers", [0, 1])
def test_unknown_labels_arrive_as_themselves(tiny_set, workers):
    mask = Image.fromarray(np.full((40, 48), 77, np.uint8))
    mask.save(tiny_set.root / "train/masks/train_2.png")
    dataset = SegmentationDataset(SampleReader(load_card(tiny_set.card), "train"))
    _, error = read_until_error(Loader(dataset, EpochBatches(6, 2), workers))
    assert isinstance(error, UserError)
    assert "train_2.png" in str(error)
    assert "77 (100.0% of the pixels)" in str(error)


@pytest.mark.parametrize("workers", [0, 1])
def test_our_own_mistakes_are_not_hidden(workers):
    loader = Loader(Squares(4, -1), EpochBatches(2, 2, shuffle=False), workers)
    _, error = read_until_error(loader)
    assert isinstance(error, ZeroDivisionError)


class Threads(torch.utils.data.Dataset):
    """Samples that tell how many threads torch and OpenCV have, where they are made."""

    def sample(self, index, epoch):
        counts = torch.tensor([[torch.get_num_threads(), cv2.getNumThreads()]])
        return Sample(counts.expand(3, 1, 2), counts, "threads")


@pytest.mark.parametrize(
    "context",
    [
        pytest.param("fork", marks=pytest.mark.fork),
        pytest.param("spawn", marks=pytest.mark.slow),
    ],
)
def test_a_worker_has_one_thread_and_the_parent_keeps_its_own(monkeypatch, context):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    try:
        loader = Loader(Threads(), EpochBatches(2, 1), 1)
        loader.loader.multiprocessing_context = context
        counts = [batch.masks[0, 0].tolist() for batch in loader]
        assert counts == [[1, 1]] * 2
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
        list(Loader(Threads(), EpochBatches(2, 1), 0))
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_images_of_several_sizes_come_as_one_batch_a_size():
    sizes = (4, 6, 4, 8, 6, 4)
    loader = Loader(Squares(*sizes), EpochBatches(6, 5, shuffle=False), 0)
    *first, last = loader
    assert [batch.names for batch in first] == [
        ["image 0", "image 2"],
        ["image 1", "image 4"],
        ["image 3"],
    ]
    assert last.names == ["image 5"]
    for batch, size in zip(first, (4, 6, 8), strict=True):
        count = len(batch.names)
        assert batch.images.shape == (count, 3, size, 2 * size)
        assert batch.masks.shape == (count, size, 2 * size)
        assert [f"image {i}" for i in batch.masks[:, 0, 0].tolist()] == batch.names
        assert torch.equal(batch.images[:, 0], batch.masks)


def test_turned_images_are_of_another_size():
    class Turned(Squares):
        def sample(self, index, epoch):
            sample = super().sample(index, epoch)
            turned = index % 2 == 1
            return Sample(sample.image.mT, sample.mask.mT, sample.name) if turned else sample

    loader = Loader(Turned(4, 4, 4), EpochBatches(3, 3, shuffle=False), 0)
    wide, tall = loader
    assert wide.masks.shape == (2, 4, 8)
    assert tall.masks.shape == (1, 8, 4)


def test_the_last_batch_may_be_of_one():
    loader = Loader(Squares(4, 4, 4, 4, 4), EpochBatches(5, 2, shuffle=False), 0)
    assert [len(batch.names) for batch in loader] == [2, 2, 1]


# Steps of training


@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_has_all_micro_batches_of_this_process(workers):
    sampler = EpochBatches(7, 2, accumulate=2, shuffle=False)
    steps = list(Loader(Squares(*[4] * 7), sampler, workers).steps(0))
    assert [[batch.names for batch in step] for step in steps] == [
        [["image 0", "image 1"], ["image 2", "image 3"]],
        [["image 4", "image 5"], ["image 6"]],
    ]


def test_a_training_batch_of_two_sizes_is_refused():
    steps = Loader(Squares(4, 6, 6, 6), EpochBatches(4, 2, shuffle=False)).steps(0)
    with pytest.raises(
        UserError, match=r"differ in size, e\.g\. \(4, 8\) and \(6, 12\); end data\."
    ):
        next(steps)


@pytest.mark.parametrize("start", [0, 1])
def test_a_process_without_samples_in_a_step_gets_a_void_batch(start):
    """Of three samples in steps of two, the second process has none in the last step."""
    sampler = EpochBatches(3, 1, shuffle=False, rank=1, count=2)
    *_, [batch] = Loader(Squares(4, 4, 4), sampler).steps(0, start)
    assert batch.is_void
    assert batch.images.shape == (1, 3, 4, 8)
    assert (batch.masks == 255).all()
    assert batch.masks.shape == (1, 4, 8)
    before = 1 if start == 0 else 0  # made from what was read last, else from the first sample
    assert (batch.images == before).all()


def test_nothing_is_read_where_an_epoch_is_over():
    assert list(Loader(Squares(0), EpochBatches(1, 1)).steps(3, 1)) == []


def test_an_epoch_may_be_left_in_its_midst():
    loader = Loader(Squares(*[4] * 8), EpochBatches(8, 1, shuffle=False), 2)
    next(loader.steps(0))
    assert [batch.names for [batch] in loader.steps(1, 5)] == [
        ["image 5"],
        ["image 6"],
        ["image 7"],
    ]


def test_a_loader_that_is_dropped_ends_its_workers():
    others = multiprocessing.active_children()
    circle = [Loader(Squares(*[4] * 8), EpochBatches(8, 1, shuffle=False), 2)]
    circle.append(circle)
    next(iter(circle[0]))
    workers = [p for p in multiprocessing.active_children() if p not in others]
    assert len(workers) == 2
    del circle
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)


# Datasets and loaders of the user


class Plain(torch.utils.data.Dataset):
    """Pairs of tensors, as in torch's tutorials; `(image, mask)` or with a name."""

    def __init__(self, named):
        self.named = named

    def __getitem__(self, index):
        image = torch.full((3, 4, 5), index, dtype=torch.uint8)
        mask = torch.full((4, 5), 300 if index == 3 else index)
        return (image, mask, f"name {index}") if self.named else (image, mask)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("named", [False, True])
def test_a_dataset_of_the_user_can_be_loaded(workers, named):
    first, last = Loader(Plain(named), EpochBatches(3, 2, shuffle=False), workers)
    assert first.names + last.names == [f"name {i}" if named else str(i) for i in range(3)]
    assert first.masks.dtype == torch.uint8
    assert first.masks[:, 0, 0].tolist() == first.images[:, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_beyond_8_bits_names_sample_and_value(workers):
    loader = Loader(Plain(named=False), EpochBatches(4, 2, shuffle=False), workers)
    with pytest.raises(UserError, match="sample 3: the mask holds 300"):
        list(loader)


def test_batches_of_a_users_loader_are_converted():
    images, masks = torch.zeros(2, 3, 4, 5), torch.tensor([1, 255]).view(2, 1, 1).expand(2, 4, 5)
    batch = as_batch([images, masks], start=6)
    assert batch.images is images
    assert torch.equal(batch.masks.long(), masks)
    assert batch.masks.dtype == torch.uint8
    assert batch.names == ["000006", "000007"]
    assert as_batch((images, masks, ("a", "b"))).names == ["a", "b"]
    assert as_batch(batch, 9) is batch


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (torch.zeros(2), r"a batch is of type Tensor; a loader must yield \(images, masks\)"),
        (([1], torch.zeros(1, 4, 4, dtype=torch.long)), r"images \(\) and masks \(1, 4, 4\)"),
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 5, dtype=torch.long)), "a batch has images"),
        (
            (torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4)),
            r"sample 8 on: the mask is torch\.f",
        ),
        ((torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 256)), "the mask holds 256"),
        ((torch.zeros(1, 3, 4, 4).int(), torch.ones(1, 4, 4).int()), "images of torch.int32"),
    ],
)
def test_what_is_no_batch_is_refused(item, reason):
    with pytest.raises(UserError, match=reason):
        as_batch(item, start=8)
