"""Every decoder on three kinds of encoder: it trains, resumes, predicts, and is exported."""

import pytest
import torch
from networks import SMALL

from segkit.checkpoint import find_checkpoint, load_checkpoint, restore_model
from segkit.commands import main
from segkit.data.images import read_image
from segkit.inference import Predictor
from segkit.registry import names
from segkit.training.listeners import pictures

ENCODERS = {
    "vgg16_bn": {"width": 1 / 16},
    "resnet18": {},
    "timm:test_vit": {"pyramid_width": 16},
}
PAIRS = [(encoder, decoder) for encoder in ENCODERS for decoder in names("decoder")]


def experiment(tiny_config, encoder: str, decoder: str):
    if encoder.startswith("timm:"):
        pytest.importorskip("timm")
    return tiny_config(
        {
            "model.encoder": {"name": encoder, **ENCODERS[encoder]},
            "model.decoder": {"name": decoder, **SMALL.get(decoder, {})},
            "train.samples": 0,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_a_pair_does_all(encoder, decoder, tiny_config, tiny_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "draw_curves", lambda *_: None)  # a sixth of the time
    config = experiment(tiny_config, encoder, decoder)
    command = ["train", str(config), "--device", "cpu"]
    if decoder == "unpool" and encoder != "vgg16_bn":
        assert main(command) == 2
        assert "no indices for max-unpooling" in capsys.readouterr().err
        return
    assert main(command) == 0  # 2 epochs of 3 steps
    half = tmp_path / "half"
    assert main([*command, "--set", f"run_dir={half}", "train.epochs=1"]) == 0
    longer = ["--resume", "--override", "--set", "train.epochs=2", "--device", "cpu"]
    assert main(["train", str(half), *longer]) == 0
    straight, resumed = (
        load_checkpoint(run / "checkpoints" / "last.pt") for run in (tmp_path / "run", half)
    )
    for key, value in straight["model"].items():
        assert torch.equal(value, resumed["model"][key]), key

    photo = sorted((tiny_set.root / "val" / "images").iterdir())[0]
    mask = Predictor.load(half, "cpu")(read_image(photo, 3, None)).mask
    assert mask.shape == (40, 48)
    assert main(["summary", str(config)]) == 0
    assert f"{decoder} on {encoder}" in capsys.readouterr().out

    model = restore_model(resumed, find_checkpoint(half)).eval()
    image = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        found = torch.export.export(model, (image,)).module()(image)
        torch.testing.assert_close(found, model(image), rtol=1e-3, atol=1e-4)
