"""What is published: installed into an empty environment, it walks from images to a prediction."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segkit

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow  # it installs torch
DATA = ("cells/images", "cells/masks")
SMALL = ["train.epochs=1", "data.repeat=1", "model.encoder.width=0.125"]
SMALL += ["model.decoder.widths=[8,8,8,8]", "data.workers=0"]


def run(*command, cwd):
    """Run a program without what this environment says of segkit; gives its output."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Build the wheel and the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return {path.suffix: path for path in out.iterdir()}


def test_both_pass_the_checks_of_the_index(packages):
    out = run(sys.executable, "-m", "twine", "check", "--strict", *packages.values(), cwd=ROOT)
    assert out.count("PASSED") == 2


def test_the_first_page_has_pictures_and_links_of_its_own(packages):
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith("METADATA")]
        text = wheel.read(name).decode()
    assert "](https://raw.githubusercontent.com/" in text
    assert "/blob/main/configs/README.md)" in text
    assert "](.github" not in text
    assert "](configs" not in text


def test_configs_and_cards_are_in_the_wheel_and_no_data(packages):
    with zipfile.ZipFile(packages[".whl"]) as wheel:
        held = set(wheel.namelist())
    for kind in ("configs", "datasets"):
        here = {f"segkit/share/{kind}/{p.name}" for p in (ROOT / kind).glob("*.yaml")}
        assert {name for name in held if f"share/{kind}/" in name} == here
    assert "segkit/py.typed" in held
    templates = {f"segkit/{p.relative_to(ROOT / 'segkit')}" for p in ROOT.glob("segkit/**/*.j2")}
    assert templates <= held
    assert not any(name.startswith(("tests", "tools", "datasets")) for name in held)
    with tarfile.open(packages[".gz"]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"tests/test_wheel.py", "configs/unet_vgg16.yaml", "Makefile"} <= names
    assert not any("streets/train" in name for name in names)


def test_from_images_to_a_prediction_in_an_empty_environment(packages, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(binaries / "python", "-m", "pip", "install", "-q", packages[".whl"], cwd=tmp_path)
    home = tmp_path / "home"
    for folder in ("images", "masks"):
        (home / "cells" / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(12):
        mask = (generator.random((40, 56)) > 0.5).astype(np.uint8) * 255
        Image.fromarray(mask // 2 + 40).save(home / f"cells/images/{number}.png")
        Image.fromarray(mask).save(home / f"cells/masks/{number}.png")

    def command(*words):
        return run(binaries / "segkit", *words, cwd=home)

    assert command("--version") == f"segkit {segkit.__version__}\n"
    assert "train    segkit train mine/mine.yaml" in command("new", "mine", "--data", *DATA)
    command("check-data", "mine/mine.yaml")
    assert "segkit eval runs/mine" in command("train", "mine/mine.yaml", "--set", *SMALL)
    command("eval", "runs/mine", "--report", "report")
    command("predict", "runs/mine", "cells/images", "--out", "out", "--overlay")
    assert set(np.unique(np.array(Image.open(home / "out/3.png")))) <= {0, 255}
    assert (home / "report/report.html").is_file()
    # a shipped experiment by its name; its data is drawn into the working directory
    streets = ["train.epochs=1", "train.validate_every=1", "model.encoder.width=0.125"]
    streets += ["model.decoder.widths=[8,8,8,8]", "data.workers=0"]
    command("train", "unet_vgg16", "--set", *streets)
    assert (home / "datasets/streets/train/images").is_dir()
    assert not list((tmp_path / "venv").rglob("datasets/streets"))
    assert "unet_vgg16" in command("runs")
