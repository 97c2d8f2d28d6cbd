"""Experiments: every typo is told with line, path and nearest key; overrides; round trips."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from segkit.config import Config, dump_config, load_config, parse_config
from segkit.errors import UserError

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

EXPERIMENT = """\
# a comment, so that keys do not stand where they would by counting alone
run_dir: runs/first
seed: 3
precision: fp32

data:
  card: datasets/streets.yaml
  root: null
  mean: [0.5, 0.4, 0.3]
  std: [0.2, 0.2, 0.2]
  batch_size: 4
  workers: 0
  train_transforms:
    - HorizontalFlip: {p: 0.5}
    - RandomCrop:
        height: 96
        width: 96
    - ToGray:
  eval_transforms: []

model:
  in_channels: 3
  encoder: {name: vgg16_bn, weights: null, norm: group, pool: max, width: 0.125,
            checkpointing: false, frozen_stages: 1}
  decoder:
    name: unet
    upsample: transposed
    widths: [8, 16, 32, 64]
    depth: 1
    norm: group

train:
  epochs: 2
  samples: 3
  loss:
    name: cross_entropy
    label_smoothing: 0.1
  optimizer:
    name: sgd
    lr: 0.1
    momentum: 0.8
    nesterov: true
    weight_decay: 1e-4
    encoder_lr_factor: 0.5
  schedule: {name: poly, power: 0.8, warmup_epochs: 0.5}
"""

MINIMAL = """\
data: {card: datasets/streets.yaml}
model:
  encoder: {name: vgg16}
  decoder: {name: unet}
train:
  epochs: 2
  optimizer: {name: adamw, lr: 1e-3}
"""


@pytest.fixture
def experiment(tmp_path) -> Path:
    return write(tmp_path, EXPERIMENT)


@pytest.fixture
def minimal(tmp_path) -> Path:
    return write(tmp_path, MINIMAL)


def write(folder: Path, text: str, name: str = "experiment.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value)


def line_of(text: str, part: str) -> int:
    """The number of the first line that holds `part`."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


# One letter wrong in any key


def keys(node: yaml.Node, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Every key of the schema with its path; what stands under a transform is not ours."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        yield (*at, key.value), key
        if isinstance(value, yaml.MappingNode):
            yield from keys(value, (*at, key.value))


def dropped(key: str) -> str:
    return key[: len(key) // 2] + key[len(key) // 2 + 1 :]


def swapped(key: str) -> str:
    pairs = [i for i in range(len(key) - 1) if key[i] != key[i + 1]]
    i = pairs[len(pairs) // 2]
    return key[:i] + key[i + 1] + key[i] + key[i + 2 :]


def typos() -> Iterator[Any]:
    sources = [("inline", EXPERIMENT), ("minimal", MINIMAL)]
    sources += [(path.name, path.read_text(encoding="utf-8")) for path in SHIPPED]
    for name, text in sources:
        for number, (path, node) in enumerate(keys(yaml.compose(text))):
            ways = [dropped, swapped] if name == "inline" else [(dropped, swapped)[number % 2]]
            for way in ways:
                wrong = way(path[-1])
                mark = node.start_mark
                broken = text[: mark.index] + wrong + text[node.end_mark.index :]
                label = f"{name}-{'.'.join((*path[:-1], wrong))}"
                marks = () if name == "inline" or number % 5 == 0 else pytest.mark.slow
                yield pytest.param(broken, path, wrong, mark.line + 1, id=label, marks=marks)


@pytest.mark.parametrize(("text", "path", "wrong", "line"), list(typos()))
def test_a_typo_in_a_key_is_told_with_line_path_and_nearest_key(text, path, wrong, line, tmp_path):
    file = write(tmp_path, text)
    dotted = ".".join((*path[:-1], wrong))
    expected = f"{file}:{line}: {dotted} is an unknown key; did you mean '{path[-1]}'?"
    assert expected in refusal(file).splitlines()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_load_and_survive_a_round_trip(path, tmp_path):
    config = load_config(path)
    assert config.run_dir == f"runs/{path.stem}"
    assert load_config(write(tmp_path, dump_config(config))) == config


def test_a_key_that_resembles_none_lists_those_known(experiment):
    text = EXPERIMENT.replace("    depth: 1", "    zzzzzzz: 1")
    message = refusal(write(experiment.parent, text))
    assert f"{experiment}:{line_of(text, 'zzzzzzz')}: model.decoder.zzzzzzz" in message
    known = set(message.partition("known here: ")[2].split(", "))
    assert known >= {"name", "upsample", "widths", "depth", "norm", "normalize_maps"}
    assert "zzzzzzz" not in known


def test_a_key_named_like_the_choice_of_its_section_is_told_with_its_path(experiment):
    text = EXPERIMENT.replace("    depth: 1", "    unet: 1")
    message = refusal(write(experiment.parent, text))
    assert f"{experiment}:{line_of(text, 'unet: 1')}: model.decoder.unet is an unknown" in message


@pytest.mark.parametrize(
    ("decoder", "foreign"),
    [
        ("{name: fcn, upsample: nearest}", "upsample"),
        ("{name: unet, stride: 8}", "stride"),
        ("{name: unet, classifier_weights: imagenet}", "classifier_weights"),
        ("{name: interpolate, kernel_size: 4}", "kernel_size"),
        ("{name: transposed, mode: bilinear}", "mode"),
        ("{name: unpool, widths: [1]}", "widths"),
        ("{name: unet, in_channels: [3]}", "in_channels"),
        ("{name: unet, num_classes: 4}", "num_classes"),
    ],
)
def test_an_option_of_another_decoder_is_refused(decoder, foreign, minimal):
    text = MINIMAL.replace("{name: unet}", decoder)
    message = refusal(write(minimal.parent, text))
    assert f"{minimal}:4: model.decoder.{foreign} is an unknown key" in message


# Values


def test_values_arrive_with_the_types_of_their_fields(experiment):
    config = load_config(experiment)
    assert config.data.mean == (0.5, 0.4, 0.3)
    assert config.data.root is None
    flip, crop, gray = config.data.train_transforms
    assert flip == {"HorizontalFlip": {"p": 0.5}}
    assert crop == {"RandomCrop": {"height": 96, "width": 96}}
    assert gray == {"ToGray": None}
    assert config.model.encoder.width == 0.125
    assert list(config.model.decoder.widths) == [8, 16, 32, 64]
    assert config.train.optimizer.name == "sgd"
    assert config.train.optimizer.weight_decay == 1e-4  # YAML 1.1 reads 1e-4 as a string
    assert config.train.schedule.power == 0.8


def test_defaults(minimal):
    config = load_config(minimal)
    assert (config.seed, config.precision, config.model.in_channels) == (0, "auto", 3)
    assert config.data.mean == (0.485, 0.456, 0.406)
    assert config.train.loss.name == "cross_entropy"
    assert config.train.schedule.name == "constant"
    assert config.train.optimizer.lr == 1e-3
    assert config.model.encoder.weights is None
    assert config.model.decoder.upsample == "bilinear"


def test_the_run_folder_is_named_after_the_file(tmp_path):
    assert load_config(write(tmp_path, MINIMAL, "wide.unet.yaml")).run_dir == "runs/wide.unet"
    assert load_config(write(tmp_path, EXPERIMENT)).run_dir == "runs/first"


@pytest.mark.parametrize("source", [EXPERIMENT, MINIMAL])
def test_dump_and_load_give_the_same_config(source, tmp_path):
    config = load_config(write(tmp_path, source))
    text = dump_config(config)
    assert load_config(write(tmp_path, text, "dumped.yaml")) == config
    assert parse_config(yaml.safe_load(text), "checkpoint") == config
    assert dump_config(load_config(tmp_path / "dumped.yaml")) == text


def test_a_dump_spells_out_every_default(minimal):
    dumped = yaml.safe_load(dump_config(load_config(minimal)))
    assert dumped["model"]["decoder"]["widths"] is None
    assert dumped["train"]["schedule"] == {"name": "constant", "warmup_epochs": 0.0}
    assert dumped["run_dir"] == "runs/experiment"


@pytest.mark.parametrize("section", ["", "data", "model", "model.encoder", "model.decoder"])
def test_a_config_is_frozen(section, minimal):
    part = load_config(minimal)
    for name in filter(None, section.split(".")):
        part = getattr(part, name)
    field = next(iter(type(part).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, field, getattr(part, field))


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("seed: 3", "seed: -1", ["seed is -1", "greater than or equal to 0"]),
        ("seed: 3", f"seed: {10**20}", ["seed is 1", "less than or equal to"]),
        ("run_dir: runs/first", f"run_dir: {'a' * 300}", ["longer than a path can be: 255 bytes"]),
        ("datasets/streets.yaml", "a/" * 2500, ["longer than a path can be", "4000 characters"]),
        ("depth: 1", "depth: 1000000000000", ["1000000000000 is too much for a network"]),
        ("depth: 1", "5: 1", ["model.decoder.5 is 5: keys should be strings"]),
        ("  epochs: 2", f"  epochs: {10**12}", ["less than or equal to 1000000"]),
        ("seed: 3", "seed: many", ["seed is 'many'", "valid integer"]),
        ("fp32", "fp23", ["precision is 'fp23'", "did you mean 'fp32'?", "Known: auto", "bf16"]),
        ("epochs: 2", "epochs: 0", ["train.epochs is 0", "greater than or equal to 1"]),
        ("epochs: 2", "epochs: 1.5", ["train.epochs is 1.5", "valid integer"]),
        ("lr: 0.1", "lr: 0", ["train.optimizer.lr is 0", "greater than 0"]),
        ("lr: 0.1", "lr: fast", ["train.optimizer.lr is 'fast'", "valid number"]),
        ("lr: 0.1", "lr: .nan", ["train.optimizer.lr is nan", "finite"]),
        ("lr: 0.1", "lr: .inf", ["train.optimizer.lr is inf", "finite"]),
        ("nesterov: true", "nesterov: maybe", ["train.optimizer.nesterov is 'maybe'", "boolean"]),
        ("batch_size: 4", "batch_size:", ["data.batch_size is None", "valid integer"]),
        ("[0.5, 0.4, 0.3]", "[0.5, dark]", ["data.mean.1 is 'dark'", "valid number"]),
        ("[0.5, 0.4, 0.3]", "0.5", ["data.mean is 0.5", "must be a list"]),
        ("name: unet", "name: unett", ["model.decoder.name is 'unett'", "mean 'unet'?", "fcn"]),
        ("name: sgd", "name: sdg", ["train.optimizer.name is 'sdg'", "mean 'sgd'?", "adamw"]),
        (
            "upsample: transposed",
            "upsample: transpose",
            ["upsample is 'transpose'", "'transposed'"],
        ),
        ("upsample: transposed", "upsample: max_unpool", ["max-unpooling is the decoder 'unpool'"]),
        ("[8, 16, 32, 64]", "[8, wide]", ["model.decoder.widths.1 is 'wide'", "valid integer"]),
        ("- ToGray:", "- ToGray: 3", ["data.train_transforms.2.ToGray is 3", "a mapping"]),
        ("- ToGray:", "- 3", ["data.train_transforms.2 is 3", "{Name: {argument: value}}"]),
    ],
)
def test_an_unfit_value_is_told_with_its_line_and_what_would_fit(old, new, parts, experiment):
    text = EXPERIMENT.replace(old, new, 1)
    message = refusal(write(experiment.parent, text))
    assert message.startswith(f"{experiment}:{line_of(text, new)}: ")
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


def test_a_transform_may_be_its_name_alone(experiment):
    text = EXPERIMENT.replace("- ToGray:", "- ToGray").replace(
        "eval_transforms: []", "eval_transforms: [NoOp]"
    )
    config = load_config(write(experiment.parent, text))
    assert config.data.train_transforms[2] == {"ToGray": None}
    assert config.data.eval_transforms == ({"NoOp": None},)


def test_an_encoder_of_an_unknown_name(experiment):
    text = EXPERIMENT.replace("vgg16_bn", "vg16_bn")
    message = refusal(write(experiment.parent, text))
    assert f"{experiment}:{line_of(text, 'vg16_bn')}: model.encoder.name is 'vg16_bn'" in message
    assert "did you mean 'vgg16_bn'?" in message
    assert "vgg19" in message


@pytest.mark.parametrize(
    ("gone", "dotted"),
    [
        ("  epochs: 2\n", "train.epochs is missing; add it"),
        ("  encoder: {name: vgg16}\n", "model.encoder is missing; add it"),
        ("data: {card: datasets/streets.yaml}\n", "data is missing; add it"),
        ("card: datasets/streets.yaml", "data.card is missing; add it"),
        ("name: adamw, ", "train.optimizer needs a key 'name'"),
        ("name: unet", "model.decoder needs a key 'name'"),
        (", lr: 1e-3", "train.optimizer.lr is missing; add it"),
    ],
)
def test_a_missing_key_is_told_with_its_path_and_the_line_of_its_section(gone, dotted, tmp_path):
    text = MINIMAL.replace(gone, "")
    file = write(tmp_path, text)
    section = dotted.split(" ")[0]
    if "missing" in dotted:
        section = section.rpartition(".")[0]
    line = f":{line_of(text, section.rpartition('.')[2] + ':')}" if section else ""
    assert refusal(file) == f"{file}{line}: {dotted}"


@pytest.mark.parametrize("section", ["data", "model", "train"])
@pytest.mark.parametrize("value", ["", " 3", " unet", " [1]"])
def test_a_section_that_is_none_is_refused(section, value, tmp_path):
    data = yaml.safe_load(MINIMAL)
    data[section] = yaml.safe_load(value)
    file = write(tmp_path, yaml.safe_dump(data, sort_keys=False))
    line = line_of(file.read_text(), f"{section}:")
    assert f"{file}:{line}: {section} is " in refusal(file)


def test_all_mistakes_are_told_at_once(experiment):
    text = EXPERIMENT.replace("seed: 3", "sede: 3").replace("lr: 0.1", "lr: -1")
    text = text.replace("  epochs: 2\n", "").replace("depth: 1", "depht: 1")
    told = refusal(write(experiment.parent, text)).splitlines()
    places = {
        f"{experiment}:{line_of(text, 'sede')}: sede is an unknown key; did you mean 'seed'?",
        f"{experiment}:{line_of(text, 'depht')}: model.decoder.depht is an unknown key; "
        "did you mean 'depth'?",
        f"{experiment}:{line_of(text, 'lr: -1')}: train.optimizer.lr is -1: "
        "input should be greater than 0",
        f"{experiment}:{line_of(text, 'train:')}: train.epochs is missing; add it",
    }
    assert set(told) == places
    assert len(told) == len(places)


def test_a_mapping_from_elsewhere_is_told_by_its_source():
    data = yaml.safe_load(MINIMAL) | {"run_dir": "runs/a", "sede": 3}
    with pytest.raises(UserError, match=r"^last\.pt: sede is an unknown key; did you mean 'seed'"):
        parse_config(data, "last.pt")
    assert "sede" in data  # left as it was


# The file itself


@pytest.mark.parametrize(
    ("text", "line", "dotted"),
    [
        ("seed: 1\nprecision: auto\nseed: 2\n", 3, "seed"),
        ("train:\n  epochs: 1\n  epochs: 1\n", 3, "train.epochs"),
        ("train:\n  optimizer: {lr: 1, name: sgd, lr: 2}\n", 2, "train.optimizer.lr"),
        ("data:\n  train_transforms:\n    - Crop: {p: 1,\n       p: 2}\n", 4, "Crop.p"),
    ],
)
def test_a_key_given_twice_is_told_with_both_lines(text, line, dotted, tmp_path):
    file = write(tmp_path, text)
    message = refusal(file)
    assert message.startswith(f"{file}:{line}: ")
    assert f"{dotted} is given twice, first at {file}:" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 1\ndata: [1\ntrain: 2\n", ":3"),
        ("data:\n\t- a\n", ":2"),
        ("seed: 1\n---\nseed: 2\n", ":2"),
        ("seed: 1\ndata: *nothing\n", ":2"),
        ("seed: 1\ndata: !!python/object/apply:os.system [echo]\n", ":2"),
    ],
)
def test_broken_yaml_is_told_with_its_line(text, line, tmp_path):
    file = write(tmp_path, text)
    assert refusal(file).startswith(f"{file}{line}: cannot be read as YAML: ")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"seed: \xff\xfe")
    assert "a.yaml: cannot be read as YAML" in refusal(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["", "- 1\n", "3\n", "# nothing\n"])
def test_a_file_without_a_mapping_is_refused(text, tmp_path):
    file = write(tmp_path, text)
    assert refusal(file) == f"{file}: must hold a mapping of keys to values"


def test_a_missing_file_names_the_nearest(experiment):
    write(experiment.parent, MINIMAL, "other.yaml")
    wrong = experiment.with_name("experimnet.yaml")
    assert refusal(wrong) == f"{wrong} is not a file; did you mean {experiment}?"


def test_a_missing_file_or_a_folder_without_others_is_told_plainly(tmp_path):
    for path in (tmp_path / "a.yaml", tmp_path / "nowhere" / "a.yaml"):
        assert refusal(path) == f"{path} is not a file"


def test_a_folder_is_told_and_that_of_a_run_with_its_config(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path} is a folder; name a YAML file"
    write(tmp_path, EXPERIMENT).rename(tmp_path / "config.yaml")
    assert refusal(tmp_path) == f"{tmp_path} is a folder; did you mean {tmp_path}/config.yaml?"


# Overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=5", "seed", 5),
        ("run_dir=2024", "run_dir", "2024"),
        ("run_dir=007", "run_dir", "007"),
        ("run_dir=1e3", "run_dir", "1e3"),
        ("run_dir=true", "run_dir", "true"),
        ("run_dir=2024-11-02", "run_dir", "2024-11-02"),
        ("run_dir=runs/a=b", "run_dir", "runs/a=b"),
        ("run_dir = runs/spaced ", "run_dir", "runs/spaced"),
        ("train.optimizer.lr=1e-3", "train.optimizer.lr", 1e-3),
        ("train.optimizer.lr=3", "train.optimizer.lr", 3.0),
        ("train.optimizer.nesterov=true", "train.optimizer.nesterov", True),
        ("train.optimizer.nesterov=no", "train.optimizer.nesterov", False),
        ("train.epochs=7", "train.epochs", 7),
        ("data.root=null", "data.root", None),
        ("data.root=~", "data.root", None),
        ("data.root=/data/camvid", "data.root", "/data/camvid"),
        ("data.mean=[0, 0.5, 1]", "data.mean", (0.0, 0.5, 1.0)),
        ("data.train_transforms=[]", "data.train_transforms", ()),
        ("model.decoder.widths=null", "model.decoder.widths", None),
        ("model.decoder.widths=[4, 4, 8, 8]", "model.decoder.widths", [4, 4, 8, 8]),
        ("model.encoder.weights=imagenet", "model.encoder.weights", "imagenet"),
        ("model.encoder.width=1", "model.encoder.width", 1.0),
        ("train.loss={label_smoothing: 0.2}", "train.loss.label_smoothing", 0.2),
        ("train.schedule={name: cosine}", "train.schedule.name", "cosine"),
    ],
)
def test_an_override_is_read_by_the_type_of_its_field(override, path, value, experiment):
    found = load_config(experiment, [override])
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_an_override_changes_nothing_else(experiment):
    before = load_config(experiment).model_dump()
    after = load_config(experiment, ["train.optimizer.lr=0.5"]).model_dump()
    before["train"]["optimizer"]["lr"] = 0.5
    assert after == before


def test_an_override_adds_keys_and_sections_that_the_file_leaves_out(minimal):
    config = load_config(minimal, ["seed=4", "train.schedule.name=poly", "train.schedule.power=2"])
    assert (config.seed, config.train.schedule.power) == (4, 2.0)


def test_the_last_of_two_overrides_wins(minimal):
    assert load_config(minimal, ["seed=4", "seed=5"]).seed == 5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epcohs=3", "train.epcohs is an unknown key; did you mean 'epochs'?"),
        (
            "model.decoder.upsampel=nearest",
            "model.decoder.upsampel is an unknown key; did you mean",
        ),
        ("seed=abc", "seed is 'abc': input should be a valid integer"),
        ("seed=1.5", "seed is '1.5': input should be a valid integer"),
        ("seed=", "seed is None: input should be a valid integer"),
        ("run_dir=null", "run_dir is None: input should be a valid string"),
        ("model.decoder.name=unett", "model.decoder.name is 'unett'; did you mean 'unet'?"),
        ("model.decoder.widths=[8, x]", "model.decoder.widths.1 is 'x'"),
        ("train.loss={nmae: cross_entropy}", "train.loss.nmae is an unknown key; did you mean"),
        ("seed", "write it as key.path=value"),
        ("=3", "write it as key.path=value"),
        ("train..epochs=3", "write it as key.path=value"),
        ("seed=[", "cannot be read as YAML"),
        ("seed.deep=3", "seed is not a section"),
        ("data.mean.0=3", "data.mean is not a section"),
    ],
)
def test_a_bad_override_is_told_as_such(override, expected, experiment):
    message = refusal(experiment, override)
    assert message.startswith(f"--set {override}: ")
    assert expected in message


def test_an_unknown_section_in_an_override_is_told_with_the_nearest(experiment):
    message = refusal(experiment, "trian.epochs=3")
    assert message == "--set trian.epochs=3: trian is an unknown key; did you mean 'train'?"


def test_an_override_that_changes_the_decoder_points_at_what_no_longer_fits(experiment):
    message = refusal(experiment, "model.decoder.name=fcn")
    for key in ("upsample", "widths", "depth", "norm"):
        line = line_of(EXPERIMENT, f"    {key}:")
        assert f"{experiment}:{line}: model.decoder.{key} is an unknown key" in message


def test_a_config_knows_every_decoder_and_encoder():
    from segkit.registry import names

    data = yaml.safe_load(MINIMAL) | {"run_dir": "runs/a"}
    for name in names("decoder"):
        data["model"]["decoder"] = {"name": name}
        assert parse_config(data, "test").model.decoder.name == name
    for name in names("encoder"):
        data["model"]["encoder"] = {"name": name}
        config = parse_config(data, "test")
        assert isinstance(config, Config)
        assert config.model.encoder.name == name
