"""A GPU whose memory does not suffice, played by a hook."""

import numpy as np
import pytest
import torch

from segkit.errors import UserError
from segkit.evaluation import evaluate_images
from segkit.experiment import Experiment
from segkit.hardware import choose_hardware
from segkit.inference import Predictor, Tiles
from segkit.inference.memory import Room
from segkit.losses import CrossEntropy
from segkit.model import create_model
from segkit.training.trainer import Trainer

SIZE = (96, 80)


def limited(pixels):
    """A hook that refuses batches of more pixels."""

    def refuse(module, inputs):
        count, _, height, width = inputs[0].shape
        is_real = type(inputs[0]) is torch.Tensor  # the receptive field is found without memory
        if is_real and count * height * width > pixels:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    return refuse


def network(pixels, decoder="unet"):
    torch.manual_seed(0)
    model = create_model(decoder, "lenet", num_classes=3)  # of a small receptive field
    model.encoder.register_forward_pre_hook(limited(pixels))
    return model


def samples(count, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    images = [
        torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8)) for _ in range(count)
    ]
    return [(image, (image[0] // 100).long()) for image in images]


def experiment(pixels, count=4, **options):
    return Experiment(
        network(pixels, options.pop("decoder", "unet")),
        samples(8, (32, 32)),
        samples(2),
        hardware=choose_hardware("cpu", "fp32"),
        classes=["a", "b", "c"],
        batch_size=count,
        epochs=options.pop("epochs", 1),
        optimizer={"name": "sgd", "lr": 0.1},
        **options,
    )


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    """Tiles of up to 64x64 pixels, halo included, as memory has room for."""
    monkeypatch.setattr(
        "segkit.inference.predictor.find_room", lambda *_: Room(64 * 64, per_pixel=1)
    )


@pytest.mark.parametrize(("fits", "accumulate"), [(3, 1), (2, 1), (1, 2)])
def test_training_says_how_many_images_fit(fits, accumulate):
    trainer = Trainer(experiment(fits * 32 * 32, accumulate=accumulate))
    half = 2 if fits > 1 else 1
    with pytest.raises(UserError) as error:
        trainer.fit()
    for part in (
        "too little memory to train on 4 images of 32x32 at once; there is enough for "
        f"{half}: set data.batch_size={half} train.accumulate={4 // half * accumulate} ",
        "model.encoder.checkpointing=true",
        "checkpoints stay as they were",
    ):
        assert part in str(error.value)
    assert Trainer(experiment(fits * 32 * 32, half, accumulate=4 // half * accumulate))


def test_training_says_where_no_image_fits():
    with pytest.raises(UserError, match="at once; not even for one: take smaller crops"):
        Trainer(experiment(1000)).fit()


def evaluated(model, **options):
    mean, std = (0.5,) * 3, (0.25,) * 3
    predictor = Predictor(model, mean=mean, std=std, **options)
    loader = [(image[None], mask[None], [f"{n}.png"]) for n, (image, mask) in enumerate(samples(3))]
    return evaluate_images(predictor, loader, 3, calibration=True, loss=CrossEntropy())


def test_what_does_not_fit_whole_is_evaluated_in_exact_tiles():
    enough, little = 10**6, 64 * 64
    whole, tiled = (evaluated(network(pixels, "unet")) for pixels in (enough, little))
    assert (whole.tiled, tiled.tiled) == (None, "0.png")
    assert torch.equal(whole.matrices, tiled.matrices)
    assert np.allclose(whole.calibration, tiled.calibration)
    assert tiled.loss == pytest.approx(whole.loss, rel=1e-5)


def test_what_fits_in_no_way_is_told():
    with pytest.raises(UserError, match=r"0\.png, of 96x80 pixels, needs more memory than cpu has"):
        evaluated(network(10))
    with pytest.raises(UserError, match=r"0\.png.* has; use a smaller tile"):
        evaluated(network(10), tiles=Tiles(32))
    with pytest.raises(UserError, match=r"0\.png.* every pixel sees the whole image"):
        evaluated(network(10, "pspnet"))


def test_a_validation_that_does_not_fit_loses_no_epoch_and_is_told_once(tmp_path, capsys):
    trainer = Trainer(experiment(64 * 64, decoder="unet", epochs=2), tmp_path / "tiled")
    trainer.fit()
    assert capsys.readouterr().out.count("validation in exact tiles, as '0' does not fit") == 1

    run = experiment(64 * 64, decoder="pspnet")
    with pytest.raises(UserError, match="needs more memory"):
        Trainer(run, tmp_path / "whole").fit()
    run.model.encoder._forward_pre_hooks.clear()  # a larger GPU
    trainer = Trainer(run, tmp_path / "whole", resume=True)
    steps = trainer.state.progress.step
    assert (trainer.state.progress.epoch, steps) == (0, 2)
    trainer.fit()
    assert len(trainer.state.progress.history) == 1
    fresh = Trainer(experiment(10**6, decoder="pspnet"))
    expected = fresh.fit()[0]
    found = trainer.state.progress.history[0]
    assert (found["loss"], found["miou"]) == (expected["loss"], expected["miou"])
