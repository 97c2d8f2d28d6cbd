"""Changed weight files of encoders, as torch and as safetensors write them."""

import contextlib
import pickle
import random

import pytest
from corpus_tensors import save_mutated
from memory import peak_kb
from safetensors.torch import save_file

from segkit.errors import UserError
from segkit.model import create_encoder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_changed_weights_of_torch(tmp_path, rounds, count):
    path = tmp_path / "weights.pth"
    before = peak_kb()
    weights = dict(create_encoder("vgg11_bn", width=0.03).state_dict())
    done = 0
    for case in range(300 * rounds):
        try:
            save_mutated(weights, case, path)
        except (RuntimeError, pickle.PicklingError, ValueError, RecursionError, TypeError):
            continue
        with contextlib.suppress(UserError):
            create_encoder("vgg11_bn", width=0.03, weights=str(path))
        done += 1
    assert list(tmp_path.iterdir()) == [path]
    assert peak_kb() - before < 1_000_000  # kB
    count("weights", done)


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet10t"])
def test_changed_weights_of_other_encoders(tmp_path, name, rounds, count):
    path = tmp_path / "weights.pt"
    weights = dict(create_encoder(name).state_dict())
    done = 0
    for case in range(20 * rounds):
        with contextlib.suppress(Exception):
            save_mutated(weights, 5000 + case, path)
        with contextlib.suppress(UserError):
            create_encoder(name, weights=str(path))
        done += 1
    count("weights", done)


def test_changed_safetensors(tmp_path, rounds, count):
    path = tmp_path / "weights.safetensors"
    weights = create_encoder("vgg11_bn", width=0.03).state_dict()
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    whole = path.read_bytes()
    head = int.from_bytes(whole[:8], "little")
    for case in range(200 * rounds):
        rng = random.Random(case)
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 10))):
            data[rng.randrange(rng.choice((8, head + 8, len(data))))] = rng.randrange(256)
        if case % 4 == 0:
            dtype = rng.choice((b"F64", b"I64", b"F16", b"C64", b"U8 "))
            data = bytearray(whole[:200].replace(b"F32", dtype) + whole[200:])
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        with contextlib.suppress(UserError):
            create_encoder("vgg11_bn", width=0.03, weights=str(path))
    count("weights", 200 * rounds)
