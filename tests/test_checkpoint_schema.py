"""What a checkpoint may hold: every change is refused in one sentence, or loads."""

import contextlib
import io
import pickle
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from attack.corpus_tensors import save_mutated
from memory import peak_kb

from segkit.checkpoint import (
    borrow_weights,
    load_checkpoint,
    restore_classes,
    restore_model,
    restore_settings,
    weights_checksum,
)
from segkit.checkpoint_schema import check_plain
from segkit.config import load_config
from segkit.encoders import VGGEncoder
from segkit.errors import UserError
from segkit.experiment import Experiment
from segkit.inference import Predictor
from segkit.training.trainer import Trainer

LEGACY = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})  # what such a file begins with


@pytest.fixture
def content(tiny_config, tmp_path):
    """What `last.pt` of a short training holds."""
    overrides = {"train.epochs": 1, "train.ema": 0.5, "model.encoder.width": 0.03}
    config = load_config(tiny_config({**overrides, "train.samples": 0}))
    Trainer(Experiment.from_config(config), tmp_path / "run").fit()
    return torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)


def write(folder, content):
    path = folder / "case.pt"
    torch.save(content, path)
    return path


def changed(content, where, value):
    """A copy of a checkpoint with another value at a dotted key; None takes it away."""
    *sections, last = where.split(".")
    copy = place = dict(content)
    for section in sections:
        key = int(section) if section.isdecimal() else section
        place[key] = list(place[key]) if isinstance(place[key], list) else dict(place[key])
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copy


def test_a_checkpoint_is_read_as_torch_reads_it(content, tmp_path):
    read = load_checkpoint(write(tmp_path, content))
    assert isinstance(read["model"], OrderedDict)
    schedules = [each["training"].pop("schedule") for each in (read, content)]
    assert equal(read, content)
    assert schedules[0].items() <= schedules[1].items()
    assert {"base_lrs", "last_epoch", "_step_count", "_last_lr"} <= schedules[0].keys()


def equal(left, right):
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and all(map(equal, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


ONE = torch.ones(1)
WRONG = {
    "model": [ONE, {"x": 3}, {3: ONE}],
    "card": [3, {"name": "x"}, "x"],
    "card.name": ["../x", "a" * 300, 5],
    "config": ["x", [1]],
    "epoch": [-1, "x", 10**15, float("nan")],
    "imports": ["x", [3]],
    "scores": [3, [1]],
    "statistics.std": [None, (0.0, 1.0, 1.0), (float("nan"),) * 3, "x"],
    "classes.names": [None, (), ("a", "a", "b"), ("a", "b", "c"), [ONE]],
    "classes.colors": [None, ((0, 0, 300),) * 3, 5],
    "training": [[], {}],
    "training.position": [{"epochs": 1}, {"step": 3, "seconds": 0.0}, {"epoch": -1}],
    "training.random_states": [None, [], [{}], ONE],
    "training.random_states.0.numpy": [("MT19937", [0] * 624, 10**9, 0, 0.0), ("x",), None],
    "training.schedule": [None, {}, {"base_lrs": ["x"]}],
    "training.optimizer": [None, {}, {"state": {}, "param_groups": [{"lr": "x", "params": []}]}],
    "training.scaler": [{"scale": 1.0}, None],
    "training.average": [ONE, {"x": 1}],
    "training.step_size": [0, "x", None],
}


def test_what_is_of_another_type_is_told_with_its_place(content, tmp_path):
    for where, values in WRONG.items():
        for value in values:
            path = write(tmp_path, changed(content, where, value))
            with pytest.raises(UserError, match="is damaged or no checkpoint: ") as error:
                load_checkpoint(path)
            assert where.split(".")[0] in str(error.value)
            assert len(str(error.value).splitlines()) == 1


TENSORS = {
    "sparse": torch.eye(3).to_sparse(),
    "compressed rows": torch.eye(3).to_sparse_csr(),
    "without numbers": torch.empty(10**12, device="meta"),
    "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "complex": torch.ones(3, dtype=torch.complex64),
    "negated": torch.ones(3, dtype=torch.complex64).conj().imag,
    "of 8 bits": torch.ones(3).to(torch.float8_e4m3fn),
    "spread": torch.ones(1).expand(10**12),
    "with a gradient": torch.ones(3, requires_grad=True),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["model.x", "training.average.x", "training.optimizer.state.x"])
def test_tensors_are_dense_real_and_whole(content, tmp_path, where):
    for kind in TENSORS:
        path = write(tmp_path, changed(content, where, TENSORS[kind]))
        with pytest.raises(UserError, match=rf"is damaged or no checkpoint: {where}: it"):
            load_checkpoint(path)


def test_values_that_multiply_or_hold_themselves_are_refused_quickly():
    value = "x" * 1000
    for _ in range(40):
        value = [value, value]
    circle = []
    circle.append(circle)
    start = time.process_time()
    for each in (value, circle, {"a": {"b": circle}}, 10**400, {"a\0": 1}, {1, 2}, object()):
        with pytest.raises(ValueError, match=r"^[\w. ]*: "):
            check_plain({"key": each})
    assert time.process_time() - start < 60  # it would take years


def test_a_format_that_multiplies_is_told(content, tmp_path):
    value = "x"
    for _ in range(40):
        value = [value, value]
    with pytest.raises(UserError, match="has checkpoint format list, this segkit reads 2"):
        load_checkpoint(write(tmp_path, {**content, "format": value}))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_key_that_cannot_be_hashed_in_time_is_refused(content, tmp_path, legacy):
    path = tmp_path / "case.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    # {((((), ()), ((), ())), ...): 1}, each pair twice the one before
    pairs = b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    bomb = b"\x80\x02})" + pairs + b"K\x01s."
    if legacy:
        magic, version, system = (pickle.dumps(value, 2) for value in LEGACY)
        path.write_bytes(magic + version + system + bomb)
    else:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new.pt", "w") as new:
            for part in old.infolist():
                is_pickle = part.filename.endswith("data.pkl")
                new.writestr(part.filename, bomb if is_pickle else old.read(part))
        path = tmp_path / "new.pt"
    start = time.process_time()
    with pytest.raises(UserError, match="holds more values than"):
        load_checkpoint(path)
    with pytest.raises(UserError, match="cannot read the weight file"):
        VGGEncoder("vgg11").load_weights(path)
    assert time.process_time() - start < 60  # it would take years


def test_compressed_parts_are_refused_before_they_are_unpacked(content, tmp_path):
    source = io.BytesIO()
    torch.save(content, source)
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            held = bytes(200_000_000) if part.filename.endswith("data/0") else old.read(part)
            new.writestr(part.filename, held)
    with pytest.raises(UserError, match=r"parts hold [\d,]+ bytes, more than the file"):
        load_checkpoint(path)


def test_a_network_beyond_the_weights_of_its_file_is_not_built(content, tmp_path):
    before = peak_kb()
    for key, value in (("depth", 10**6), ("widths", (10**6,) * 4), ("widths", (60_000,) * 4)):
        path = write(tmp_path, changed(content, f"config.model.decoder.{key}", value))
        told = r"fewer weights than its config builds|cannot be built"
        with pytest.raises(UserError, match=told):
            restore_model(load_checkpoint(path), path)
    assert peak_kb() - before < 1_000_000  # kB


def test_a_moment_of_another_shape_is_told(content, tiny_config, tmp_path):
    config = load_config(
        tiny_config(
            {"train.epochs": 1, "train.ema": 0.5, "train.samples": 0, "model.encoder.width": 0.03}
        )
    )
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    state = content["training"]["optimizer"]["state"]
    keep = dict(state[0])
    for wrong in ({**keep, "exp_avg": torch.ones(1)}, {"step": keep["step"]}):
        state[0] = wrong
        torch.save(content, last)
        with pytest.raises(UserError, match="state of its optimizer does not fit"):
            Trainer(Experiment.from_config(config), tmp_path / "run", resume=True)


@pytest.mark.filterwarnings("ignore")
def test_changed_checkpoints_load_or_are_told(content, tmp_path):
    model = restore_model(content, tmp_path / "last.pt")
    path = tmp_path / "case.pt"
    for case in range(25):
        try:
            save_mutated(content, case, path)
        except (RuntimeError, pickle.PicklingError, ValueError, RecursionError, TypeError):
            continue  # what torch cannot write
        with contextlib.suppress(UserError):
            borrow_weights(model, path)
        with contextlib.suppress(UserError):
            read = load_checkpoint(path)
            restore_settings(read, path)
            restore_classes(read)
            weights_checksum(read["model"])
            Predictor.load(path, "cpu")(np.zeros((40, 48, 3), np.uint8))
