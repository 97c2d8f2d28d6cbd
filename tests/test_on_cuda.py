"""What only a CUDA device shows; elsewhere the same is tested with stand-ins."""

import copy

import numpy as np
import pytest
import torch
from networks import VARIANTS, build
from ranks import become
from torch import nn
from torch.utils.data import TensorDataset

from segkit.errors import UserError
from segkit.evaluation import evaluate_images
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware
from segkit.inference import Predictor, Tiles
from segkit.losses import CrossEntropy
from segkit.model import create_model
from segkit.training.state import TrainingState
from segkit.training.step import NonFinite, Step
from segkit.training.trainer import Trainer

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def network(decoder="unet"):
    torch.manual_seed(0)
    return create_model(decoder, "vgg11_bn", num_classes=3, encoder_options={"width": 1 / 8})


def samples(count=8, size=(32, 32)):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)
    masks = (images[:, 0] // 100).long()
    masks[:, :3] = 255
    return images, masks


def experiment(device=DEVICE, precision="fp32", model=None, val_size=(48, 40), **options):
    given = {"epochs": 2, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.05}, **options}
    return Experiment(
        model or network(),
        TensorDataset(*samples()),
        TensorDataset(*samples(2, val_size)),
        classes=["a", "b", "c"],
        mean=MEAN,
        std=STD,
        hardware=choose_hardware(device, precision),
        **given,
    )


def step_of(run):
    loader = run.train_loader()
    step = Step(TrainingState(run, loader.sampler), run)
    step.begin_epoch(0)
    return step, loader


def first_step(run):
    """Take a step, and return its loss and the weights after it."""
    step, loader = step_of(run)
    loss = step(next(loader.steps(0)))
    return loss.item(), {k: v.cpu() for k, v in step.state.model.state_dict().items()}


# Training


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-4), ("bf16", 0.03), ("fp16", 0.01)])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_norm": 0.1}], ids=str)
def test_a_step_is_that_of_the_cpu(precision, near, options):
    expected, weights = first_step(experiment("cpu", **options))
    loss, found = first_step(experiment(precision=precision, **options))
    assert loss == pytest.approx(expected, rel=near)
    before = network().state_dict()
    moved = sum((weights[k] - before[k]).norm() for k in weights if k.endswith("weight"))
    apart = sum((weights[k] - found[k]).norm() for k in weights if k.endswith("weight"))
    assert moved > 0
    assert apart < (0.01 if precision == "fp32" else 0.3) * moved


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_step_that_is_not_finite_is_told_with_the_next_and_changes_no_weight(optimizer):
    step, loader = step_of(experiment(optimizer={"name": optimizer, "lr": 0.01}))
    batches = next(loader.steps(0))
    step(batches)
    before = [parameter.clone() for parameter in step.parameters]
    bad = [batch._replace(images=batch.images * float("nan")) for batch in batches]
    step.normalize, normalize = None, step.normalize  # floats come normalised
    step(bad)
    step.normalize = normalize
    with pytest.raises(NonFinite) as raised:
        step(batches)
    assert raised.value.batches is bad
    assert all(map(torch.equal, before, step.parameters))


def test_a_step_waits_for_nothing():
    step, loader = step_of(experiment(clip_norm=1.0, ema=0.9))
    batches = next(loader.steps(0))
    step(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_an_overflow_is_passed_over():
    step, loader = step_of(experiment(precision="fp16", accumulate=2, clip_norm=1.0))
    batches = next(loader.steps(0))
    step(batches)
    step.state.scaler.update(2.0**60)
    before = copy.deepcopy(step.state.model.state_dict())
    step(batches)
    after = step.state.model.state_dict()
    assert step.state.scaler.get_scale() == 2.0**59
    assert all(torch.equal(before[k], after[k]) for k in before if "running" not in k)
    assert all(value.isfinite().all() for value in after.values())


def test_the_running_average_follows():
    step, loader = step_of(experiment(ema=0.3))
    batches = next(loader.steps(0))
    step(batches)
    expected = copy.deepcopy(step.state.model.state_dict())
    step(batches)
    kept = min(0.3, 2 / 11)
    average = step.state.eval_model.state_dict()
    for name, value in step.state.model.state_dict().items():
        if value.is_floating_point():
            blend = kept * expected[name] + (1 - kept) * value
            assert torch.allclose(average[name], blend, rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_learns_and_goes_on(precision, tmp_path):
    options = {"precision": precision, "ema": 0.5, "optimizer": {"name": "adamw", "lr": 3e-3}}
    whole = Trainer(experiment(epochs=4, **options)).fit()
    assert whole[-1]["loss"] < whole[0]["loss"]

    class Stop(Trainer):
        def _finish_epoch(self, evaluation):
            self.signals.requested = self.state.progress.epoch == 1
            super()._finish_epoch(evaluation)

    Stop(experiment(epochs=4, **options), tmp_path).fit()
    trainer = Trainer(experiment(epochs=4, **options), tmp_path, resume=True)
    assert trainer.state.progress.epoch == 2
    history = trainer.fit()
    assert [row["loss"] for row in history] == pytest.approx(
        [row["loss"] for row in whole], rel=0.05
    )


def test_a_compiled_step_is_the_eager_one():
    expected, _ = first_step(experiment())
    compiled, _ = first_step(experiment(compile=True))
    assert compiled == pytest.approx(expected, rel=1e-4)


def test_a_pass_leaves_the_switches_as_they_are():
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in switches], torch.backends.cudnn.benchmark
    first_step(experiment(precision="bf16"))
    assert ([each.allow_tf32 for each in switches], torch.backends.cudnn.benchmark) == before


# Decoders


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_decoder_computes_in_channels_last(variant):
    model = build(variant)
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixels)
    hardware = choose_hardware(DEVICE, "fp32")
    hardware.to_device(model)
    with torch.no_grad(), hardware.autocast():
        found = model(hardware.load(pixels))
    assert found.device.type == DEVICE
    assert (found.cpu() - expected).abs().max() <= 2e-3 * expected.abs().max()
    model.train()
    with hardware.autocast():
        logits = model(hardware.load(pixels))
        CrossEntropy()(logits, torch.zeros(2, 64, 96, dtype=torch.long, device=DEVICE)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


# Prediction and evaluation


def test_tiles_are_exact():
    torch.manual_seed(0)
    model = create_model("unet", "lenet", num_classes=3)
    hardware = choose_hardware(DEVICE, "fp32")
    hardware.to_device(model)
    [image], _ = samples(1, (200, 150))
    whole, tiled = (
        Predictor(model, hardware=hardware, mean=MEAN, std=STD, tiles=tiles).segment(
            image, probabilities=True
        )
        for tiles in (None, Tiles(64))
    )
    apart = (whole.probabilities.cpu().float() - tiled.probabilities.cpu().float()).abs().max()
    assert apart < 2e-3
    assert (whole.mask.cpu() == tiled.mask.cpu()).float().mean() > 0.999


def test_blended_tiles_are_those_of_the_cpu():
    torch.manual_seed(0)
    model = create_model("unet", "lenet", num_classes=3)
    [image], _ = samples(1, (200, 150))
    found = []
    for device in ("cpu", DEVICE):
        hardware = choose_hardware(device, "fp32")
        predictor = Predictor(
            hardware.to_device(copy.deepcopy(model)),
            hardware=hardware,
            mean=MEAN,
            std=STD,
            tiles=Tiles(64, "blend"),
        )
        found.append(predictor.segment(image, probabilities=True).probabilities.cpu().float())
    assert (found[0] - found[1]).abs().max() < 5e-3


class Painted(nn.Module):
    """Predicts what the first channel says, so that no rounding differs between devices."""

    def forward(self, x):
        return nn.functional.one_hot((2 * x[:, 0]).round().long(), 3).movedim(-1, 1).float()


def test_an_evaluation_counts_what_the_cpu_counts():
    images, masks = samples(5, (60, 50))
    images = (images // 100 * 127).clamp(max=255)
    loader = [(images[n, None], masks[n, None], [f"{n}"]) for n in range(5)]
    found = []
    for device in ("cpu", DEVICE):
        hardware = choose_hardware(device, "fp32")
        predictor = Predictor(Painted(), hardware=hardware, mean=(0,) * 3, std=(1,) * 3)
        options = {"boundaries": True, "calibration": True, "loss": CrossEntropy()}
        found.append(evaluate_images(predictor, loader, 3, **options))
    cpu, cuda = found
    assert torch.equal(cpu.matrices, cuda.matrices)
    assert all(np.array_equal(a, b) for a, b in zip(cpu.boundary, cuda.boundary, strict=True))
    assert np.allclose(cpu.calibration, cuda.calibration)
    assert cuda.loss == pytest.approx(cpu.loss, rel=1e-5)


# Memory


@pytest.fixture
def limit():
    """Leave a share of the device's memory to the process; returns the setter, in bytes."""

    def leave(count):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        held = torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction((held + count) / total)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_too_large_a_step_says_what_fits(limit):
    run = experiment(model=network())
    run.train_set = TensorDataset(*samples(8, (512, 512)))
    run.batch_size = 8
    trainer = Trainer(run)
    limit(200 * 2**20)
    with pytest.raises(UserError, match=r"too little memory to train on 8 images of 512x512"):
        trainer.fit()


def test_too_large_an_image_is_evaluated_in_tiles(limit):
    torch.manual_seed(0)
    model = create_model("unet", "lenet", num_classes=3)
    hardware = choose_hardware(DEVICE, "fp32")
    hardware.to_device(model)
    images, masks = samples(1, (2048, 2048))
    predictor = Predictor(model, hardware=hardware, mean=MEAN, std=STD)
    whole = evaluate_images(predictor, [(images, masks, ["large"])], 3)
    limit(300 * 2**20)
    tiled = evaluate_images(predictor, [(images, masks, ["large"])], 3)
    assert (whole.tiled, tiled.tiled) == (None, "large")
    apart = (whole.matrix - tiled.matrix).abs().sum()
    assert apart <= 1e-4 * whole.matrix.sum()


# Several devices


def one_of_two(rank, port, folder):
    from pathlib import Path

    from segkit.distributed import join_processes

    become(rank, port)
    hardware = choose_hardware(DEVICE, "fp32")
    with join_processes(hardware.device) as processes:
        torch.manual_seed(0)
        images, masks = samples(13)
        run = Experiment(
            network(),
            TensorDataset(images, masks),
            classes=["a", "b", "c"],
            mean=MEAN,
            std=STD,
            hardware=hardware,
            processes=processes,
            batch_size=2,
            epochs=1,
            accumulate=2,
            ema=0.5,
            optimizer={"name": "sgd", "lr": 0.05},
        )
        trainer = Trainer(run, Path(folder) / "run")
        trainer.fit()
        state = {k: v.cpu() for k, v in trainer.state.model.state_dict().items()}
        torch.save(state, Path(folder) / f"{rank}.pt")


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.device_count() < 2, reason="needs two devices"
)
def test_two_processes_over_nccl_agree(tmp_path, free_port):
    """13 images, SyncBN and two batches in a step: the last one is in one process alone."""
    torch.multiprocessing.spawn(one_of_two, (free_port, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one if "num_batches" not in name)
