"""A process that is killed or interrupted takes those with it that it has started to read data."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.data.parallel import AT_ONCE, parallel_map

pytestmark = [
    pytest.mark.fork,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc"),
]


class Slow:
    """Samples that take for ever."""

    def sample(self, index, epoch):
        time.sleep(600)


def read_masks():
    list(parallel_map(lambda index: time.sleep(600), 3 * AT_ONCE))


def idle_pool():
    for _ in parallel_map(lambda index: index, 3 * AT_ONCE):
        time.sleep(600)


def load():
    list(Loader(Slow(), EpochBatches(4, 1), 2))


def load_and_read():
    """Later processes inherit the ends of pipes of those before."""
    loading = iter(Loader(Slow(), EpochBatches(4, 1), 2).loader)
    read_masks()
    del loading


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid):
    """Z for one that has ended and that nobody has asked about yet; None for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("work", [read_masks, idle_pool, load, load_and_read])
def test_nobody_outlives_a_killed_parent(work, monkeypatch):
    monkeypatch.setattr("segkit.data.parallel.cpu_count", lambda: 2)
    count = 4 if work is load_and_read else 2
    parent = multiprocessing.get_context("fork").Process(target=work)
    parent.start()
    started = []
    try:
        wait_until(lambda: len(children(parent.pid)) >= count)
        time.sleep(0.2)  # for them to get to their work
        started = children(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.join()
        wait_until(lambda: all(state(pid) in (None, "Z") for pid in started))
    finally:
        for pid in {parent.pid, *started}:
            if state(pid) not in (None, "Z"):
                os.kill(pid, signal.SIGKILL)


def test_an_interrupt_while_they_are_started_leaves_none(monkeypatch):
    """They ignore SIGTERM, by which multiprocessing would end them before it awaits them."""

    def interrupted(self, workers, batches):
        assert len(workers) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(Loader, "_keep", interrupted)
    before = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        list(Loader(Slow(), EpochBatches(4, 1), 2))
    for process in multiprocessing.active_children():
        if process not in before:
            process.join(10)
            assert not process.is_alive()
