"""Experiments and cards that come along are found by name."""

from pathlib import Path

import pytest

from segkit import shipped
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.errors import UserError


@pytest.mark.parametrize("name", ["unet_vgg16", "unet_vgg16.yaml", "configs/unet_vgg16.yaml"])
def test_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(name)
    assert (config.model.decoder.name, config.run_dir) == ("unet", "runs/unet_vgg16")
    card = load_card(config.data.card)
    assert card.name == "streets"


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("unet_vgg16").write_text((shipped.folder_of("configs") / "fcn8s_vgg16.yaml").read_text())
    assert load_config("unet_vgg16").model.decoder.name == "fcn"


def test_other_folders_are_not_looked_into(tmp_path):
    for name in ("mine/unet_vgg16.yaml", str(tmp_path / "unet_vgg16.yaml"), "unet_vgg16.txt"):
        assert shipped.find("configs", name) == Path(name)


def test_a_near_miss_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="did you mean unet_vgg16"):
        load_config("unett_vgg16")
    with pytest.raises(UserError, match="did you mean streets"):
        load_card("strets")


def test_data_of_an_installed_card_never_lies_in_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages/shipped"
    (package / "datasets").mkdir(parents=True)
    card = shipped.folder_of("datasets") / "streets.yaml"
    (package / "datasets/streets.yaml").write_text(card.read_text())
    monkeypatch.setattr(shipped, "INSTALLED", package)
    monkeypatch.chdir(tmp_path)
    assert load_card("streets").root == str(tmp_path / "datasets/streets")
    assert shipped.names_of("datasets") == ["streets"]
