"""The same bits again on a CUDA device; what can be seen elsewhere is in training/."""

import pytest
import torch
from networks import VARIANTS, build
from torch.utils.data import TensorDataset

from segkit.errors import UserError
from segkit.evaluation.confusion import count_pairs
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware
from segkit.training.trainer import Trainer

pytestmark = pytest.mark.gpu


def run(model, precision="fp32", **options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 65, 97), dtype=torch.uint8, generator=generator)
    masks = (images[:, 0] // 100).long()
    masks[:, :3] = 255
    return Experiment(
        model,
        TensorDataset(images, masks),
        TensorDataset(images[:2], masks[:2]),
        classes=["a", "b", "c"],
        hardware=choose_hardware("cuda", precision),
        deterministic=True,
        **{
            "batch_size": 2,
            "epochs": 2,
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "ema": 0.9,
            **options,
        },
    )


def outcome(trainer):
    history = trainer.fit()
    weights = {k: v.cpu() for k, v in trainer.state.model.state_dict().items()}
    return weights, [(row["loss"], row["val_loss"], row["miou"]) for row in history]


def assert_equal(one, other):
    assert one[1] == other[1]
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if "bicubic" not in name])
def test_a_run_gives_the_same_bits_again(variant, precision):
    first, second = (outcome(Trainer(run(build(variant), precision))) for _ in range(2))
    assert_equal(first, second)


@pytest.mark.parametrize("loss", ["cross_entropy_dice", "focal", "lovasz", "ohem"])
def test_every_loss_does(loss):
    options = {"loss": loss, "accumulate": 2, "clip_norm": 0.5}
    first, second = (
        outcome(Trainer(run(build("unet-bilinear"), "bf16", **options))) for _ in range(2)
    )
    assert_equal(first, second)


def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(tmp_path):
    whole = outcome(Trainer(run(build("unet-bilinear"), epochs=4)))

    class Stop(Trainer):
        def _finish_epoch(self, evaluation):
            self.signals.requested = self.state.progress.epoch == 1
            super()._finish_epoch(evaluation)

    Stop(run(build("unet-bilinear"), epochs=4), tmp_path).fit()
    resumed = Trainer(run(build("unet-bilinear"), epochs=4), tmp_path, resume=True)
    assert resumed.state.progress.epoch == 2
    assert_equal(outcome(resumed), whole)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "bicubic" in name])
def test_bicubic_upsampling_is_refused_in_a_sentence(variant):
    with pytest.raises(UserError, match=r"no deterministic form of 'upsample_bicubic2d_backward"):
        Trainer(run(build(variant))).fit()


@pytest.mark.parametrize("num_classes", [2, 19, 150])
@pytest.mark.usefixtures("deterministic_algorithms")
def test_counts_are_exact_and_small(num_classes):
    generator = torch.Generator().manual_seed(0)
    prediction, target = (
        torch.randint(num_classes, (2048, 1024), dtype=torch.uint8, generator=generator)
        for _ in range(2)
    )
    target[::5] = 255
    there = prediction.cuda(), target.cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = count_pairs(*there, num_classes).cpu()
    assert torch.cuda.max_memory_allocated() - before < 32 * prediction.numel()
    assert torch.equal(found, count_pairs(prediction, target, num_classes))
