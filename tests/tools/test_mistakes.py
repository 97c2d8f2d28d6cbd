"""A user's mistake ends in one sentence with the way out, and exit code 2."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def mistake(capsys):
    """Check that a tool ended with 2, told one error without a traceback; gives the text."""

    def check(code: int, *parts: object) -> str:
        text = capsys.readouterr().err
        assert code == 2, text
        assert text.startswith("error: ")
        assert "Traceback" not in text
        for part in parts:
            assert str(part) in text
        return text

    return check


def test_wrong_config_path(train, mistake):
    code = train("configs/unet_vgg61.yaml")
    mistake(code, "configs/unet_vgg61.yaml is not a file", "did you mean configs/unet_vgg16.yaml?")


def test_missing_data_folder(tiny_config, tiny_set, train, mistake, tmp_path):
    shutil.rmtree(tiny_set.root)
    mistake(train(tiny_config()), tiny_set.root, "--data-root DIR")
    assert not (tmp_path / "run").exists()


def test_misspelt_key(tiny_config, train, mistake):
    config = tiny_config({"train.epoch": 3})
    line = 1 + next(i for i, s in enumerate(config.read_text().splitlines()) if s == "  epoch: 3")
    mistake(train(config), f"{config}:{line}: train.epoch is an unknown key", "'epochs'")


def test_misspelt_override(tiny_config, train, mistake):
    mistake(train(tiny_config(), "--set", "train.epocs=3"), "--set train.epocs=3", "'epochs'")


def test_mask_value_outside_the_map(tiny_config, tiny_set, train, mistake, tmp_path):
    bad = tiny_set.root / "val/masks/val_1.png"
    mask = np.array(Image.open(bad))
    mask[:10] = 77
    Image.fromarray(mask).save(bad)
    mistake(train(tiny_config()), bad, "77 (25.0% of the pixels)", "label_map", "77: ignore")
    assert not (tmp_path / "run").exists()  # found before the first step


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_truncated_png(kind, workers, tiny_config, tiny_set, train, mistake):
    bad = tiny_set.root / "train" / kind / "train_3.png"
    data = bad.read_bytes()
    bad.write_bytes(data[: len(data) // 2])
    mistake(train(tiny_config({"data.workers": workers})), bad, "cannot be read")


def test_sizes_that_differ(tiny_config, tiny_set, train, mistake):
    bad = tiny_set.root / "train/images/train_0.png"
    Image.new("RGB", (50, 40)).save(bad)
    mistake(train(tiny_config()), bad, "40x50", "40x48")


def test_unwritable_run_folder(tiny_config, train, mistake, tmp_path):
    (tmp_path / "file").write_text("in the way")
    run = tmp_path / "file" / "run"
    mistake(train(tiny_config({"run_dir": str(run)})), run, "--set run_dir=DIR")


def test_second_start_without_resume(tiny_config, train, mistake):
    config = tiny_config({"train.epochs": 1})
    assert train(config) == 0
    mistake(train(config), "already holds a run", "--resume", "--set run_dir=DIR")


def test_resume_with_nothing_there(tiny_config, train, mistake):
    mistake(train(tiny_config(), "--resume"), "nothing to resume", "leave out --resume")


def test_resume_with_another_model(tiny_config, train, mistake):
    assert train(tiny_config({"train.epochs": 1})) == 0
    other = tiny_config({"train.epochs": 1, "model.decoder": {"name": "unpool"}})
    mistake(train(other, "--resume"), "other settings", "model.decoder.name: unet -> unpool")


def test_resume_from_a_torn_checkpoint(tiny_config, train, mistake, tmp_path):
    config = tiny_config({"train.epochs": 1})
    assert train(config) == 0
    last = tmp_path / "run/checkpoints/last.pt"
    last.with_name("previous.pt").unlink()
    last.write_bytes(last.read_bytes()[:5000])
    mistake(train(config, "--resume"), last, "damaged")


def test_eval_of_another_models_checkpoint(tiny_config, train, evaluate, mistake, tmp_path):
    assert train(tiny_config({"train.epochs": 1})) == 0
    path = tmp_path / "run/checkpoints/best.pt"
    content = torch.load(path, weights_only=True)
    content["config"]["model"]["encoder"]["width"] = 0.25
    torch.save(content, path)
    mistake(evaluate(path), path, "checkpoint of another model")


def test_eval_of_a_weight_file(evaluate, mistake, tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    mistake(evaluate(path), path, "not a segkit checkpoint")


def test_eval_without_a_checkpoint(evaluate, mistake, tmp_path):
    mistake(evaluate(tmp_path), "holds no checkpoint")
    mistake(evaluate(tmp_path / "no.pt"), "no.pt; name a run folder")
    mistake(evaluate("configs/unet_vgg16.yaml"), "is no checkpoint; name the run folder")


def test_eval_of_an_unknown_split(tiny_config, train, evaluate, mistake, tmp_path):
    assert train(tiny_config({"train.epochs": 1})) == 0
    mistake(evaluate(tmp_path / "run", "--split", "vall"), "unknown split 'vall'", "'val'")


def test_eval_finds_moved_data(tiny_config, tiny_set, train, evaluate, mistake, tmp_path):
    assert train(tiny_config({"train.epochs": 1})) == 0
    moved = tmp_path / "elsewhere"
    tiny_set.root.rename(moved)
    tiny_set.card.unlink()
    mistake(evaluate(tmp_path / "run"), tiny_set.root)
    assert evaluate(tmp_path / "run", "--data-root", moved) == 0


def test_images_of_different_sizes_need_a_crop(tiny_config, tiny_set, train, mistake):
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        Image.new(mode, (64, 32)).save(tiny_set.root / "train" / kind / "train_0.png")
    mistake(train(tiny_config({"data.batch_size": 6})), "(32, 64)", "RandomCrop")
    crop = [{"RandomCrop": {"height": 32, "width": 48}}]
    assert train(tiny_config({"data.batch_size": 6, "data.train_transforms": crop})) == 0


def test_weights_that_are_not_there(tiny_config, train, mistake, tmp_path):
    config = tiny_config({"model.encoder.weights": str(tmp_path / "no.pth")})
    mistake(train(config), tmp_path / "no.pth")
    assert not (tmp_path / "run").exists()


def test_channels_and_means_must_agree(tiny_config, train, mistake):
    mistake(train(tiny_config({"model.in_channels": 1})), "data.mean has 3", "in_channels is 1")


def test_debug_shows_the_traceback(tiny_config, train):
    with pytest.raises(ValueError, match="is not a file"):
        train("no.yaml", "--debug")


def test_a_mistake_from_the_shell(start, tmp_path):
    process = start("train.py", tmp_path / "no.yaml")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert (out, err) == ("", f"error: {tmp_path}/no.yaml is not a file\n")


def test_json_that_cannot_be_written(tiny_config, train, evaluate, mistake, tmp_path):
    assert train(tiny_config({"train.epochs": 1})) == 0
    target = tmp_path / "no" / "scores.json"
    mistake(evaluate(tmp_path / "run", "--json", target), target)


def test_absent_class_is_null_in_json(tiny_config, tiny_set, train, evaluate, tmp_path, capsys):
    for mask in (tiny_set.root / "val/masks").iterdir():
        raw = np.array(Image.open(mask))
        raw[raw == 10] = 99
        Image.fromarray(raw).save(mask)
    assert train(tiny_config({"train.epochs": 8})) == 0
    assert evaluate(tmp_path / "run", "--json", tmp_path / "s.json") == 0
    found = json.loads(Path(tmp_path / "s.json").read_text())
    box = found["classes"].index("box")
    assert found["scores"]["accuracy"][box] is None
    assert "n/a" in capsys.readouterr().out
