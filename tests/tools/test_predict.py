"""Prediction from the command line: a checkpoint, and whatever files there are."""

import json
import os
import re
import signal
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from segkit.checkpoint import save_checkpoint
from segkit.commands import main
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.data.images import read_image
from segkit.data.label_map import LabelMap
from segkit.inference import Predictor
from segkit.model import build_model

COLORS = ((90, 160, 90), (220, 40, 40), (40, 60, 220))  # of the tiny set
RAW_VALUES = (0, 10, 20)
COLOR_LABELS = {"0 0 0": "ground", "255 0 0": "box", "0 0 255": "bar"}


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """Write the checkpoint of an untrained network, which predicts noise."""
    config = load_config(tiny_config())
    card = load_card(config.data.card)
    torch.manual_seed(0)
    model = build_model(config.model, card.num_classes)
    nn.init.normal_(model.decoder.head.weight)
    content = {"config": config.model_dump(), "card": card.model_dump(), "epoch": 1, "scores": None}
    path = tmp_path / "run/checkpoints/best.pt"
    save_checkpoint(path, {**content, "model": model.state_dict()})
    return tmp_path / "run"


@pytest.fixture
def predict(checkpoint, tmp_path):
    """Run segkit predict on the CPU into a folder `out`; gives its exit code."""

    def run(*arguments, out=tmp_path / "out", run=checkpoint):
        return main(
            ["predict", str(run), *map(str, arguments), "--out", str(out), "--device", "cpu"]
        )

    return run


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def predicted(run, path, **options):
    return Predictor.load(run, "cpu", **options)(read_image(path)).mask.numpy()


def test_masks_of_a_folder_score_as_evaluation_says(
    predict, evaluate, checkpoint, tiny_set, tmp_path, capsys
):
    assert predict(tiny_set.root / "val/images") == 0
    out = tmp_path / "out"
    assert names(out) == ["val_0.png", "val_1.png", "val_2.png"]
    printed = capsys.readouterr()
    assert "3 images in" in printed.out
    assert "images/s" in printed.out
    assert "\r" not in printed.out + printed.err  # no bar where there is no terminal
    assert "\x1b" not in printed.out + printed.err
    labels = LabelMap(load_card(tiny_set.card))
    right = judged = 0
    for path in out.iterdir():
        mask = labels.read(path)
        truth = labels.read(tiny_set.root / "val/masks" / path.name)
        assert set(np.unique(np.array(Image.open(path)))) <= set(RAW_VALUES)
        right += ((mask == truth) & (truth != 255)).sum()
        judged += (truth != 255).sum()
    assert evaluate(checkpoint, "--json", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert scores["pixel_accuracy"] == pytest.approx(right / judged, abs=1e-12)


def test_all_that_can_be_written(predict, checkpoint, tiny_set, tmp_path):
    image = tiny_set.root / "val/images/val_1.png"
    assert predict(image, "--overlay", "--color", "--probabilities") == 0
    out = tmp_path / "out"
    endings = [".png", "_color.png", "_overlay.png", "_probabilities.npz"]
    assert names(out) == ["legend.png", *(f"val_1{ending}" for ending in endings)]
    mask = predicted(checkpoint, image)
    assert len(np.unique(mask)) > 1
    assert (np.array(Image.open(out / "val_1.png")) == np.array(RAW_VALUES)[mask]).all()
    assert (np.array(Image.open(out / "val_1_color.png")) == np.array(COLORS)[mask]).all()
    assert Image.open(out / "val_1_overlay.png").size == (48, 40)
    held = np.load(out / "val_1_probabilities.npz")
    assert (held["probabilities"].argmax(0) == mask).mean() > 0.99  # 16 bits may tie
    np.testing.assert_allclose(held["probabilities"].sum(0, dtype=np.float32), 1, atol=2e-3)
    assert held["classes"].tolist() == ["ground", "box", "bar"]


def test_other_cards_labels(predict, checkpoint, tiny_set, tmp_path):
    image = tiny_set.root / "val/images/val_1.png"
    path = checkpoint / "checkpoints/best.pt"
    content = torch.load(path, weights_only=True)
    mask = predicted(checkpoint, image)
    for label_map, mode in (
        ({0: "ground", 255: "box", 9: "bar"}, "P"),
        ({0: "ground", 1: "box", 40000: "bar"}, "I;16"),
        (COLOR_LABELS, "RGB"),
    ):
        save_checkpoint(path, {**content, "card": {**content["card"], "label_map": label_map}})
        assert predict(image) == 0
        with Image.open(tmp_path / "out/val_1.png") as picture:
            assert picture.mode == mode
        card = Predictor.load(checkpoint, "cpu").card
        assert (LabelMap(card).read(tmp_path / "out/val_1.png") == mask).all()


def test_folders_globs_and_files_of_every_kind(predict, checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 50, 3), np.uint8)
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder / "turned.JPG", exif=exif)
    picture.convert("L").save(folder / "grey.png")
    picture.convert("RGBA").save(folder / "sub/alpha.png")
    picture.quantize(16).save(folder / "sub/grey.gif")
    picture.save(folder / "plain.tif")
    np.save(folder / "sub/array.npy", pixels)
    expected = ["grey.png", "plain.png", "sub/alpha.png", "sub/array.png", "sub/grey.png"]
    assert predict(folder) == 0
    assert names(tmp_path / "out") == [*expected, "turned.png"]
    for name in names(folder):
        found = np.array(Image.open((tmp_path / "out" / name).with_suffix(".png")))
        mask = predicted(checkpoint, folder / name)
        assert mask.shape == ((50, 30) if name == "turned.JPG" else (30, 50))
        assert (found == np.array(RAW_VALUES)[mask]).all()
    assert predict(f"{folder}/**/a*.*", out=tmp_path / "globbed") == 0
    assert names(tmp_path / "globbed") == ["sub/alpha.png", "sub/array.png"]
    # again, with the results inside the folder
    assert predict(folder, out=folder / "out") == 0
    assert predict(folder, out=folder / "out") == 0
    assert names(folder / "out") == [*expected, "turned.png"]


def test_nothing_predicted_has_no_rate_of_many_zeros(predict, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert predict(tmp_path / "bad.png") == 1
    assert re.search(r"^0 images in [\d.]+ s: ", capsys.readouterr().out, re.MULTILINE)


def test_bad_files_are_told_and_skipped(predict, tiny_set, tmp_path, capsys):
    folder = tiny_set.root / "val/images"
    (folder / "val_1.png").write_bytes((folder / "val_1.png").read_bytes()[:300])
    Image.fromarray(np.zeros((40, 48), np.uint16)).save(folder / "deep.png")
    (folder / "clip.mp4").write_bytes(b"nothing")
    assert predict(folder) == 1
    assert names(tmp_path / "out") == ["val_0.png", "val_2.png"]
    printed = capsys.readouterr()
    assert "2 images in" in printed.out
    lines = [line for line in printed.err.splitlines() if line.startswith("skipped ")]
    assert len(lines) == 3
    for name, line in zip(("clip.mp4", "deep.png", "val_1.png"), lines, strict=True):
        assert str(folder / name) in line
    assert "3 of 5 files skipped" in printed.err
    assert "Traceback" not in printed.err


def test_too_little_memory_names_the_way_out(predict, tiny_set, tmp_path, capsys, monkeypatch):
    images = sorted((tiny_set.root / "val/images").iterdir())
    original = Predictor.__call__

    def call(self, image, **options):
        calls.append(image)
        if len(calls) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return original(self, image, **options)

    for options, remedy in (
        ((), "--tile auto"),
        (("--tile", 256), "a smaller --tile"),
        (("--tile", "auto"), "a smaller --memory"),
    ):
        calls = []
        monkeypatch.setattr(Predictor, "__call__", call)
        assert predict(*images, *options) == 1
        assert f"{images[1]}: needs more memory than there is; use {remedy}" in (
            capsys.readouterr().err
        )
    monkeypatch.setattr(Predictor, "__call__", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a fault of ours is no bad file
        predict(*images)


@pytest.fixture
def refused(capsys, tmp_path):
    """Check that a call ended before any work; gives what it said."""

    def check(code):
        printed = capsys.readouterr()
        assert code == 2
        assert printed.err.startswith("error: ")
        assert len(printed.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
        return printed.err

    return check


def test_mistakes_are_told_before_any_work(predict, refused, tiny_set, tmp_path):
    folder = tiny_set.root / "val/images"
    image = folder / "val_0.png"
    nowhere = tmp_path / "no_run"
    assert "there is no file or folder" in refused(predict(folder / "none.png", run=nowhere))
    assert "no image or video there" in refused(predict(f"{folder}/*.bmp", run=nowhere))
    assert "no_run" in refused(predict(image, run=nowhere))
    assert "is an input" in refused(predict(folder, out=folder, run=nowhere))
    other = tiny_set.root / "train/images/val_0.jpg"
    Image.open(image).save(other)
    said = refused(predict(image, other, run=nowhere))
    assert "would both be written to" in said
    assert str(image) in said
    assert str(other) in said
    assert "no folder" in refused(predict(image, out=tiny_set.card, run=nowhere))
    assert "scales" in refused(predict(image, "--scales", 99))
    assert names(folder) == ["val_0.png", "val_1.png", "val_2.png"]


def test_a_full_disk_ends_it(predict, tiny_set, tmp_path, capsys, monkeypatch):
    def save(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    assert predict(tiny_set.root / "val/images") == 2
    assert "cannot write" in (text := capsys.readouterr().err)
    assert "No space left" in text
    assert names(tmp_path / "out") == []


def test_interrupted_all_that_was_finished_stays(predict, tiny_set, tmp_path, monkeypatch):
    original = Image.Image.save
    saved = []

    def save(self, path, **options):
        saved.append(path)
        original(self, path, **options)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", save)
    assert predict(tiny_set.root / "train/images") == 130
    assert names(tmp_path / "out") == ["train_0.png", "train_1.png"]


def test_ctrl_c_in_a_process_of_its_own(checkpoint, tiny_set, tmp_path, start):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3000):
        os.link(tiny_set.root / "val/images/val_0.png", folder / f"{number:04d}.png")
    out = tmp_path / "out"
    process = start("predict.py", checkpoint, folder / "*.png", "--out", out, "--device", "cpu")
    deadline = time.monotonic() + 60
    while not (out / "0002.png").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "interrupted\n"
    done = names(out)
    assert 3 <= len(done) < 3000
    assert done == [f"{number:04d}.png" for number in range(len(done))]
    for name in done:
        assert Image.open(out / name).size == (48, 40)


def test_tiles_views_and_what_they_cost(predict, checkpoint, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 500, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "long.png")
    Image.fromarray(pixels).save(tmp_path / "longer.png")
    assert predict(tmp_path / "long.png") == 0
    whole = np.array(Image.open(tmp_path / "out/long.png"))
    capsys.readouterr()
    assert predict(tmp_path / "long.png", tmp_path / "longer.png", "--tile", 64) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tiles of")]
    assert len(said) == 1
    assert "tiles of 64 with a halo of " in said[0]
    assert said[0].endswith(" pixels computed for each pixel")
    assert (np.array(Image.open(tmp_path / "out/long.png")) == whole).mean() > 0.999
    assert predict(tmp_path / "long.png", "--tile", 64, "--tile-mode", "blend") == 0
    assert "tiles of 64 that overlap by 25%: 1." in capsys.readouterr().out
    assert predict(tmp_path / "long.png", "--tile", 500) == 0
    assert "tiles of" not in capsys.readouterr().out
    assert predict(tmp_path / "long.png", "--tile", "auto") == 0
    assert "tiles of" not in capsys.readouterr().out
    assert (np.array(Image.open(tmp_path / "out/long.png")) == whole).all()
    assert predict(tmp_path / "long.png", "--tile", "auto", "--memory", 0.000001) == 1
    assert "is too little for a tile of 16 pixels" in capsys.readouterr().err
    assert predict(tmp_path / "long.png", "--flip", "--scales", 0.5, 1) == 0
    expected = predicted(checkpoint, tmp_path / "long.png", flip=True, scales=(0.5, 1.0))
    found = np.array(Image.open(tmp_path / "out/long.png"))
    assert (found == np.array(RAW_VALUES)[expected]).all()


FRAMES = 7


@pytest.fixture
def clip(tmp_path):
    """Write a video without loss: a box that moves to the right."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 12.5, (64, 48))
    for number in range(FRAMES):
        writer.write(cv2.cvtColor(frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def frame(number):
    pixels = np.full((48, 64, 3), (90, 160, 90), np.uint8)
    pixels[10:30, 6 * number : 6 * number + 20] = (220, 40, 40)
    return pixels


def test_a_video(predict, checkpoint, clip, tmp_path, capsys):
    assert predict(clip, "--overlay", "--color") == 0
    assert f"{FRAMES} images in" in capsys.readouterr().out
    out = tmp_path / "out"
    masks = [f"clip/{number:06d}.png" for number in range(FRAMES)]
    assert names(out) == sorted(["clip.mp4", *masks, "clip_color.mp4", "legend.png"])
    predictor = Predictor.load(checkpoint, "cpu")
    mask = predictor(frame(5)).mask.numpy()
    assert (np.array(Image.open(out / masks[5])) == np.array(RAW_VALUES)[mask]).mean() > 0.99
    for name, expected in (
        ("clip.mp4", 0.45 * frame(5) + 0.55 * np.array(COLORS)[mask]),
        ("clip_color.mp4", np.array(COLORS)[mask]),
    ):
        capture = cv2.VideoCapture(str(out / name))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
        frames = []
        while (read := capture.read())[0]:
            frames.append(read[1])
        assert len(frames) == FRAMES
        assert frames[5].shape == (48, 64, 3)
        difference = np.abs(frames[5][..., ::-1] - expected.astype(float))
        assert np.median(difference) < 25  # it is stored with loss


def test_a_video_without_pictures_and_one_cut_short(predict, clip, tmp_path, capsys):
    assert predict(clip) == 0
    assert names(tmp_path / "out") == [f"clip/{number:06d}.png" for number in range(FRAMES)]
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert predict(clip, "--overlay", out=tmp_path / "short") == 1
    assert f"{clip}: " in capsys.readouterr().err
    assert not [name for name in names(tmp_path / "short") if "tmp" in name]


def test_an_interrupted_video_leaves_no_half(predict, clip, tmp_path, monkeypatch):
    original = Predictor.__call__
    calls = []

    def call(self, image, **options):
        calls.append(image)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, image, **options)

    monkeypatch.setattr(Predictor, "__call__", call)
    assert predict(clip, "--overlay") == 130
    assert names(tmp_path / "out") == [*(f"clip/00000{n}.png" for n in range(3)), "legend.png"]


def test_help_needs_no_torch(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "STEM_overlay.png" in capsys.readouterr().out
