"""The loop by itself: what listeners hear, and in which order."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from segkit.distributed import Processes
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.hardware import Hardware, choose_hardware
from segkit.training.listeners import Listener, console
from segkit.training.trainer import Trainer


def experiment(val=True, **options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 8, 8, generator=generator)
    masks = (images[:, 0] > 0).long()
    torch.manual_seed(0)
    train = {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 4, **options}
    train.setdefault("hardware", choose_hardware("cpu", "fp32"))
    return Experiment(
        nn.Conv2d(3, 2, 1),
        TensorDataset(images, masks),
        TensorDataset(images[:2], masks[:2]) if val else None,
        **train,
    )


class Recorder(Listener):
    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if name.startswith("on_") and name not in ("on_log",):
            self.events.append(name.removeprefix("on_"))
        return super().__getattribute__(name)


def test_listeners_hear_everything_in_order():
    recorder = Recorder()
    trainer = Trainer(experiment(), listeners=[recorder])
    trainer.fit()
    epoch = ["epoch_start", "step", "step", "validation_start", "image", "image", "epoch_end"]
    assert recorder.events == ["start", *epoch, *epoch, "end"]
    assert not trainer.stopped


def test_without_a_validation_set_there_are_no_scores():
    recorder = Recorder()
    history = Trainer(experiment(val=False), listeners=[recorder]).fit()
    assert recorder.events == ["start", *["epoch_start", "step", "step", "epoch_end"] * 2, "end"]
    assert len(history) == 2
    assert "miou" not in history[0]
    assert history[1]["loss"] < history[0]["loss"]


def test_validation_every_so_many_epochs_and_after_the_last():
    recorder = Recorder()
    history = Trainer(experiment(epochs=5, validate_every=2), listeners=[recorder]).fit()
    validation = ["validation_start", "image", "image"]
    epochs = [
        ["epoch_start", "step", "step", *(validation if n in (2, 4, 5) else [])]
        for n in range(1, 6)
    ]
    assert recorder.events == [
        "start",
        *(e for epoch in epochs for e in [*epoch, "epoch_end"]),
        "end",
    ]
    assert ["miou" in row for row in history] == [False, True, False, True, True]


def test_the_validation_loss_is_the_loss_of_the_validation_set():
    mine = experiment(epochs=2)
    history = Trainer(mine).fit()
    images, masks = (torch.stack(column) for column in zip(*mine.val_set, strict=True))
    with torch.no_grad():
        expected = nn.functional.cross_entropy(mine.model(images), masks)
    assert history[-1]["val_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_the_time_left_counts_validations_and_says_where_it_may_end_early(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_EVERY_S", 0)
    Trainer(experiment(epochs=3)).fit()
    assert "at most" not in capsys.readouterr().out
    Trainer(experiment(epochs=3, patience=3)).fit()
    assert "at most 0:00 left" in capsys.readouterr().out


def test_patience_needs_a_validation_set():
    with pytest.raises(UserError, match="patience watches the validation"):
        experiment(val=False, patience=2)


def test_a_request_to_stop_is_heard_after_the_step():
    class Stop(Recorder):
        def on_step(self, trainer, loss):
            trainer.signals.requested = True

    recorder = Stop()
    trainer = Trainer(experiment(), listeners=[recorder])
    trainer.fit()
    assert recorder.events == ["start", "epoch_start", "step", "stop", "end"]
    assert trainer.stopped


def test_outside_the_main_thread_a_run_trains_as_it_does_within():
    """Notebooks and services call from threads, in which Python sets no handlers of signals."""
    expected = Trainer(experiment()).fit()
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        history = pool.submit(lambda: Trainer(experiment()).fit()).result()
    assert [row["loss"] for row in history] == [row["loss"] for row in expected]
    assert signal.getsignal(signal.SIGINT) is before


def go_on(folder, **options):
    trainer = Trainer(experiment(epochs=1, **options), folder, resume=True)
    return trainer, [note for note in trainer.notes if note.startswith("changed")]


def test_going_on_elsewhere_tells_what_rounds_otherwise(tmp_path, monkeypatch):
    Trainer(experiment(epochs=1), tmp_path).fit()
    assert go_on(tmp_path)[1] == []
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    bf16 = choose_hardware("cpu", "bf16")
    assert go_on(tmp_path, hardware=bf16)[1] == [
        "changed  precision: fp32 -> bf16",
        f"changed  threads: {threads} -> {threads + 1}",
    ]


def test_a_run_without_a_scaler_goes_on_with_one(tmp_path, monkeypatch):
    Trainer(experiment(epochs=1), tmp_path).fit()
    monkeypatch.setattr(Hardware, "scaler", lambda _: torch.amp.GradScaler("cpu", 512.0))
    trainer, _ = go_on(tmp_path)
    assert trainer.state.scaler.get_scale() == 512
    trainer.state.save(trainer.folder.last)
    monkeypatch.setattr(Hardware, "scaler", lambda _: torch.amp.GradScaler("cpu", 64.0))
    assert go_on(tmp_path)[0].state.scaler.get_scale() == 512


def test_the_optimiser_goes_on_where_another_torch_has_more_keys(tmp_path):
    sgd = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    Trainer(experiment(epochs=1, optimizer=sgd), tmp_path).fit()
    path = tmp_path / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    del content["training"]["optimizer"]["param_groups"][0]["fused"]
    torch.save(content, path)
    trainer, changes = go_on(tmp_path, optimizer=sgd)
    assert changes == []
    [*momenta] = [state["momentum_buffer"] for state in trainer.state.optimizer.state.values()]
    assert len(momenta) == 2
    assert all(momentum.any() for momentum in momenta)
    trainer = Trainer(
        experiment(epochs=1, optimizer={"name": "adamw", "lr": 0.1}),
        tmp_path,
        resume=True,
        override=True,
    )
    assert "changed  the optimiser starts anew" in trainer.notes


def test_the_end_comes_after_an_error_too():
    recorder = Recorder()

    def fail(logits, target):
        raise ValueError("no such loss")

    trainer = Trainer(experiment(loss=fail), listeners=[recorder])
    try:
        trainer.fit()
    except ValueError:
        recorder.events.append("raised")
    assert recorder.events == ["start", "epoch_start", "end", "raised"]


def test_other_processes_are_silent():
    """A listener is for the main process, unless it asks for all of them."""
    recorder, everywhere = Recorder(), Recorder()
    everywhere.every_process = True
    trainer = Trainer(experiment(), listeners=[recorder, everywhere])
    trainer.experiment.processes = Processes(rank=1, count=1)
    trainer.fit()
    assert recorder.events == []
    assert everywhere.events[0] == "start"


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps():
    seen = []

    class Note(Listener):
        def on_step(self, trainer, loss):
            seen.append(loss.item())

    history = Trainer(experiment(epochs=1), listeners=[Note()]).fit()
    assert len(seen) == 2
    assert history[0]["loss"] == sum(seen) / 2


def test_a_folder_without_validation_holds_what_there_is(tmp_path):
    Trainer(experiment(val=False), tmp_path / "run").fit()
    assert (tmp_path / "run/curves.png").is_file()
    assert (tmp_path / "run/checkpoints/last.pt").is_file()
    assert not (tmp_path / "run/checkpoints/best.pt").exists()
    assert (tmp_path / "run/metrics.csv").read_text().startswith("epoch,loss,lr\n")
