"""One key in several values: how it is read, what its contestants are called, and mistakes."""

import re
from pathlib import Path

import pytest

from segkit.comparison.contestants import gather, other_differences
from segkit.comparison.vary import folder_name, load_varied, parse_vary
from segkit.errors import UserError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("train.loss.name=dice,lovasz", ["dice", "lovasz"]),
        ("model.decoder.widths=[16,32],[8, 16]", ["[16,32]", "[8, 16]"]),
        ("train.optimizer.lr=1e-3 , 0.10,null", ["1e-3", "0.10", "null"]),
        ("model.decoder={name: unet, depth: 2},fcn", ["{name: unet, depth: 2}", "fcn"]),
        ("model.encoder.weights='a, b.pth',hf://me/vgg", ["'a, b.pth'", "hf://me/vgg"]),
    ],
)
def test_values_are_items_of_a_yaml_list(text, values):
    vary = parse_vary(text, ["my.yaml"])
    assert vary.key == text.partition("=")[0]
    assert list(vary.values) == values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train.epochs=3", "two values or more"),
        ("model.decoder.widths=[16,32]", "two values or more"),
        ("train.epochs", "two values or more"),
        ("=1,2", "two values or more"),
        ("train.epochs=1,,2", "cannot be read as YAML"),
        ("train.epochs=1],[2", "cannot be read as YAML"),
        ("seed=0,1", "--seeds"),
        ("run_dir=a,b", "--out"),
    ],
)
def test_what_is_no_key_with_values_is_refused(text, told):
    with pytest.raises(UserError, match="--vary") as error:
        parse_vary(text, ["my.yaml"])
    assert told in str(error.value)


def test_one_experiment_is_varied(tmp_path):
    assert parse_vary("a.b=1,2", ["unet_vgg16"]).file.name == "unet_vgg16.yaml"
    for models in (["a.yaml", "b.yaml"], [tmp_path], ["hf://me/model"]):
        with pytest.raises(UserError, match="name the one experiment"):
            parse_vary("a.b=1,2", models)


def test_folders_have_names_that_windows_takes():
    names = ["w=a/b", "w=a:b", "w=a b", "w=[1,2]", 'w="x"', "w=a%2Fb", f"w={'é' * 150}"]
    names += [f"w={'é' * 151}", "loss=dice", "x=a\tb"]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(re.fullmatch(r'[^<>:"/\\|?*\x00-\x1f]{1,120}', folder) for folder in folders)
    assert folder_name("loss=dice") == "loss=dice"


def varied(config, text, overrides=()):
    return load_varied(parse_vary(text, [config]), overrides)


def test_values_are_read_as_by_set(tiny_config):
    found = varied(tiny_config(), "train.optimizer.lr=1e-3,0.5", ["train.epochs=7"])
    assert {name: config.train.optimizer.lr for name, config in found.items()} == {
        "lr=1e-3": 0.001,
        "lr=0.5": 0.5,
    }
    assert {config.train.epochs for config in found.values()} == {7}
    found = varied(tiny_config(), "model.decoder.widths=[8,8,8,8],[4,4,4,4]")
    assert [config.model.decoder.widths for config in found.values()] == [[8] * 4, [4] * 4]
    found = varied(tiny_config(), "train.loss.name=dice,lovasz")
    assert list(found) == ["loss=dice", "loss=lovasz"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train.los.name=dice,lovasz", "train.los is an unknown key; did you mean 'loss'?"),
        ("train.loss.name=dice,lovas", "--vary train.loss.name=lovas: train.loss.name is 'lovas'"),
        ("train.epochs=1,two", "--vary train.epochs=two: train.epochs is 'two'"),
        ("train.epochs=0,1", "--vary train.epochs=0: train.epochs is '0'"),
        ("train.epochs=2,2", "2 and 2 are the same value"),
        ("train.optimizer.lr=0.1,1,0.10", "0.1 and 0.10 are the same value"),
        ("data.train_transforms.0=1,2", "data.train_transforms is not a section"),
    ],
)
def test_values_that_do_not_fit_are_told(tiny_config, text, told):
    config = tiny_config({"data.train_transforms": ["HorizontalFlip"]})
    with pytest.raises(UserError) as error:
        varied(config, text)
    assert told in str(error.value)
    assert str(error.value).startswith("--vary")


def test_options_of_the_first_decoder_that_do_not_fit_the_second_are_told(tiny_config):
    with pytest.raises(UserError) as error:
        varied(tiny_config(), "model.decoder.name=unet,fcn")
    told = str(error.value)
    assert told.startswith("with --vary model.decoder.name=fcn: ")
    assert "model.decoder.widths is an unknown key" in told
    way_out = re.search("--vary (model.decoder=\\S+)", told)[1]
    assert list(varied(tiny_config(), way_out)) == ["decoder=unet", "decoder=fcn"]


def test_a_mistake_elsewhere_brings_no_advice_on_parts(tiny_config):
    with pytest.raises(UserError, match="epoch") as error:
        varied(tiny_config({"train.epoch": 3}), "train.loss.name=dice,lovasz")
    assert "takes each with its defaults" not in str(error.value)


def test_a_key_is_set_or_varied(tiny_config):
    for override in ("train.loss.name=dice", "train.loss.name.x=1"):
        with pytest.raises(UserError, match="leave one of the two out"):
            varied(tiny_config(), "train.loss.name=dice,lovasz", [override])
    found = varied(tiny_config(), "train.loss.name=dice,focal", ["train.loss={name: lovasz}"])
    assert [config.train.loss.name for config in found.values()] == ["dice", "focal"]


def warnings(config, text):
    """What the contestants of a key are warned to differ in besides; none is trained."""
    vary = parse_vary(text, [config])
    contestants = gather([vary], 0, Path("none"))
    return other_differences(contestants, vary.key)


@pytest.mark.parametrize(
    "text",
    [
        "train.epochs=1,2",
        "train.loss.name=cross_entropy_dice,lovasz",  # whose options are other ones
        "train.loss=lovasz,{name: focal, gamma: 1}",
        "model.decoder=unet,fcn",
        "data.train_transforms=[],[HorizontalFlip]",
    ],
)
def test_the_varied_key_is_no_difference_to_warn_of(tiny_config, text):
    assert warnings(tiny_config(), text) == []


def test_what_follows_from_the_varied_key_elsewhere_is_told(tiny_config):
    [line] = warnings(tiny_config({"data.mean": "auto"}), "data.train_split=train,val")
    assert line.startswith("train_split=val differs from train_split=train in data.mean: (")
    assert "train_split:" not in line


def test_an_option_that_both_parts_have_may_not_differ_unseen(tiny_config):
    found = warnings(tiny_config(), "model.encoder.name=vgg11_bn,vgg13_bn")
    assert found == []
    vary = parse_vary("model.decoder.name=unet,unetplusplus", [tiny_config()])
    contestants = gather([vary], 0, Path("none"))
    contestants[1].settings["model"]["decoder"]["widths"] = (1, 2, 3, 4)
    [line] = other_differences(contestants, vary.key)
    assert "model.decoder.widths: (8, 8, 8, 8) -> (1, 2, 3, 4)" in line
    assert "name" not in line.partition(" in ")[2]


def test_runs_are_not_changed_by_set(tiny_config, tmp_path):
    with pytest.raises(UserError, match="is trained"):
        gather([tmp_path], 1, tmp_path / "out", overrides=["train.epochs=1"])
    with pytest.raises(UserError, match="below --out"):
        gather([tiny_config()], 1, tmp_path / "out", overrides=["run_dir=x"])
