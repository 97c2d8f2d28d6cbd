"""The one reader of YAML: plain values, every error with its place, and bounds on size and work."""

import contextlib
import tracemalloc
from pathlib import Path

import pytest
import yaml
from attack.corpus_text import mutate

from segkit.config import load_config
from segkit.config.explain import explain_config
from segkit.data.card import load_card
from segkit.data.transforms import build_transforms
from segkit.errors import UserError
from segkit.yaml_text import MAX_SIZE, parse_yaml, read_yaml_file, split_list

ROOT = Path(__file__).parents[1]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def refusal(text: str) -> str:
    with pytest.raises(UserError) as error:
        parse_yaml(text, "f.yaml")
    return str(error.value)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/*.yaml")), ids=lambda path: path.name)
def test_shipped_files_are_read_as_by_pyyaml(path):
    assert read_yaml_file(path)[0] == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "line", "column", "why"),
    [
        ("a: 1\nb: [1", 2, 6, "expected ',' or ']'"),
        ("a: 1\nb: !!int abc", 2, 4, "'abc' is no value of type int"),
        ("a: !!timestamp x", 1, 4, "type timestamp"),
        ("a: !!set {b}", 1, 4, "type set"),
        ("a: !!bool x", 1, 4, "no value of type bool"),
        ("a:\n- " + "9" * 5000, 2, 3, "100 digits"),
        ("a:\n  0x" + "f" * 5000, 2, 3, "100 digits"),
        ("%YAML " + "9" * 5000 + ".1\n--- 1", 1, 7, ""),
        ('a: "\\U00110000"', 1, 7, "0x110000"),
        ('a: "\\UFFFFFFFF"', 1, 7, ""),
        ('a: "\\ud800"', 1, 4, "half a character"),
        ('a: "\\0"', 1, 4, "null byte"),
        ("a: 1\nb: \x00", 2, 4, "#x0000"),
        ("a: [" + "[" * 10_000, 1, 53, "50 levels"),
        ("- " * 10_000, 1, 101, "50 levels"),
        ("a: &a\n  b: *a", 2, 6, "inside of what it repeats"),
        (BOMB, 5, 23, "aliases repeat too much"),
        ("- &a " + "x" * 60_000 + "\n- *a\n- *a", 3, 3, "aliases repeat too much"),
        ("a: {[1]: 2}", 1, 5, "a key must be text"),
        ("1.5: a", 1, 1, "a key must be text"),
        ("on: a", 1, 1, "a key must be text"),
        ("a: *b", 1, 4, "undefined alias"),
        ("a: !!python/name:os.system ''", 1, 4, "python/name"),
    ],
)
def test_what_cannot_be_read_is_told_with_line_and_column(text, line, column, why):
    told = refusal(text)
    assert told.startswith(f"f.yaml:{line}: cannot be read as YAML: column {column}: ")
    assert why in told
    assert len(told) < 400


def test_dates_are_text_and_aliases_of_a_fitting_size_are_read():
    assert parse_yaml("2024-01-01", "")[0] == "2024-01-01"
    text = "a: &a {b: 1}\nc: {<<: *a, d: [*a, *a]}\n7: x"
    data, lines = parse_yaml(text, "f.yaml")
    assert data == {"a": {"b": 1}, "c": {"b": 1, "d": [{"b": 1}, {"b": 1}]}, 7: "x"}
    assert lines["c", "d"] == "f.yaml:2"


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(50 * MAX_SIZE)
    tracemalloc.start()
    with pytest.raises(UserError, match="larger than 1,000,000 bytes"):
        read_yaml_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_SIZE


def test_items_of_a_list_stay_as_they_are_written():
    assert split_list("[1e-3, [8, 16], 'a, b']", "--vary") == ["1e-3", "[8, 16]", "'a, b'"]
    with pytest.raises(UserError, match=r"--vary: cannot be read as YAML: column 4"):
        split_list("[1,,2]", "--vary")


@pytest.mark.parametrize("block", range(10))
def test_a_changed_experiment_loads_or_is_refused(block, tmp_path):
    text = (ROOT / "configs" / "unet_vgg16.yaml").read_text(encoding="utf-8")
    file, told = tmp_path / "a.yaml", [""]
    for case in range(20 * block, 20 * block + 20):
        file.write_bytes(mutate(text, case).encode("utf-8", "surrogatepass"))
        try:
            config = load_config(file)
            explain_config(config)
            build_transforms(config.data.train_transforms, [0.5], "data.train_transforms")
        except UserError as error:
            told.append(str(error))
    assert max(map(len, told)) < 10_000


@pytest.mark.parametrize("block", range(5))
def test_a_changed_card_loads_or_is_refused(block, tmp_path):
    text = (ROOT / "datasets" / "camvid.yaml").read_text(encoding="utf-8")
    file, told = tmp_path / "a.yaml", [""]
    for case in range(1000 + 20 * block, 1020 + 20 * block):
        file.write_bytes(mutate(text, case).encode("utf-8", "surrogatepass"))
        try:
            load_card(file)
        except UserError as error:
            told.append(str(error))
    assert max(map(len, told)) < 20_000


def test_a_changed_override_loads_or_is_refused():
    for case in range(60):
        value = mutate("{name: unet, widths: [8, 8], depth: 2, upsample: nearest}", case)
        with contextlib.suppress(UserError):
            load_config("unet_vgg16", [f"model.decoder={value}"])
