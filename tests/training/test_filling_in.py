"""Processes with unequal numbers of batches keep in step, and void batches leave no trace."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from ranks import become
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from segkit.distributed import SINGLE, join_processes
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware
from segkit.training.filling_in import filling_in
from segkit.training.state import TrainingState
from segkit.training.step import Step


class GlooNorm(nn.SyncBatchNorm):
    """Batch norm over processes on the CPU, which torch lacks; every pass is a collective."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        values = x.transpose(0, 1).flatten(1)
        sums = torch.stack([values.new_full((len(values),), values.shape[1]), values.sum(1)])
        sums = all_reduce(sums)
        count, mean = sums[0], sums[1] / sums[0]
        squares = (values - mean[:, None]).square().sum(1)
        var = all_reduce(squares) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, 0.1)
            self.running_var.lerp_(var * count / (count - 1), 0.1)
        normal = (x - mean[:, None, None]) / (var[:, None, None] + self.eps).sqrt()
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


def train(norm, processes, batch_size, length=13):
    """One epoch in two steps; returns all weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(length, 3, 6, 5, generator=generator)
    masks = torch.randint(0, 3, (length, 6, 5), generator=generator)
    masks[::4, :3] = 255
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 4, 3, padding=1), norm(4), nn.ReLU(), nn.Conv2d(4, 3, 1)
    experiment = Experiment(
        nn.Sequential(*layers),
        list(zip(images, masks, strict=True)),
        classes=["a", "b", "c"],
        hardware=choose_hardware("cpu", "fp32"),
        processes=processes,
        batch_size=batch_size,
        epochs=1,
        accumulate=2,
        optimizer={"name": "sgd", "lr": 0.5},
    )
    loader = experiment.train_loader()
    step = Step(TrainingState(experiment, loader.sampler), experiment)
    step.begin_epoch(0)
    for batches in loader.steps(0):
        step(batches)
    return step.state.model.state_dict()


def one_of_two(rank, port, folder):
    torch.set_num_threads(1)
    # it refuses any SyncBatchNorm on the CPU
    DistributedDataParallel._passing_sync_batchnorm_handle = lambda ddp, module: None
    become(rank, port)
    with join_processes(torch.device("cpu")) as processes:
        torch.save(train(GlooNorm, processes, batch_size=2), Path(folder, f"{rank}.pt"))


@pytest.mark.slow
def test_a_synchronised_norm_sees_what_one_process_sees(tmp_path, free_port):
    """The last of 13 images is in one process alone; the other would leave it waiting."""
    expected = train(nn.BatchNorm2d, SINGLE, batch_size=4)
    torch.multiprocessing.spawn(one_of_two, (free_port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in found.items():
            if not name.endswith("num_batches_tracked"):
                assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-6), (rank, name)


@pytest.mark.parametrize("tracked", [True, False])
def test_a_void_batch_joins_in_with_an_empty_one(tracked, monkeypatch):
    passes = []

    def collective(norm, x):
        passes.append(len(x))
        return x * norm.weight[:, None, None]

    monkeypatch.setattr(nn.SyncBatchNorm, "forward", collective)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4, track_running_stats=tracked))
    x = torch.randn(2, 3, 4, 4)
    with filling_in(model):
        filled = model(x)
    assert filled.isfinite().all()
    model(x)
    with filling_in(model.eval()):  # nothing is counted in eval mode
        model(x)
    assert passes == [0, 2, 2]
