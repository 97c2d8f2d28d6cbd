"""Loading processes that die or hang are told where batches are fetched, and nowhere else."""

import gc
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from squares import Squares, read_until_error

from segkit.data import loader as loader_module
from segkit.data.batch import Batch
from segkit.data.dead_workers import fetch
from segkit.data.epoch_batches import EpochBatches
from segkit.data.loader import Loader
from segkit.errors import UserError


class Fatal(Squares):
    """Squares of which one, of index 2, ends or stops the process that makes it."""

    def __init__(self, deed):
        super().__init__(4, 4, 4, 4, 4, 4)
        self.deed = deed

    def sample(self, index, epoch):
        if index == 2:
            if self.deed == "hang":
                time.sleep(60)
            os.kill(os.getpid(), getattr(signal, self.deed))
        return super().sample(index, epoch)


@pytest.fixture
def _short_wait(monkeypatch):
    """Let torch not wait 5 s for a worker that hangs when its loader goes."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    yield
    gc.collect()


@pytest.mark.parametrize(
    ("deed", "workers", "told"),
    [
        ("SIGKILL", 1, "a loading process was ended by signal 9 (Killed)"),
        ("SIGKILL", 2, "a loading process was ended by signal 9 (Killed)"),
        ("SIGSEGV", 2, "a loading process was ended by signal 11 (Segmentation fault)"),
        ("hang", 1, "no batch came for 2 s"),
    ],
)
@pytest.mark.usefixtures("_short_wait")
def test_a_worker_that_is_killed_or_stuck_ends_in_a_sentence(monkeypatch, deed, workers, told):
    monkeypatch.setattr(loader_module, "WORKER_TIMEOUT_S", 2)
    loader = Loader(Fatal(deed), EpochBatches(6, 1, shuffle=False), workers)
    start = time.monotonic()
    names, error = read_until_error(loader)
    assert time.monotonic() - start < 8
    assert names == [["image 0"], ["image 1"]][: len(names)]
    assert type(error) is UserError
    assert "\n" not in str(error)
    for part in (f"loading stopped: {told}; ", "data.workers=0", "data.cache=ram"):
        assert part in str(error)


@pytest.mark.usefixtures("_short_wait")
def test_a_dead_worker_is_told_in_any_thread(monkeypatch):
    """Where torch's signal handler does not raise, as it reaches the main thread alone."""
    monkeypatch.setattr(loader_module, "LOOK_EVERY_S", 0.2)
    loader = Loader(Fatal("SIGKILL"), EpochBatches(6, 1, shuffle=False), 1)
    with ThreadPoolExecutor(1) as pool:
        _, error = pool.submit(read_until_error, loader).result(timeout=20)
    assert "a loading process was ended by signal 9 (Killed)" in str(error)


@pytest.mark.parametrize("end", [ConnectionResetError(104, "reset by peer"), EOFError()])
def test_a_worker_that_dies_while_its_batch_is_fetched_ends_in_a_sentence(monkeypatch, end):
    def batches():
        yield [Batch(*(torch.zeros(1),) * 2, ["image 0"])]
        raise end

    loader = Loader(Squares(4), EpochBatches(1, 1))
    monkeypatch.setattr(loader, "loader", batches())
    names, error = read_until_error(loader)
    assert names == [["image 0"]]
    assert type(error) is UserError
    assert "loading stopped: a loading process ended before its batch" in str(error)


def test_other_errors_pass_as_they_are(monkeypatch):
    def batches():
        raise RuntimeError("sizes of tensors must match")
        yield

    loader = Loader(Squares(4), EpochBatches(1, 1))
    monkeypatch.setattr(loader, "loader", batches())
    with pytest.raises(RuntimeError, match="sizes of tensors"):
        list(loader)


class Careless(torch.utils.data.Dataset):
    """A user's dataset with a bug that torch reports."""

    def __getitem__(self, index):
        return torch.zeros(2) + torch.zeros(3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_in_a_users_dataset_keeps_its_traceback(workers):
    loader = Loader(Careless(), EpochBatches(2, 1), workers)
    with pytest.raises(RuntimeError, match="must match the size of tensor"):
        list(loader)


def wait_for_the_end(loader):
    """Kill the loader's first worker and give its signal time to arrive."""
    os.kill(loader._workers[0].pid, signal.SIGKILL)
    time.sleep(0.5)


@pytest.mark.usefixtures("_short_wait")
def test_a_worker_that_dies_between_fetches_is_reported_at_the_next():
    """Torch would raise in the midst of anything: here, of the sleep."""
    loader = Loader(Squares(4, 4, 4), EpochBatches(3, 1), 2)
    steps = loader.steps(0)
    next(steps)
    wait_for_the_end(loader)
    with pytest.raises(UserError, match=r"a loading process was ended by signal 9"):
        next(steps)
    for _ in range(2):
        with pytest.raises(UserError, match="loading stopped"):
            list(loader)


class Finalized:
    """Its end takes a while, in which a signal may arrive."""

    def __del__(self):
        time.sleep(0.5)


@pytest.mark.usefixtures("_short_wait")
def test_a_worker_that_dies_during_a_finalizer_leaves_no_traceback(monkeypatch):
    """Python prints what is raised there, and goes on."""
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    loader = Loader(Squares(4, 4, 4), EpochBatches(3, 1), 2)
    steps = loader.steps(0)
    next(steps)

    def batches():
        finalized = Finalized()
        os.kill(loader._workers[0].pid, signal.SIGKILL)
        del finalized
        yield "a batch"

    assert fetch(batches(), loader._workers, patience_s=5) == "a batch"
    with pytest.raises(UserError, match="signal 9"):
        next(steps)
    assert printed == []


@pytest.mark.usefixtures("_short_wait")
def test_a_dead_worker_is_told_once_and_other_loaders_go_on():
    for _ in range(2):
        _, error = read_until_error(Loader(Fatal("SIGKILL"), EpochBatches(6, 1, shuffle=False), 2))
        assert "loading stopped" in str(error)
        assert len(list(Loader(Squares(4, 4), EpochBatches(2, 1), 1))) == 2


@pytest.mark.usefixtures("_short_wait")
def test_a_handler_of_the_user_is_still_called():
    calls = []
    before = signal.getsignal(signal.SIGCHLD)
    try:
        loader = Loader(Squares(4, 4), EpochBatches(2, 1), 1)
        steps = loader.steps(0)
        next(steps)
        torchs = signal.getsignal(signal.SIGCHLD)

        def handle(number, frame):
            calls.append(number)
            torchs(number, frame)

        signal.signal(signal.SIGCHLD, handle)
        wait_for_the_end(loader)
        assert signal.SIGCHLD in calls
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_loader_without_workers_leaves_signals_alone():
    before = signal.getsignal(signal.SIGCHLD)
    list(Loader(Squares(4), EpochBatches(1, 1)))
    assert signal.getsignal(signal.SIGCHLD) is before
