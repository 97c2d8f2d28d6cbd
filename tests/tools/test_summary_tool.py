"""segkit summary as a user runs it."""

import json
import shutil

import pytest

from segkit import registry
from segkit.commands import main
from segkit.config import load_config
from segkit.errors import UserError
from segkit.model import build_model


@pytest.fixture
def summary():
    return lambda *arguments: main(["summary", *map(str, arguments)])


def test_the_table_and_the_totals(tiny_config, tiny_set, summary, capsys, tmp_path):
    shutil.rmtree(tiny_set.root)  # no data is needed
    crop = [{"RandomCrop": {"height": 40, "width": 48}}]
    file = tmp_path / "summary.json"
    config = tiny_config({"data.train_transforms": crop})
    assert summary(config, "--json", file) == 0
    output = capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["size"] == [40, 48]
    for part in (
        "unet on vgg11_bn",
        "features.0",
        "Conv2d 3x3",
        "Bilinear x2",
        "40x48 (H x W), padded to 48x48",
        f"{written['parameters']:,}",
        f"{written['reach'][2]} pixels",
        "MB in bf16",
    ):
        assert part in output
    assert max(map(len, output.splitlines())) <= 80
    assert written["layers"][0]["name"] == "encoder.features.0"
    assert written["layers"][0]["field"] == 3
    assert sum(layer["macs"] for layer in written["layers"]) == written["macs"]


def test_the_size_is_the_users(tiny_config, summary, capsys):
    crop = [{"RandomCrop": {"height": 40, "width": 48}}]
    assert summary(tiny_config({"data.train_transforms": crop}), "--size", "64", "96") == 0
    output = capsys.readouterr().out
    assert "64x96 (H x W)\n" in output


def test_without_a_crop_the_size_is_imagenets(tiny_config, summary, capsys):
    assert summary(tiny_config()) == 0
    assert "224x224 (H x W)\n" in capsys.readouterr().out


def test_pretrained_weights_are_not_looked_for(tiny_config, summary, tmp_path):
    missing = tmp_path / "missing.pth"
    config = tiny_config({"model.encoder.weights": str(missing)})
    assert summary(config, "--set", "model.encoder.width=1.0") == 0
    settings = load_config(config, ["model.encoder.width=1.0"])
    with pytest.raises(UserError, match=r"missing\.pth"):
        build_model(settings.model, 5)


def test_the_whole_image_in_json(tiny_config, summary, capsys, tmp_path):
    file = tmp_path / "summary.json"
    config = tiny_config({"model.encoder.norm": "group"})
    assert summary(config, "--json", file) == 0
    assert "receptive field: the whole image" in capsys.readouterr().out
    written = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert written["reach"] is None
    assert written["layers"][-1]["field"] == "image"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--size", "0", "64"], "--size 0 64"),
        (["--size", "64", "-5"], "--size 64 -5"),
        (["--size", "64", "wide"], "--size 64 wide"),
        (["--size", "64.5", "64"], "--size 64.5 64"),
        (["--set", "model.decoder.widht=[8]"], "widht"),
        (["--json", "no/such/folder/file.json"], "no/such/folder/file.json"),
    ],
)
def test_mistakes(arguments, part, tiny_config, summary, capsys):
    assert summary(tiny_config(), *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert part in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""


def test_a_config_that_is_not_there(summary, capsys):
    assert summary("configs/unet_vgg61.yaml") == 2
    assert "did you mean configs/unet_vgg16.yaml?" in capsys.readouterr().err


def test_one_number_is_no_size(tiny_config, summary, capsys):
    with pytest.raises(SystemExit) as end:
        summary(tiny_config(), "--size", "64")
    assert end.value.code == 2


@pytest.fixture
def few_encoders(monkeypatch):
    """Take away the encoders that take a second each to look at."""
    registry.names("encoder")  # registers them
    few = {name: registry.find("encoder", name) for name in ("lenet", "vgg11", "alexnet")}
    monkeypatch.setitem(registry._parts, "encoder", few)


def test_all_parts_are_listed(few_encoders, summary, capsys, tmp_path):
    file = tmp_path / "parts.json"
    assert summary("--list", "--encoder", "vgg11", "--size", "64", "96", "--json", file) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    written = json.loads(file.read_text(), parse_constant=pytest.fail)
    for kind in ("decoder", "encoder"):
        listed = written[f"{kind}s"]
        assert [part["name"] for part in listed] == registry.names(kind)
        for part in listed:
            assert f"\n {part['name']} " in output
            assert f" {part['parameters']:,} " in output
    assert written["losses"] == registry.names("loss")
    assert f"losses: {', '.join(registry.names('loss'))}" in output
    assert "64x96 (H x W)" in output
    assert "timm:NAME" in output
    fields = {part["name"]: part["field"] for part in written["decoders"]}
    assert (fields["pspnet"], fields["fcn"]) == ("image", 214)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "say --list"),
        (("unet_vgg16", "--list"), "say --list"),
        (("--list", "--set", "a=1"), "--set changes an experiment"),
        (("unet_vgg16", "--encoder", "lenet"), "--encoder goes with --list"),
        (("--list", "--encoder", "lenett"), "lenet"),
        (("--list", "--size", "0", "3"), "--size 0 3"),
    ],
)
def test_mistakes_about_the_list(arguments, part, summary, capsys):
    assert summary(*arguments) == 2
    captured = capsys.readouterr()
    assert part in captured.err
    assert captured.out == ""
