"""One optimiser step: the same gradient however its batch is cut, and what is not finite."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from ranks import become
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from segkit.config import load_config
from segkit.data.batch import Batch, void_like
from segkit.data.epoch_batches import EpochBatches
from segkit.distributed import SINGLE, Processes, join_processes
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware
from segkit.training.as_stored import as_stored
from segkit.training.state import TrainingState
from segkit.training.step import NonFinite, Step

LOSSES = {
    "cross_entropy": {"name": "cross_entropy", "label_smoothing": 0.1},
    "weighted": {"name": "cross_entropy", "class_weights": [0.3, 1.0, 4.0]},
    "cross_entropy_dice": {"name": "cross_entropy_dice"},
    "ohem": {"name": "ohem"},
}
PLAIN = {  # batch norm would see how a batch is cut
    "model.encoder": {"name": "vgg11", "width": 0.125},
    "model.decoder": {"name": "unet", "widths": [8, 8, 8, 8], "norm": "group"},
    "train.optimizer": {"name": "sgd", "lr": 0.1},
}


def build(path, processes=SINGLE, length=8, **train):
    """A step on a fresh model, in float64 so that nothing but the sums could differ."""
    config = load_config(path, [f"train.{key}={value}" for key, value in train.items()])
    experiment = Experiment.from_config(config, choose_hardware("cpu", "fp32"), processes)
    for module in (experiment.model, experiment.loss, experiment.normalize):
        module.double()
    step = Step(TrainingState(experiment, EpochBatches(length, 2)), experiment)
    step.begin_epoch(0)
    return step


def samples(count=8):
    """Images of noise, of which the last few are mostly void."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 3, 24, 32), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 3, (count, 24, 32), dtype=torch.uint8, generator=generator)
    for index in range(count):
        masks[index, : 3 * index] = 255
    return Batch(images, masks, [f"image {index}" for index in range(count)])


def cut(batch, *sizes):
    parts = zip(*(part.split(sizes) for part in batch[:2]), strict=True)
    return [Batch(images, masks, ["part"]) for images, masks in parts]


def gradients(step, parts):
    loss = step(parts)
    return loss, {name: p.grad.clone() for name, p in step.state.model.named_parameters()}


def assert_close(left, right):
    for name, gradient in left.items():
        scale = gradient.abs().max()
        assert (gradient - right[name]).abs().max() <= 1e-6 * scale, name
    assert max(gradient.abs().max() for gradient in left.values()) > 1e-4


@pytest.mark.parametrize("loss", LOSSES)
def test_accumulated_batches_give_the_gradient_of_the_whole(tiny_config, loss):
    path = tiny_config({**PLAIN, "train.loss": LOSSES[loss]})
    whole, expected = gradients(build(path), [samples()])
    for sizes in ((4, 4), (1, 2, 5)):
        total, parts = gradients(build(path), cut(samples(), *sizes))
        assert total.item() == pytest.approx(whole.item(), rel=1e-9)
        assert_close(expected, parts)


def test_deep_supervision_is_the_mean_of_its_losses(tiny_config):
    path = tiny_config({**PLAIN, "model.decoder.deep_supervision": True})
    step = build(path)
    target = samples().masks.long()
    outputs = step.state.model(step._load(samples().images))
    assert list(outputs) == ["out", "aux2", "aux4", "aux8"]
    expected = sum(step.loss(x, target) / 2**k for k, x in enumerate(outputs.values())) * 8 / 15
    names, parameters = zip(*step.state.model.named_parameters(), strict=True)
    by_hand = dict(zip(names, torch.autograd.grad(expected, parameters), strict=True))
    for sizes in ((8,), (4, 4), (1, 2, 5)):
        total, found = gradients(build(path), cut(samples(), *sizes))
        assert total.item() == pytest.approx(expected.item(), rel=1e-6)
        assert_close(by_hand, found)


def two_processes(rank, path, port, folder):
    torch.set_num_threads(1)
    become(rank, port)
    with join_processes(torch.device("cpu")) as processes:
        step = build(path, processes)
        first = cut(samples(), 4, 4)[rank : rank + 1]
        uneven = cut(samples(), 3, 3, 2)
        mine = [uneven[0], uneven[1]] if rank == 0 else [uneven[2]]
        alone = [samples()] if rank == 0 else [void_like(samples())]
        found = {}
        for name, parts in (("halves", first), ("uneven", mine), ("one has none", alone)):
            before = copy.deepcopy(step.state.model.state_dict())
            loss, grads = gradients(step, parts)
            found[name] = (float(processes.all_reduce(loss.clone())), grads)
            step.state.model.load_state_dict(before)
        torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["weighted", "cross_entropy_dice"])
def test_processes_give_the_gradient_of_one(tiny_config, tmp_path, free_port, loss):
    path = tiny_config({**PLAIN, "train.loss": LOSSES[loss]})
    whole, expected = gradients(build(path), [samples()])
    arguments = (path, free_port, str(tmp_path))
    torch.multiprocessing.spawn(two_processes, arguments, nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for total, grads in found.values():
            assert total == pytest.approx(whole.item(), rel=1e-9)
            assert_close(expected, grads)


def test_the_gradient_is_clipped_as_a_whole(tiny_config):
    path = tiny_config(PLAIN)
    _, free = gradients(build(path), [samples()])
    _, clipped = gradients(build(path, clip_norm=0.01), [samples()])
    norm = torch.stack([g.square().sum() for g in free.values()]).sum().sqrt()
    assert norm > 0.02
    for name, gradient in free.items():
        assert torch.allclose(clipped[name], gradient * 0.01 / norm, rtol=1e-4)


def test_an_all_void_batch_changes_nothing(tiny_config):
    step = build(tiny_config(PLAIN))
    before = copy.deepcopy(step.state.model.state_dict())
    assert step([void_like(samples())]).item() == 0
    for name, value in step.state.model.state_dict().items():
        assert torch.equal(value, before[name])


def poison(step):
    next(p for p in step.state.model.decoder.parameters()).data[0] = float("nan")


def test_what_is_not_finite_is_refused_and_changes_nothing(tiny_config):
    step = build(tiny_config(PLAIN))
    poison(step)
    before = copy.deepcopy(step.state.model.state_dict())
    with pytest.raises(NonFinite):
        step([samples()])
    for name, value in step.state.model.state_dict().items():
        assert torch.equal(value.nan_to_num(7), before[name].nan_to_num(7))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_late_answer_leaves_the_weights_of_before(tiny_config, optimizer):
    """As on a GPU, where nothing waits: the step is left out on the device, and told after."""
    step = build(tiny_config({**PLAIN, "train.optimizer": {"name": optimizer, "lr": 0.01}}))
    step.agreement.late = True
    step([samples()])
    before = copy.deepcopy(step.state.model.state_dict())
    bad, next_one = samples()._replace(names=["bad"]), samples()._replace(names=["next"])
    scale = step.normalize.std.clone()
    step.normalize.std.zero_()
    assert not step([bad]).isfinite()
    step.normalize.std.copy_(scale)
    with pytest.raises(NonFinite) as raised:
        step([next_one])
    assert raised.value.batches == [bad]
    for name, value in step.state.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_late_answer_to_the_last_step_is_waited_for(tiny_config):
    step = build(tiny_config(PLAIN))
    step.agreement.late = True
    step([samples()])
    step.settle()
    step.settle()  # there is nothing left to tell
    poison(step)
    step([samples()])
    with pytest.raises(NonFinite):
        step.settle()


def test_late_answers_change_no_bit(tiny_config):
    path = tiny_config(PLAIN)
    steps = build(path), build(path)
    steps[1].agreement.late = True
    for step in steps:
        for _ in range(3):
            step([samples()])
    now, late = (step.state.model.state_dict() for step in steps)
    assert all(torch.equal(now[name], late[name]) for name in now)


class CountReads(TorchDispatchMode):
    """Counts what waits for a device, if there is one: values that become Python's."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_late_step_waits_for_nothing(tiny_config):
    step = build(tiny_config(PLAIN), clip_norm=1.0)
    step.agreement.late = True
    step([samples()])
    fetched = []
    step.agreement.hardware = SimpleNamespace(fetch=lambda votes: fetched.append(votes) or zeros)
    with CountReads() as reads:
        step([samples()])
    assert len(fetched) == 1
    assert reads.count == 0


def zeros():
    return torch.zeros(3)


def test_so_many_steps_in_a_row_may_be_passed_over(tiny_config):
    step = build(tiny_config(PLAIN), skip_nonfinite=2)
    sound = copy.deepcopy(step.state.model.state_dict())
    poison(step)
    step([samples()])
    step([samples()])
    step.state.model.load_state_dict(sound)
    step([samples()])  # a good one, and counting starts anew
    poison(step)
    step([samples()])
    step([samples()])
    with pytest.raises(NonFinite):
        step([samples()])


def test_a_frozen_encoder_keeps_its_weights_and_statistics_and_thaws(tiny_config):
    config = tiny_config({"train.optimizer": {"name": "adamw", "lr": 0.01}})
    step = build(config, freeze_encoder_epochs=1)
    encoder = step.state.model.encoder
    for epoch, moves in ((0, False), (1, True)):
        before = copy.deepcopy(encoder.state_dict())
        step.begin_epoch(epoch)
        step([samples()])
        after = encoder.state_dict()
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        assert bool(changed) == moves
        assert any("running_mean" in name for name in changed) == moves
    assert all(p.requires_grad for p in encoder.parameters())


def test_frozen_norms_keep_their_statistics_alone(tiny_config):
    step = build(tiny_config(), freeze_norm=True)
    before = copy.deepcopy(step.state.model.state_dict())
    step([samples()])
    after = step.state.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder") and name.endswith("weight") for name in changed)
    statistics = {name for name in changed if "running" in name}
    assert statistics
    assert all(name.startswith("decoder") for name in statistics)


def test_the_running_average_follows_by_hand(tiny_config):
    """Weights and batch norm statistics; the count of batches is a whole number and copied."""
    step = build(tiny_config(), ema=0.3)
    expected = None
    for number in range(4):
        step([samples()])
        state = step.state.model.state_dict()
        if expected is None:
            expected = copy.deepcopy(state)
            continue
        decay = min(0.3, (1 + number) / (10 + number))
        expected = {
            name: decay * expected[name] + (1 - decay) * value
            if value.is_floating_point()
            else value
            for name, value in state.items()
        }
    judged = step.state.eval_model.state_dict()
    assert any(name.endswith("running_var") for name in judged)
    for name, value in expected.items():
        assert torch.allclose(judged[name], value, rtol=1e-9, atol=1e-12), name
    counts = [value for name, value in judged.items() if name.endswith("num_batches_tracked")]
    assert counts == [4] * len(counts)


def test_the_running_averages_count_stays_out_of_collectives(tiny_config, monkeypatch):
    """NCCL refuses tensors on the CPU, where the count is, while the model's are on a GPU."""
    state = build(tiny_config(), ema=0.3).state
    state.model.to("meta")
    state.average.module.to("meta")
    sent = []

    def refusing_the_cpu(tensor, src):
        assert tensor.device.type == "meta", "No backend type associated with device type cpu"
        sent.append(tensor)

    monkeypatch.setattr(dist, "broadcast", refusing_the_cpu)
    state.processes = Processes(0, 2)
    state.broadcast_buffers()
    assert len(sent) == 2 * len(list(state.model.buffers())) > 0


def test_the_compiled_model_shares_its_weights(tiny_config, monkeypatch):
    calls = []

    def compile(model):
        calls.append(model)
        return nn.Sequential(model)

    monkeypatch.setattr(torch, "compile", compile)
    path = tiny_config({**PLAIN, "compile": True})
    _, compiled = gradients(build(path), [samples()])
    _, plain = gradients(build(tiny_config(PLAIN)), [samples()])
    assert len(calls) == 1
    assert_close(plain, compiled)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("moment_layout", [torch.contiguous_format, torch.channels_last])
def test_optimiser_in_memory_order_equals_the_plain_one(kind, gradient_layout, moment_layout):
    torch.manual_seed(0)
    start = torch.randn(4, 3, 3, 3)
    gradients = [torch.randn(4, 3, 3, 3) for _ in range(4)]
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}

    plain = nn.Parameter(start.clone())
    reference = kind([plain], lr=0.1, **options)
    for gradient in gradients:
        plain.grad = gradient.clone()
        reference.step()

    weight = nn.Parameter(start.to(memory_format=torch.channels_last))
    optimizer = kind([weight], lr=0.1, fused=True, **options)
    for gradient in gradients:
        weight.grad = gradient.to(memory_format=gradient_layout)
        with as_stored(optimizer):
            optimizer.step()
        assert weight.shape == start.shape
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(weight.grad, gradient)
        for name, value in optimizer.state[weight].items():
            if value.ndim == 4:
                assert value.shape == start.shape
                optimizer.state[weight][name] = value.contiguous(memory_format=moment_layout)
    torch.testing.assert_close(weight, plain, rtol=1e-5, atol=1e-6)
