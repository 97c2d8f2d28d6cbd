"""What processes agree on after a step: one reduction, told at once or a step later."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from ranks import become

from segkit.distributed import SINGLE, join_processes
from segkit.hardware import choose_hardware
from segkit.training.agreement import Agreed, Agreement

CPU = choose_hardware("cpu", "fp32")
NOTHING, BAD = Agreed(), Agreed(unsound=True)


def flag(value):
    return torch.tensor(float(value))


def test_one_process_learns_at_once():
    agreement = Agreement(SINGLE, CPU, late=False)
    agreement.stop = agreement.save = True
    assert agreement.reduce(flag(2)) == (1, Agreed(True, True, True))
    assert agreement.reduce(flag(0)) == (0, Agreed(stop=True))  # a checkpoint is asked for once
    assert agreement.read() == NOTHING


def test_or_with_the_next_step():
    agreement = Agreement(SINGLE, CPU, late=True)
    assert agreement.reduce(flag(0)) == (0, NOTHING)
    assert agreement.reduce(flag(1)) == (1, NOTHING)
    agreement.save = True
    assert agreement.reduce(flag(0)) == (0, BAD)
    assert agreement.read() == Agreed(save=True)
    assert agreement.read() == NOTHING


def agreeing(rank, port, folder, late):
    torch.set_num_threads(1)
    become(rank, port)
    calls = []
    reduce = dist.all_reduce
    dist.all_reduce = lambda tensor: calls.append(tensor.shape) or reduce(tensor)
    with join_processes(torch.device("cpu")) as processes:
        agreement = Agreement(processes, CPU, late)
        found = []
        for step in range(5):
            agreement.stop = rank == 1 and step == 3
            agreement.save = rank == 0 and step == 2
            found.append(agreement.reduce(flag(rank == 0 and step == 1))[1])
        found.append(agreement.read())
    torch.save([tuple(one) for one in found], Path(folder, f"{rank}.pt"))
    Path(folder, f"{rank}.txt").write_text(str(len(calls)))


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_processes_learn_the_same_at_the_same_step(tmp_path, free_port, late):
    torch.multiprocessing.spawn(agreeing, (free_port, str(tmp_path), late), nprocs=2)
    said = [NOTHING, BAD, Agreed(save=True), Agreed(stop=True), NOTHING]
    expected = [NOTHING, *said] if late else [*said, NOTHING]
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt") == expected
        assert (tmp_path / f"{rank}.txt").read_text() == "5"  # reductions
