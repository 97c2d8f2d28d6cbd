"""Loading where shared memory, open files or processes are scarce: the same batches, and a word."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segkit.data import batch as batch_module
from segkit.data import loader as loader_module
from segkit.data.card import load_card
from segkit.data.dataset import SegmentationDataset
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.parallel import AT_ONCE, check_room, how_ended, parallel_map
from segkit.data.reader import SampleReader
from segkit.errors import UserError

pytestmark = pytest.mark.fork  # what is made scarce here is so in forks, too
ROOT = Path(__file__).parents[2]
BATCHES = """
import sys, torch
from segkit.data.dataset import Sample
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.parallel import parallel_map

class Large:
    def sample(self, index, epoch):
        image = torch.full((3, 400, 400), index, dtype=torch.uint8)
        return Sample(image, image[0], str(index))

assert list(parallel_map(lambda index: index, 300)) == list(range(300))
for batch in Loader(Large(), EpochBatches(24, 2, shuffle=False), 2):
    print(*batch.names, batch.images.sum().item(), batch.masks.sum().item())
"""
EXPECTED = [
    f"{first} {first + 1} {3 * 160000 * (2 * first + 1)} {160000 * (2 * first + 1)}"
    for first in range(0, 24, 2)
]


def no_room(*_):
    raise OSError(28, "No space left on device")


def no_memory(_):
    raise RuntimeError("unable to allocate shared memory(shm)")


def no_process():
    raise BlockingIOError(11, "Resource temporarily unavailable")


SHORTAGES = [
    (batch_module, "open_files", lambda: 64, "pipes"),
    (torch.Tensor, "share_memory_", no_memory, "pipes"),
    (loader_module, "check_room", no_room, "No space left on device"),
    (os, "fork", no_process, "Resource temporarily unavailable"),
]


@pytest.mark.parametrize(("place", "name", "short", "word"), SHORTAGES, ids=lambda x: str(x)[:20])
def test_what_is_short_changes_no_batch_and_is_told_once(
    place, name, short, word, tiny_set, monkeypatch
):
    chain = [{"RandomCrop": {"height": 24, "width": 24}}, {"GaussNoise": {"p": 0.5}}]
    dataset = SegmentationDataset(SampleReader(load_card(tiny_set.card), "train"), chain)

    def read(workers, told):
        loader = Loader(dataset, EpochBatches(6, 2), workers)
        loader.tell = told.append
        return [batch for _ in range(2) for batch in loader]

    silent, told = [], []
    expected = read(2, silent)
    monkeypatch.setattr(place, name, short)
    for batch, other in zip(read(2, told), expected, strict=True):
        assert batch.names == other.names
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.masks, other.masks)
    assert silent == []
    assert len(told) == 1
    assert told[0].startswith("WARNING: ")
    assert "\n" not in told[0]
    assert word in told[0]


def test_masks_are_read_without_processes_too(monkeypatch):
    forks, fork = iter(range(1)), os.fork

    def one_fork():
        return fork() if next(forks, None) is not None else no_process()

    monkeypatch.setattr(os, "fork", one_fork)
    monkeypatch.setattr("segkit.data.parallel.cpu_count", lambda: 3)
    before = set(multiprocessing.active_children())
    count = 3 * AT_ONCE
    assert list(parallel_map(lambda index: index**2, count)) == [i**2 for i in range(count)]
    assert next(forks, None) is None
    assert set(multiprocessing.active_children()) <= before


def test_a_pool_says_how_a_process_of_it_ended():
    def crash(index):
        os.kill(os.getpid(), signal.SIGKILL if index == 70 else 0)

    with pytest.raises(UserError, match=r"was ended by signal 9 \(Killed\)"):
        list(parallel_map(crash, 3 * AT_ONCE))


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ([], None),
        ([None, None], None),
        ([None, -7], "was ended by signal 7 (Bus error)"),
        ([-15, -9, -15], "was ended by signal 9 (Killed)"),
        ([None, 3], "ended with code 3"),
    ],
)
def test_the_end_of_a_process_is_told_by_its_cause(codes, said):
    class Ended:
        def __init__(self, code):
            self.exitcode = code

    assert how_ended([Ended(code) for code in codes]) == said


def test_room_is_found_out_without_leaving_anything_open():
    count = len(os.listdir("/proc/self/fd"))
    check_room(4)
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 10, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            check_room(4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("mount -t tmpfs -o size=64k tmpfs /dev/shm &&", "No space left on device"),
        ("mount -t tmpfs -o size=1m tmpfs /dev/shm &&", "pipes"),
        ("mount -t tmpfs -o ro tmpfs /dev/shm &&", "Read-only file system"),
        ("ulimit -n 18;", "Too many open files"),
        ("ulimit -n 64;", "pipes"),
    ],
)
def test_real_shortages(command, word):
    isolated = ["unshare", "--mount", "sh", "-c"]
    try:
        subprocess.run([*isolated, "mount -t tmpfs tmpfs /dev/shm"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root under Linux may mount another /dev/shm")
    done = subprocess.run(
        [*isolated, f'{command} exec "$@"', "sh", sys.executable, "-c", BATCHES],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stdout.splitlines() == EXPECTED, done.stderr
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
