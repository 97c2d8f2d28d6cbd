"""The command line as a whole: its help, its parser, and the smaller commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import segkit
from segkit.commands import COMMANDS, build_parser, load, main
from segkit.config import load_config
from segkit.config.explain import explain_config, list_keys

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_help_lists_every_command_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for name in COMMANDS:
        first = load(name).__doc__.partition("\n")[0]
        assert f"{name} {first}" in out


def test_every_module_is_a_command_and_every_tool_runs_one():
    modules = {p.stem.replace("_", "-") for p in (ROOT / "segkit/commands").glob("*.py")}
    assert modules - {"--init--", "options"} == set(COMMANDS)
    for tool in (ROOT / "tools").glob("*.py"):
        assert f'main(["{tool.stem.replace("_", "-")}", *sys.argv[1:]])' in tool.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_valid(name):
    lines = [line for line in load(name).__doc__.splitlines() if line.startswith("segkit ")]
    assert lines
    for line in lines:
        words = line.partition("   ")[0].replace("'", "").split()[1:]
        assert build_parser().parse_args(words).command == name


def test_help_is_fast_because_nothing_heavy_is_imported():
    code = "import sys, segkit.commands as c; c.build_parser(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == (
        "False\n"
    )


def test_module_and_script_are_the_same(tmp_path):
    for start in (["-m", "segkit"], ["-c", "from segkit.__main__ import main; main()"]):
        done = subprocess.run(
            [sys.executable, *start, "--version"], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.stdout == f"segkit {segkit.__version__}\n"


def test_an_unknown_command_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["trian"])
    assert leaving.value.code == 2
    assert "train" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def failing(error, monkeypatch):
    def run(arguments):
        raise error

    monkeypatch.setattr("segkit.commands.config.run", run)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 9.31 GiB for an array"),
        RuntimeError("[...] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    ],
)
def test_too_little_memory_is_a_sentence(error, monkeypatch, capsys):
    failing(error, monkeypatch)
    assert main(["config", "unet_vgg16"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: memory is full (")
    assert str(error) in said.replace("\n", " ")
    with pytest.raises(type(error)):
        main(["config", "unet_vgg16", "--debug"])


def test_torchrun_is_given_the_last_words_of_a_fault(tmp_path, monkeypatch):
    failing(KeyError("of mine"), monkeypatch)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(KeyError):
        main(["config", "unet_vgg16"])
    assert json.loads((tmp_path / "error.json").read_text())["message"] == "KeyError: 'of mine'"


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -m segkit config --keys | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("run_dir: ")
    assert done.stderr == ""


def test_the_shell_completes(tmp_path):
    pytest.importorskip("argcomplete")
    line = "segkit che"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "found"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    code = "from segkit.commands import main; main()"
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=60)
    assert (tmp_path / "found").read_text().strip() == "check-data"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_explained_config_is_the_same_config(path, tmp_path):
    config = load_config(path)
    text = explain_config(config)
    (tmp_path / "explained.yaml").write_text(text)
    assert load_config(tmp_path / "explained.yaml") == config
    assert "batch_size: 4" in text
    assert "# images in a batch of one process" in text


def test_every_key_is_explained(capsys):
    assert main(["config", "--keys"]) == 0
    out = capsys.readouterr().out
    keys = list_keys()
    assert all(key.text for key in keys), [key.path for key in keys if not key.text]
    assert all(key.path in out for key in keys)
    one = next(key for key in keys if key.path == "train.schedule(onecycle).peak")
    assert one == ("train.schedule(onecycle).peak", "number > 0 and < 1", "0.3", one.text)
    assert next(key for key in keys if key.path == "data.cache").kind == "none, ram"


def test_all_keys_of_the_shipped_experiments_are_listed():
    known = {key.path for key in list_keys()}

    def walk(section, prefix):
        for key, value in section.items():
            path = f"{prefix}{key}"
            if path in known or f"{path}.name" in known:
                if isinstance(value, dict) and f"{path}.name" in known:
                    options = set(value) - {"name"}
                    for option in options:
                        hits = [k for k in known if k.startswith(path) and k.endswith(f".{option}")]
                        assert hits, f"{path}.{option}"
                continue
            walk(value, f"{path}.")

    for path in CONFIGS:
        walk(yaml.safe_load(path.read_text()), "")


def test_keys_and_config_as_json(tmp_path, capsys):
    assert main(["config", "--keys", "--json", str(tmp_path / "keys.json")]) == 0
    keys = json.loads((tmp_path / "keys.json").read_text())
    assert {"path", "kind", "default", "text"} == set(keys[0])
    assert main(["config", "unet_vgg16", "--json", str(tmp_path / "config.json")]) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"]["decoder"]["name"] == "unet"


@pytest.mark.parametrize("words", [[], ["unet_vgg16", "--keys"]])
def test_config_wants_one_thing(words, capsys):
    assert main(["config", *words]) == 2
    assert "name an experiment" in capsys.readouterr().err
