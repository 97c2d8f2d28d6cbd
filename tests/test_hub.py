"""Models on the hub: pushed to a server on this machine, loaded from there, from a folder, from
the cache."""

import builtins
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_server import TOKEN, Hub
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from segkit.checkpoint import load_checkpoint, restore_settings, save_checkpoint
from segkit.commands import build_parser, main
from segkit.comparison import gather
from segkit.config import load_config
from segkit.data.card import load_card
from segkit.encoders import VGGEncoder
from segkit.errors import UserError
from segkit.evaluation.target import load_target
from segkit.experiment import Experiment
from segkit.hub import Address, parse_address
from segkit.inference import Predictor
from segkit.model import build_model
from segkit.model_folder import public_card, without_private_paths

library = pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).parents[1]
REPO = "someone/tiny-unet"
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
DOWNLOAD = library.hf_hub_download
FILES = {"README.md", "config.json", "model.safetensors", "prediction.png"}


@pytest.fixture
def run(tiny_config, tmp_path):
    """Write the run folder of an untrained network, which predicts noise."""
    config = load_config(tiny_config({"model.encoder.weights": str(tmp_path / "vgg.pth")}))
    card = load_card(config.data.card)
    torch.manual_seed(0)
    model = build_model(config.model, card.num_classes, load_weights=False)
    nn.init.normal_(model.decoder.head.weight)
    content = {
        "config": config.model_dump(),
        "card": card.model_dump(),
        "statistics": {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.1), "class_weights": None},
        "classes": card.legend._asdict(),
        "imports": [],
        "model": model.state_dict(),
        "epoch": 1,
        "scores": {"miou": 0.25, "iou": (0.25, float("nan"), 0.25)},
    }
    save_checkpoint(tmp_path / "run/checkpoints/best.pt", content)
    return tmp_path / "run"


def push(*words):
    return main(["push", *map(str, words), "--device", "cpu"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Make a place for what takes seconds to make, and is the same each time."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def folder(run, tmp_path, kept):
    """Write the folder that would be uploaded."""
    if not any(kept.iterdir()):
        assert push(run, REPO, "--dry-run", kept / "published", "--licence", "mit") == 0
    return shutil.copytree(kept / "published", tmp_path / "published")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve a hub, and make the library speak to it alone, with an empty cache."""
    # the library reads its environment at its import only
    monkeypatch.setattr(library.constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(library.constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Hub() as server:
        speak_to(server.url, monkeypatch)
        yield server


def speak_to(url, monkeypatch):
    """Send what the library asks in this process to another address."""
    api = library.HfApi(endpoint=url)
    monkeypatch.setattr(library, "hf_hub_download", partial(DOWNLOAD, endpoint=url))
    for name in ("create_repo", "model_info", "upload_folder"):
        monkeypatch.setattr(library, name, getattr(api, name))


def same_masks(one, other):
    predictions = [
        Predictor.load(source, "cpu")(IMAGE, probabilities=True) for source in (one, other)
    ]
    assert len(predictions[0].mask.unique()) > 1
    one, other = predictions
    return torch.equal(one.mask, other.mask) and torch.equal(one.probabilities, other.probabilities)


# The folder


def test_the_folder_predicts_what_the_run_does(run, folder):
    assert {path.name for path in folder.iterdir()} == FILES
    assert same_masks(run, folder)
    assert same_masks(str(run), str(folder))


def test_the_folder_holds_all_but_the_training(run, folder):
    kept = load_checkpoint(run / "checkpoints/best.pt")
    read = load_checkpoint(folder)
    assert read["model"].keys() == kept["model"].keys()
    assert all(torch.equal(read["model"][key], kept["model"][key]) for key in kept["model"])
    assert read["statistics"] == kept["statistics"]
    assert read["classes"] == kept["classes"]
    assert (read["epoch"], read["format"]) == (1, 2)
    assert read["scores"] == {"miou": 0.25, "iou": [0.25, None, 0.25]}
    assert read["card"] == {**kept["card"], "root": "tiny"}


def test_settings_differ_by_their_paths_alone(run, folder):
    kept = restore_settings(load_checkpoint(run / "checkpoints/best.pt"), run)
    read = restore_settings(load_checkpoint(folder), folder)
    kept["data"]["card"] = read["data"]["card"] = ""
    kept["run_dir"] = read["run_dir"] = ""
    kept["model"]["encoder"]["weights"] = read["model"]["encoder"]["weights"] = ""
    assert read == kept


def test_no_path_of_this_machine_is_told(folder, tmp_path):
    for path in folder.iterdir():
        assert os.fsencode(tmp_path.parent.parent) not in path.read_bytes(), path
    described = json.loads((folder / "config.json").read_text())
    assert described["card"]["root"] == "tiny"
    assert described["config"]["data"]["card"] == "tiny.yaml"
    assert described["config"]["model"]["encoder"]["weights"] == "vgg.pth"


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("/home/me/photos", "photos"),
        ("~/vgg.pth", "vgg.pth"),
        (r"C:\Users\me\vgg.pth", "vgg.pth"),
        ("../me/photos", "photos"),
        ("data/../../me", "me"),
        ("..", "."),
        ("datasets/streets", "datasets/streets"),
        ("imagenet", "imagenet"),
        ("hf://user/model", "hf://user/model"),
        (0.5, 0.5),
        (["/a/b", {"key": "/c/d"}], ["b", {"key": "d"}]),
    ],
)
def test_paths_become_names(path, public):
    assert without_private_paths(path) == public


def test_paths_below_the_working_directory_become_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_private_paths(str(tmp_path / "datasets/tiny")) == "datasets/tiny"


def test_only_the_paths_of_a_card_are_changed(tiny_set):
    card = load_card(tiny_set.card).model_copy(update={"sequences": "/([^/]+)_"})
    assert public_card(card)["sequences"] == "/([^/]+)_"


def test_the_page_tells_what_it_is(folder, run):
    text = (folder / "README.md").read_text()
    _, front, page = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "mit"
    assert front["library_name"] == "segkit"
    assert front["pipeline_tag"] == "image-segmentation"
    assert {"unet", "vgg11_bn"} < set(front["tags"])
    target = load_target(run, device="cpu")
    [result] = front["model-index"][0]["results"]
    assert result["dataset"]["split"] == "val"
    scores = {metric["type"]: metric["value"] for metric in result["metrics"]}
    for part in (
        "# tiny-unet",
        "ground, box, bar",
        f"| mIoU | {100 * scores['mean_iou']:.1f} % |",
        "| class | IoU %",
        "no intervals: 3 images",
        "source: drawn by the tests",
        f'Predictor.load("hf://{REPO}")',
        f"segkit predict hf://{REPO} photo.jpg",
        "lr: 0.003",
        "(prediction.png)",
    ):
        assert part in page, part
    assert target.title == "tiny val"


def test_the_use_that_the_page_shows(folder):
    text = (folder / "README.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    given = {"image": IMAGE}
    exec(code.replace(f"hf://{REPO}", folder.as_posix()), given)
    assert given["mask"].shape == (40, 48)
    command = text.partition("segkit predict ")[2].partition("\n")[0]
    assert build_parser().parse_args(["predict", *command.split()]).checkpoint == f"hf://{REPO}"


def test_scores_are_those_of_the_split(run, folder, tmp_path):
    assert main(["eval", str(run), "--device", "cpu", "--json", str(tmp_path / "scores.json")]) == 0
    expected = json.loads((tmp_path / "scores.json").read_text())["scores"]
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    [miou, _] = front["model-index"][0]["results"][0]["metrics"]
    assert miou["value"] == round(expected["miou"], 4)


def test_an_old_run_with_parts_of_its_own_is_published(run, tmp_path):
    """Format 1 has its numbers in the config, and its classes in the card."""
    path = run / "checkpoints/best.pt"
    content = load_checkpoint(path)
    for key in ("statistics", "classes"):
        del content[key]
    torch.save({**content, "format": 1, "imports": [str(tmp_path / "my_parts.py")]}, path)
    assert push(run, REPO, "--dry-run", tmp_path / "published") == 0
    assert same_masks(run, tmp_path / "published")
    assert load_checkpoint(tmp_path / "published")["imports"] == ("my_parts.py",)
    text = (tmp_path / "published" / "README.md").read_text()
    assert "--overlay --import my_parts.py" in text
    assert "parts of its author's own: my_parts.py." in text


def test_without_its_data_nothing_is_pushed(run, tiny_set, tmp_path, capsys):
    tiny_set.root.rename(tmp_path / "moved")
    assert push(run, REPO, "--dry-run", tmp_path / "published") == 2
    error = capsys.readouterr().err
    assert "'tiny' is not at" in error
    assert "--data-root DIR" in error
    moved = ["--data-root", tmp_path / "moved"]
    assert push(run, REPO, "--dry-run", tmp_path / "published", *moved) == 0


def test_a_repository_has_an_owner(capsys):
    with pytest.raises(SystemExit):
        push("runs/x", "tiny")
    assert "'tiny' is no repository; write user/model" in capsys.readouterr().err


# Damage


def change(folder, key, value):
    path = folder / "config.json"
    described = json.loads(path.read_text())
    if value is None:
        del described[key]
    else:
        described[key] = value
    path.write_text(json.dumps(described))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00", '"config"', "[" * 100_000])
def test_a_damaged_description_is_one_sentence(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged or of no segkit model") as error:
        Predictor.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("config", None, "config: Field required"),
        ("config", [1], "config: Input should be"),
        ("card", {"name": "x"}, "card.root: Field required"),
        ("statistics", {"mean": [0.5]}, "statistics.std"),
        ("statistics", {"mean": ["x"], "std": [1]}, "statistics.mean.0"),
        ("classes", {"names": ["a", "b"], "colors": [[0, 0, 0]] * 2}, "classes and card disagree"),
        ("imports", "os", "imports: "),
        ("epoch", "one", "epoch: "),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(folder, key, value, reason):
    change(folder, key, value)
    with pytest.raises(UserError) as error:
        Predictor.load(folder)
    assert f"damaged or of no segkit model: {reason}" in str(error.value)


def test_another_format_is_told(folder):
    change(folder, "format", 3)
    with pytest.raises(UserError, match="has checkpoint format 3, this segkit reads 2"):
        Predictor.load(folder)


def test_a_config_that_does_not_fit_is_told(folder):
    change(folder, "config", {"model": {}})
    with pytest.raises(UserError, match=r"model\.encoder is missing"):
        Predictor.load(folder)


def test_damaged_weights_are_one_sentence(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot read the weight file .*model\.safetensors"):
        Predictor.load(folder)


def test_a_stranger_does_not_choose_where_data_is_drawn(folder, tmp_path):
    card = json.loads((folder / "config.json").read_text())["card"]
    change(folder, "card", {**card, "builtin": "streets", "root": str(tmp_path / "elsewhere")})
    assert load_checkpoint(folder)["card"]["root"] == "elsewhere"


def test_half_a_folder_is_no_model(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no checkpoint") as error:
        Predictor.load(folder)
    assert "model.safetensors" in str(error.value)


# Addresses


def test_addresses_are_read():
    assert parse_address("hf://a/b") == Address("a/b", None, None)
    assert parse_address("hf://a/b.c@v1/d/e.bin") == Address("a/b.c", "v1", "d/e.bin")


@pytest.mark.parametrize("text", ["hf://", "hf://a", "hf://a b/c", "hf://a/b@", "hf:///a/b"])
def test_other_addresses_are_refused(text):
    with pytest.raises(UserError, match="is no address on the hub; write hf://user/model"):
        Predictor.load(text)


@pytest.mark.parametrize("command", ["eval", "predict", "compare", "push"])
def test_commands_take_addresses_as_they_are(command):
    rest = {"predict": ["photo.jpg", "--out", "x"], "push": ["a/b"]}.get(command, [])
    arguments = build_parser().parse_args([command, f"hf://{REPO}@v1", *rest])
    taken = vars(arguments)[{"compare": "models", "push": "run"}.get(command, "checkpoint")]
    assert taken in (f"hf://{REPO}@v1", [f"hf://{REPO}@v1"])


# Downloads


def test_a_model_is_loaded_from_the_hub(hub, folder, run):
    hub.add(REPO, folder)
    assert same_masks(run, f"hf://{REPO}")
    loaded = Predictor.load(f"hf://{REPO}", "cpu")
    assert loaded.origin == f"hf://{REPO}, epoch 1"
    asked = {line.rpartition("/")[2] for line in hub.requests}
    assert asked == {"config.json", "model.safetensors"}


def test_a_revision_is_that_commit(hub, folder):
    hub.add(REPO, folder)
    commit = hub.repos[REPO].commit
    assert Predictor.load(f"hf://{REPO}@{commit}", "cpu")
    with pytest.raises(UserError, match=f"{REPO} has no revision v9"):
        Predictor.load(f"hf://{REPO}@v9", "cpu")


def test_both_files_are_of_one_commit(hub, folder):
    hub.add(REPO, folder)
    commit = hub.repos[REPO].commit
    Predictor.load(f"hf://{REPO}", "cpu")
    gets = [line for line in hub.requests if "model.safetensors" in line]
    assert gets
    assert all(f"/resolve/{commit}/" in line for line in gets)


def test_a_missing_model_is_one_sentence(hub, capsys):
    assert main(["eval", "hf://someone/nothing"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is no model someone/nothing on the hub, or you may not")
    assert "hf auth login" in error
    assert error.count("\n") == 1


def test_another_kind_of_model_is_told(hub, folder):
    (folder / "config.json").unlink()
    hub.add(REPO, folder)
    with pytest.raises(UserError, match=f"hf://{REPO} holds no config.json; name a model that"):
        Predictor.load(f"hf://{REPO}", "cpu")


def test_a_file_is_no_model(hub):
    with pytest.raises(UserError, match=f"names a file; name the model: hf://{REPO}"):
        Predictor.load(f"hf://{REPO}/model.safetensors")


def test_without_a_network_the_cache_serves(hub, folder, run, monkeypatch, free_port):
    hub.add(REPO, folder)
    Predictor.load(f"hf://{REPO}", "cpu")
    speak_to(f"http://127.0.0.1:{free_port}", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's attempts
    assert same_masks(run, f"hf://{REPO}")
    with pytest.raises(UserError) as error:
        Predictor.load("hf://someone/other", "cpu")
    for part in ("hf://someone/other is not in the cache", "cannot be reached", "the network"):
        assert part in str(error.value)


def test_offline_and_not_cached_is_one_sentence(hub, monkeypatch):
    monkeypatch.setattr(library.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        Predictor.load(f"hf://{REPO}", "cpu")
    assert f"config.json of hf://{REPO} is not in the cache, and HF_HUB_OFFLINE" in str(error.value)
    assert hub.requests == []


def test_a_missing_package_is_one_sentence(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"needs another package; pip install 'segkit\[hub\]'"):
        Predictor.load(f"hf://{REPO}")


def test_models_of_the_hub_are_compared_by_name(hub, folder):
    hub.add(REPO, folder)
    [contestant] = gather([f"hf://{REPO}"], 1, folder)
    assert contestant.name == "tiny-unet"
    assert contestant.checkpoints == [f"hf://{REPO}"]


def test_training_starts_from_a_model_of_the_hub(hub, folder, tiny_config):
    hub.add(REPO, folder)
    config = load_config(tiny_config({"train.init_from": f"hf://{REPO}"}))
    experiment = Experiment.from_config(config)
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in experiment.model.state_dict().items())


# An encoder's weights


@pytest.fixture
def backbone(tmp_path):
    """Write the weights of an encoder, with timm's classifier."""
    torch.manual_seed(1)
    weights = VGGEncoder("vgg11", width=1 / 16).state_dict()
    weights |= {"pre_logits.fc1.weight": torch.ones(2), "head.fc.bias": torch.ones(2)}
    (tmp_path / "backbone").mkdir()
    save_file(weights, tmp_path / "backbone" / "model.safetensors")
    return tmp_path / "backbone"


@pytest.mark.parametrize("file", ["", "/model.safetensors"])
def test_an_encoder_starts_from_the_hub(hub, backbone, file):
    hub.add("timm/vgg11", backbone)
    encoder = VGGEncoder("vgg11", width=1 / 16)
    encoder.load_weights(f"hf://timm/vgg11{file}")
    expected = load_file(backbone / "model.safetensors")
    assert all(torch.equal(v, expected[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("hf://timm/vgg11/model.bin", "is no .safetensors file"),
        ("hf://timm/vgg11/other.safetensors", "hf://timm/vgg11 holds no other.safetensors"),
        ("hf://timm/vgg13", "there is no model timm/vgg13 on the hub"),
    ],
)
def test_weights_that_are_not_there(hub, tmp_path, source, sentence):
    (tmp_path / "empty").mkdir()
    hub.add("timm/vgg11", tmp_path / "empty")
    with pytest.raises(UserError, match=sentence):
        VGGEncoder("vgg11").load_weights(source)


# Uploads


def test_a_run_is_pushed(hub, run, capsys):
    assert push(run, REPO, "--private", "--licence", "mit") == 0
    held = hub.repos[REPO]
    assert held.private
    assert held.files.keys() == FILES
    assert f"pushed: {hub.url}/{REPO}; load it by its name, hf://{REPO}" in capsys.readouterr().out
    assert same_masks(run, f"hf://{REPO}")


def test_a_second_push_replaces_the_first(hub, run):
    assert push(run, REPO) == 0
    assert push(run, f"hf://{REPO}", "--licence", "mit") == 0
    assert b"license: mit" in hub.repos[REPO].files["README.md"]


def test_a_public_repository_is_not_taken_for_a_private_one(hub, run, capsys):
    hub.add(REPO, run / "checkpoints")
    before = dict(hub.repos[REPO].files)
    assert push(run, REPO, "--private") == 2
    assert f"{REPO} exists and is public" in capsys.readouterr().err
    assert hub.repos[REPO].files == before


def test_who_is_not_logged_in_is_told_before_the_evaluation(hub, run, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert push(run, REPO) == 2
    told = capsys.readouterr()
    assert "mIoU" not in told.out
    assert told.err.startswith(f"error: cannot push to {REPO}: ")
    assert "hf auth login" in told.err
    assert told.err.count("\n") == 1


# In processes of their own


def start(*commands, cwd, guard="", **environment):
    """Run commands of segkit in another process, after some lines of Python."""
    code = f"{guard}\nfrom segkit.commands import main\nfor words in {commands!r}:"
    code += "\n    assert main(words) == 0, words"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def predict(source, out):
    return ["predict", str(source), "photo.png", "--out", out, "--device", "cpu"]


NO_SOCKETS = """
import socket
def refused(*_):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
"""


@pytest.mark.slow
def test_neither_the_cache_nor_a_folder_opens_a_socket(hub, run, folder, tmp_path):
    hub.add(REPO, folder)
    Predictor.load(f"hf://{REPO}", "cpu")
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    done = start(
        predict(f"hf://{REPO}", "cached"),
        predict(folder, "folder"),
        predict(run, "run"),
        cwd=tmp_path,
        guard=NO_SOCKETS,
        HF_HUB_OFFLINE="1",
        HF_HUB_CACHE=str(tmp_path / "hub_cache"),
    )
    assert done.returncode == 0, done.stderr
    masks = [
        np.array(Image.open(tmp_path / out / "photo.png")) for out in ("cached", "folder", "run")
    ]
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert len(np.unique(masks[0])) > 1


@pytest.mark.slow
def test_the_environment_names_the_hub(run, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    with Hub() as hub:
        done = start(
            ["push", str(run), REPO, "--device", "cpu"],
            predict(f"hf://{REPO}", "online"),
            predict(run, "run"),
            cwd=tmp_path,
            HF_ENDPOINT=hub.url,
            HF_TOKEN=TOKEN,
            HF_HOME=str(tmp_path / "home"),
            HF_HUB_DISABLE_XET="1",
        )
    assert done.returncode == 0, done.stderr
    assert hub.repos[REPO].files.keys() == FILES
    masks = [(tmp_path / out / "photo.png").read_bytes() for out in ("online", "run")]
    assert masks[0] == masks[1]
