"""An exported file is used as the checkpoint that it was made of."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segkit
from segkit.checkpoint import find_checkpoint, load_checkpoint
from segkit.commands import main
from segkit.data.images import read_image
from segkit.errors import UserError
from segkit.export import runtime_example
from segkit.hardware import choose_hardware
from segkit.inference import Predictor, Tiles

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One run and its files, for all tests."""
    return {}


@pytest.fixture
def files(exported, run_dir, tiny_set, tmp_path):
    """Export once a module; the data and the run are made anew at the same place each time."""
    out = tmp_path / "exported"
    if not exported:
        command = ["export", str(run_dir), "--to", "onnx", "openvino", "--out", str(out)]
        assert main(command) == 0
        exported |= {path.name: path.read_bytes() for path in out.iterdir()}
        exported["run"] = run_dir
    else:
        out.mkdir()
        for name in set(exported) - {"run"}:
            (out / name).write_bytes(exported[name])
    return out


@pytest.fixture
def photo(tiny_set):
    return sorted((tiny_set.root / "val" / "images").iterdir())[0]


FILES = ("model.onnx", "model.xml")
VIEWS = {
    "plain": {},
    "tiles": {"tiles": Tiles(16)},
    "auto": {"tiles": Tiles("auto")},
    "blended": {"tiles": Tiles(32, "blend")},
    "averaged": {"flip": True, "scales": (0.75, 1.0)},
}


@pytest.mark.slow
def test_everything_that_a_checkpoint_does(files, run_dir, photo, capsys, tmp_path):
    image = read_image(photo, 3, None)
    for name in FILES:
        for view in VIEWS.values():
            ours = Predictor.load(run_dir, "cpu", **view)(image, probabilities=True)
            theirs = Predictor.load(files / name, "cpu", **view)(image, probabilities=True)
            assert torch.equal(ours.mask, theirs.mask), (name, view)
            torch.testing.assert_close(ours.probabilities, theirs.probabilities, atol=2e-3, rtol=0)
    figures = {}
    for model in (run_dir, files / FILES[0], files / FILES[1]):
        out = tmp_path / "scores.json"
        assert main(["eval", str(model), "--json", str(out), "--device", "cpu"]) == 0
        figures[model.name] = json.loads(out.read_text())
    ours, *others = figures.values()
    for each in others:
        assert each["confusion_matrix"] == ours["confusion_matrix"]
        assert each["calibration"]["error"] == pytest.approx(ours["calibration"]["error"], abs=1e-4)
    capsys.readouterr()
    models = [str(run_dir), *(str(files / name) for name in FILES)]
    assert main(["compare", *models, "--out", str(tmp_path / "compared"), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "model.onnx" in printed
    assert "export.format" in printed  # told as a difference


@pytest.mark.slow
def test_the_file_tells_what_it_is(files, run_dir, capsys):
    checkpoint = load_checkpoint(find_checkpoint(run_dir))
    for name in FILES:
        about = Predictor.load(files / name).backend.metadata
        assert [entry["name"] for entry in about["legend"]] == ["ground", "box", "bar"]
        assert about["legend"][1]["color"] == [220, 40, 40]
        assert about["legend"][1]["labels"] == [10]
        assert about["mean"] == pytest.approx(checkpoint["statistics"]["mean"])
        assert about["stride"] == 16
        assert len(about["checkpoint"]["sha256"]) == 64
        assert about["export"]["gate"]["failures"] == []
        assert about["scores"]["miou"] == pytest.approx(checkpoint["scores"]["miou"])
        assert main(["summary", str(files / name)]) == 0
        printed = capsys.readouterr().out
        for words in ("ground, box, bar", "mIoU", "uint8", "unet on vgg11_bn", "sha256"):
            assert words in printed, words


@pytest.mark.slow
def test_the_example_needs_neither_torch_nor_segkit(files, run_dir, photo, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted = ["onnxruntime", "numpy", "pillow"]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    script = tmp_path / "runtime_example.py"
    shutil.copy(runtime_example.__file__, script)
    assert len(script.read_text().splitlines()) <= 32
    out = tmp_path / "mask.png"
    subprocess.run([python, script, files / "model.onnx", photo, out], check=True, cwd=tmp_path)
    probe = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert probe.returncode != 0
    mask = Predictor.load(run_dir, "cpu")(read_image(photo, 3, None)).mask.numpy()
    colors = np.array([[90, 160, 90], [220, 40, 40], [40, 60, 220]], np.uint8)
    assert np.array_equal(np.asarray(Image.open(out)), colors[mask])


@pytest.mark.slow
def test_int8_passes_its_own_gate(run_dir, tmp_path, capsys):
    out = tmp_path / "int8"
    command = ["export", str(run_dir), "--to", "onnx", "openvino", "--precision", "int8"]
    main([*command, "--calibrate", "4", "--out", str(out), "--bound-miou", "5", "--force"])
    assert "calibrated on 4 images of 'train'" in capsys.readouterr().out
    rows = json.loads((out / "export.json").read_text())
    fp32 = sum(p.numel() for p in load_checkpoint(find_checkpoint(run_dir))["model"].values()) * 4
    for row in rows:
        assert row["precision"] == "int8"
        assert row["equal_pixels"] > 0.95
        assert 0 < row["logit_difference"] < 0.3  # rounded, but not wrong
        size = (out / row["file"]).stat().st_size
        assert size < fp32 or row["file"].endswith(".xml")


@pytest.mark.slow
def test_no_runtime_reports_its_use(run_dir, tmp_path):
    """ONNX Runtime and NNCF note who they report for in the home folder, before any report."""
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "XDG_CACHE_HOME")}
    command = ["export", str(run_dir), "--to", "onnx", "openvino", "--precision", "int8", "--force"]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "segkit",
            *command,
            "--images",
            "1",
            "--out",
            str(tmp_path / "int8"),
        ],
        env={
            **kept,
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(Path(segkit.__file__).parents[1]),
        },
        check=True,
    )
    assert (tmp_path / "int8" / "export.json").is_file()
    left = {path.name for path in (tmp_path / "home").rglob("*")}
    assert not left & {"deviceid", "onnxruntime.db", "openvino_ga_cid", "stats"}


@pytest.mark.slow
def test_half_precision_is_close(run_dir, tmp_path):
    out = tmp_path / "half"
    command = ["export", str(run_dir), "--to", "torch", "torchscript", "--precision", "half"]
    assert main([*command, "--out", str(out), "--bound-miou", "5", "--bound-class-iou", "9"]) == 0
    rows = json.loads((out / "export.json").read_text())
    for row in rows:
        assert 1e-5 < row["logit_difference"] < 0.05  # it does compute in fewer bits
        assert row["equal_pixels"] > 0.95


@pytest.mark.slow
@pytest.mark.skipif(choose_hardware("cpu").precision != "bf16", reason="needs bf16 instructions")
def test_openvino_computes_in_bf16(run_dir, tmp_path):
    out = tmp_path / "half"
    command = ["export", str(run_dir), "--to", "openvino", "--precision", "fp32", "half"]
    bounds = ["--bound-miou", "5", "--bound-class-iou", "9"]
    assert main([*command, "--out", str(out), *bounds]) == 0
    whole, half = json.loads((out / "export.json").read_text())
    assert whole["logit_difference"] < 1e-5 < half["logit_difference"] < 0.05
    assert half["megabytes"] < 0.7 * whole["megabytes"]


def damaged(tmp_path: Path) -> dict[str, Path]:
    onnx = pytest.importorskip("onnx")
    other = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    for name in ("damaged.onnx", "damaged.xml"):
        (tmp_path / name).write_bytes(b"\x00damaged")
    (tmp_path / "foreign.onnx").write_bytes(other.SerializeToString())
    return {
        "damaged.onnx": "is damaged or no ONNX file",
        "damaged.xml": "is damaged or no OpenVINO file",
        "foreign.onnx": "was not written by segkit export",
        "missing.onnx": "there is no file",
    }


def test_a_file_that_is_none_is_told(tmp_path):
    for name, words in damaged(tmp_path).items():
        with pytest.raises(UserError, match=words):
            Predictor.load(tmp_path / name)
