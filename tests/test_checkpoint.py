"""Checkpoints: whole or not at all, and read back without a surprise."""

import os
import pickle
import socket

import numpy as np
import pytest
import torch

from segkit.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_weights,
    restore_config,
    restore_model,
    restore_training,
    save_checkpoint,
)
from segkit.config import load_config
from segkit.data.card import Card, load_card
from segkit.errors import UserError
from segkit.model import build_model


@pytest.fixture
def content(tiny_config, tiny_set):
    config = load_config(tiny_config())
    torch.manual_seed(0)
    model = build_model(config.model, 3)
    return {
        "config": config.model_dump(),
        "card": load_card(tiny_set.card).model_dump(),
        "model": model.state_dict(),
        "epoch": 3,
        "scores": {"miou": 0.5, "iou": (0.25, float("nan"), 0.75)},
    }


@pytest.fixture
def path(tmp_path, content):
    path = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(path, content)
    return path


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# There and back


def test_a_checkpoint_alone_gives_everything_back(path, content, tiny_config, tiny_set):
    read = load_checkpoint(path)
    assert equal(read["model"], content["model"])
    assert restore_config(read, path) == load_config(tiny_config())
    assert Card.model_validate(read["card"]) == load_card(tiny_set.card)
    assert read["epoch"] == 3
    assert repr(read["scores"]) == repr(content["scores"])


def test_the_restored_model_predicts_the_same(path, content, tiny_config):
    restored = restore_model(load_checkpoint(path), path).eval()
    torch.manual_seed(7)
    original = build_model(load_config(tiny_config()).model, 3).eval()
    original.load_state_dict(content["model"])
    x = torch.randn(2, 3, 33, 47)
    with torch.no_grad():
        assert torch.equal(restored(x), original(x))


def test_plain_torch_reads_it_with_weights_only(path, content):
    read = torch.load(path, weights_only=True)
    assert equal(read["model"], content["model"])
    assert read["format"] == 2
    assert not any(key.startswith("module.") for key in read["model"])


def test_restoring_opens_no_socket(path, content, monkeypatch):
    """Not even where the config names pretrained weights."""
    content["config"]["model"]["encoder"]["weights"] = "imagenet"
    save_checkpoint(path, content)

    def refused(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr("urllib.request.urlopen", refused)
    monkeypatch.setattr("segkit.encoders.VGGEncoder.load_weights", refused)
    assert equal(restore_model(load_checkpoint(path), path).state_dict(), content["model"])


# Files that are not whole, or not ours


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.9, 0.999, 0.99999])
def test_a_torn_file_is_one_sentence_with_its_name(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(f"{path} is damaged or no checkpoint: ")
    assert "\n" not in str(error.value)


def test_no_damage_brings_another_exception(path, content):
    rng = np.random.default_rng(0)
    data = path.read_bytes()
    for trial in range(40):
        torn = bytearray(data[: rng.integers(1, len(data))] if trial % 4 == 0 else data)
        low, high = (0, 3000) if trial % 2 else (len(data) - 6000, len(data))
        for position in rng.integers(low, high, 10 * (trial % 4 != 0)):
            torn[position] = rng.integers(0, 256)
        path.write_bytes(torn)
        try:
            read = load_checkpoint(path)
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert read.keys() == {*content, "format"}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "junk",
    [b"hello world", b"\x80", b"\x80\x02}q\x00.", b"PK\x03\x04", b"<html></html>", b"[1, 2]\n"],
)
def test_other_files_are_no_checkpoints(tmp_path, junk):
    path = tmp_path / "weights.pt"
    path.write_bytes(junk)
    with pytest.raises(UserError, match=r"weights\.pt is damaged or no checkpoint"):
        load_checkpoint(path)


class Calls:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run_nor_advised(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "config": Calls(tmp_path / "made")}, path)
    with pytest.raises(UserError, match=r"evil\.pt is damaged or no checkpoint") as error:
        load_checkpoint(path)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "made").exists()
    path.write_bytes(pickle.dumps(Calls(tmp_path / "made")))
    with pytest.raises(UserError, match=r"evil\.pt"):
        load_checkpoint(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("training", [{}, {"training": None}])
def test_a_model_alone_is_no_training(path, content, training):
    save_checkpoint(path, {**content, **training})
    with pytest.raises(UserError, match="holds a model alone"):
        restore_training(load_checkpoint(path), path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no checkpoint .*gone\.pt"):
        load_checkpoint(tmp_path / "gone.pt")


@pytest.mark.parametrize("saved", ["state dict", "tensor", "list"])
def test_another_tools_weights_are_sent_where_they_belong(tmp_path, content, saved):
    things = {"state dict": content["model"], "tensor": torch.ones(2), "list": [1, 2]}
    torch.save(things[saved], tmp_path / "vgg11_bn.pth")
    with pytest.raises(UserError) as error:
        load_checkpoint(tmp_path / "vgg11_bn.pth")
    for part in ("vgg11_bn.pth", "not a segkit checkpoint", "model.encoder.weights"):
        assert part in str(error.value)


def test_another_format_names_both_numbers(tmp_path, content):
    torch.save({**content, "format": 3}, tmp_path / "new.pt")
    with pytest.raises(UserError) as error:
        load_checkpoint(tmp_path / "new.pt")
    for part in ("new.pt", "format 3", "reads 2", "the version that wrote it"):
        assert part in str(error.value)


# Weights of another model


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"model.encoder.width": 0.25}, ".weight"),
        ({"model.decoder": {"name": "fcn"}}, "decoder."),
        ({"model.in_channels": 1}, "encoder.features.0.weight"),
        ({"model.encoder.name": "vgg16_bn"}, "features."),
    ],
    ids=["width", "decoder", "channels", "depth"],
)
def test_weights_of_another_model_are_refused(path, tiny_config, change, key):
    other = build_model(load_config(tiny_config(change)).model, 3)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(other, load_checkpoint(path)["model"], path)
    for part in (
        str(path),
        "another model",
        "weights do not fit",
        key,
        "the config it was trained",
    ):
        assert part in str(error.value)
    assert equal(other.state_dict(), before)


def test_the_number_of_weights_that_do_not_fit_is_told(path, content):
    read = load_checkpoint(path)
    model = restore_model(read, path)
    weights = dict(read["model"])
    gone = weights.pop("encoder.features.0.weight")
    weights["extra"] = gone
    with pytest.raises(
        UserError, match=r"2 weights do not fit \(encoder\.features\.0\.weight, extra\)"
    ):
        load_weights(model, weights, path)


def test_other_classes_than_the_weights_are_refused(path):
    read = load_checkpoint(path)
    read["card"]["classes"] = read["card"]["classes"][:2]
    with pytest.raises(UserError, match="another model"):
        restore_model(read, path)


# Saving


FAILURES = {
    "disk full": ("torch.save", OSError(28, "No space left on device")),
    "disk full, in torch": (
        "torch.save",
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),
    ),
    "disk full, at its end": ("torch.save", RuntimeError("basic_ios::clear: iostream error")),
    "rename": ("os.replace", OSError(18, "Invalid cross-device link")),
    "sync": ("os.fsync", OSError(5, "Input/output error")),
}


@pytest.mark.parametrize(("target", "failure"), FAILURES.values(), ids=FAILURES)
def test_a_failed_save_leaves_the_old_file(path, content, monkeypatch, target, failure):
    before = path.read_bytes()

    def fail(thing, *rest):
        if target == "torch.save":
            rest[0].write_bytes(b"half a file")
        raise failure

    monkeypatch.setattr(target, fail)
    with pytest.raises(UserError) as error:
        save_checkpoint(path, {**content, "epoch": 4})
    for part in (f"cannot write {path}", str(failure), "the file before it is untouched"):
        assert part in str(error.value)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_error_of_a_gpu_is_not_taken_for_one_of_the_disk(path, content, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.save", fail)
    with pytest.raises(RuntimeError, match="illegal memory access") as error:
        save_checkpoint(path, {**content, "epoch": 4})
    assert not isinstance(error.value, UserError)
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_an_interrupted_save_leaves_the_old_file(path, content, monkeypatch):
    before = path.read_bytes()

    def interrupted(thing, file):
        file.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, content)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saving_replaces_the_old_file(path, content):
    save_checkpoint(path, {**content, "epoch": 4})
    assert load_checkpoint(path)["epoch"] == 4
    assert list(path.parent.iterdir()) == [path]


def test_saving_below_a_file_is_one_sentence(tmp_path, content):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/x/last\.pt"):
        save_checkpoint(tmp_path / "file" / "x" / "last.pt", content)


# Finding


def test_the_best_comes_before_the_last(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(UserError) as error:
        find_checkpoint(tmp_path)
    for part in (str(tmp_path), "no checkpoint", str(folder / "best.pt"), str(folder / "last.pt")):
        assert part in str(error.value)
    (folder / "last.pt").touch()
    assert find_checkpoint(tmp_path) == folder / "last.pt"
    (folder / "best.pt").touch()
    assert find_checkpoint(tmp_path) == folder / "best.pt"


def test_a_file_stands_for_itself(tmp_path):
    assert find_checkpoint(tmp_path / "some.pt") == tmp_path / "some.pt"
