"""Processes that must agree, and one that is missing: told, where waiting would never end."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from ranks import become

from segkit import distributed
from segkit.distributed import SINGLE, join_processes
from segkit.errors import UserError


def told(processes, work):
    try:
        work(processes)
    except UserError as error:
        return str(error)
    return "nothing"


def compare_facts(rank, port, folder):
    become(rank, port)
    with join_processes(torch.device("cpu")) as processes:
        same = {"the seed": 1, "the classes": ["a", "b"]}
        other = {**same, "the seed": 1 + rank}
        less = same if rank == 0 else {"the seed": 1}
        said = [
            told(processes, lambda p, facts=facts: p.require_equal(lambda: facts))
            for facts in (same, other, less)
        ]
    Path(folder, f"{rank}").write_text("\n".join(said))


@pytest.mark.slow
def test_facts_that_differ_are_named_with_the_process(tmp_path, free_port):
    torch.multiprocessing.spawn(compare_facts, (free_port, str(tmp_path)), nprocs=2)
    for rank in "01":
        same, other, less = (tmp_path / rank).read_text().splitlines()
        assert same == "nothing"
        assert other.startswith("process 1 differs from process 0 in the seed: 2 instead of 1; ")
        assert "in the classes: None instead of ['a', 'b']" in less


def test_a_process_alone_takes_no_facts():
    SINGLE.require_equal(lambda: pytest.fail("read for nothing"))


def lose_one(rank, port, folder, how, group, lost):
    torch.set_num_threads(1)
    become(rank, port)
    distributed.LATE_S = distributed.GONE_S = 1
    try:
        with join_processes(torch.device("cpu"), timeout_s=2) as processes:
            processes.barrier()
            if rank == lost:
                if how == "late":
                    time.sleep(8)
                if how == "stopped":
                    os.kill(os.getpid(), signal.SIGSTOP)
                os._exit(0)
            if group == "waiting":
                processes.barrier()
            else:
                processes.all_reduce(torch.zeros(3))
    except UserError as error:
        Path(folder, "said").write_text(str(error))


@pytest.mark.slow
@pytest.mark.parametrize(  # process 0 holds the store, which is asked who is missing
    ("group", "lost"), [("waiting", 0), ("step", 1)]
)
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("late", "did not answer for 2 s; if it was slow and neither stopped nor cut off, raise"),
        (
            "stopped",
            "did not answer for 2 s; if it was slow and neither stopped nor cut off, raise",
        ),
        ("gone", "ended before the others; see what it said"),
    ],
)
def test_a_missing_process_is_named(tmp_path, free_port, how, why, group, lost):
    start = time.monotonic()
    arguments = (free_port, str(tmp_path), how, group, lost)
    running = torch.multiprocessing.spawn(lose_one, arguments, nprocs=2, join=False)
    while not running.join(timeout=0.2):
        if how == "stopped" and not running.processes[1 - lost].is_alive():
            os.kill(running.processes[lost].pid, signal.SIGCONT)
    assert (tmp_path / "said").read_text().startswith(f"process {lost} {why}")
    assert time.monotonic() - start < 60


def come_late(rank, port, folder):
    become(rank, port)
    os.environ |= dict.fromkeys(("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"), "0")
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    distributed.LATE_S = distributed.GONE_S = 1
    said = "nothing"
    try:
        with join_processes(torch.device("cpu"), timeout_s=2) as processes:
            processes.barrier()
            time.sleep(5 * rank)
            processes.barrier()
    except UserError as error:
        said = str(error)
    Path(folder, f"{rank}").write_text(said)


@pytest.mark.slow
def test_one_that_comes_after_the_others_have_given_up_says_so(tmp_path, free_port):
    # as torchrun holds it, while its processes end
    store = torch.distributed.TCPStore(
        "127.0.0.1", free_port, is_master=True, wait_for_workers=False
    )
    torch.multiprocessing.spawn(come_late, (free_port, str(tmp_path)), nprocs=2)
    assert (tmp_path / "0").read_text().startswith("process 1 did not answer for 2 s")
    assert (tmp_path / "1").read_text().startswith("the processes lost each other: one waited ")
    del store


def test_other_errors_pass():
    told_of = distributed._missing_told(None, 0, 2, 1.0)
    with pytest.raises(RuntimeError, match="of a kernel"), told_of:
        raise RuntimeError("of a kernel")
