"""Checkpoints and weights as an attacker or an accident leaves them, by the number of a case."""

import io
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HUGE = (10**9, 10**12, 10**18, 10**30, -1, 0, 1 << 62)


def odd_value(rng: random.Random) -> Any:
    """Return a value that hardly anything expects."""
    nested: Any = "x"
    for _ in range(rng.choice((3, 60))):
        nested = [nested, nested]
    circle: list[Any] = []
    circle.append(circle)
    return rng.choice(
        (
            *(
                None,
                True,
                0,
                -1,
                1.5,
                float("nan"),
                float("inf"),
                -(10**6),
                rng.choice(HUGE),
                9**9999,
            ),
            *("", "x", "../../x", "a" * 5000, "\0", "\ud800", "[/x]", "=1+1", b"bytes", "unet"),
            *([], {}, (), [None], {"name": "unet"}, {1: 2}, {None: 1}, {(1, 2): 3}, [1, 2, 3]),
            *(nested, circle, {"a": circle}, torch.float32, torch.Size([1]), OrderedDict(a=1)),
            odd_tensor(torch.ones(2, 3), rng),
        )
    )


def odd_tensor(value: Tensor, rng: random.Random) -> Tensor:
    """Change the kind, type, shape or numbers of a tensor."""
    plain = value.float()
    ways = (
        lambda: plain.to_sparse() if plain.ndim else plain,
        lambda: plain.reshape(len(plain), -1).to_sparse_csr() if plain.ndim > 1 else plain,
        lambda: plain.to("meta"),
        lambda: torch.empty(10**12, device="meta"),
        lambda: torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
        lambda: plain.to(torch.complex64),
        lambda: torch.ones(2, dtype=torch.complex64).conj().imag,
        lambda: plain.to(torch.float8_e4m3fn),
        lambda: plain.to(torch.bfloat16),
        lambda: plain.half(),
        lambda: plain.double(),
        lambda: plain.long(),
        lambda: plain.bool(),
        lambda: torch.ones(1).expand(10**12),
        lambda: torch.ones(1).expand(plain.shape) if plain.ndim else plain,
        lambda: plain * float("nan"),
        lambda: plain.fill_(float("inf")) if plain.numel() else plain,
        lambda: plain[..., :0] if plain.ndim else plain.reshape(1),
        lambda: plain.reshape(-1),
        lambda: plain.unsqueeze(0),
        lambda: torch.cat([plain, plain]) if plain.ndim else plain.reshape(1),
        lambda: plain.transpose(0, -1) if plain.ndim else plain,
        lambda: plain.clone().requires_grad_(),
        lambda: torch.nn.Parameter(plain.clone()),
        lambda: torch.zeros(0),
        lambda: torch.tensor(3.0),
        lambda: torch.zeros(3, 0, 10**9),
    )
    return rng.choice(ways)()


def mutate(content: Any, case: int) -> Any:
    """Return a checkpoint, or a dict of weights, changed in one to three places."""
    rng = random.Random(case)
    content = _copy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(content))
        depth = rng.choice(sorted({level for level, _, _ in places}))
        _, holder, key = rng.choice([place for place in places if place[0] == depth])
        value = holder[key]
        way = rng.randrange(6)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(value, (int, float)):
            holder[key] = rng.choice((*HUGE, -value, float("nan"), str(value), [value]))
        elif way == 2 and isinstance(holder, dict):
            holder[rng.choice(("x", 3, "", None, "a" * 300, ("a", 1)))] = holder.pop(key)
        elif way == 3 and isinstance(value, (list, tuple)):
            holder[key] = rng.choice(
                (list(value) * 2, list(value)[:-1], tuple(value), dict.fromkeys(range(len(value))))
            )
        elif isinstance(value, Tensor) and way < 5:
            holder[key] = odd_tensor(value, rng)
        else:
            holder[key] = odd_value(rng)
        if not isinstance(content, dict) or not content:
            break
    return content


def save_mutated(content: Any, case: int, path: Path) -> None:
    """Write a changed checkpoint; one in eight has changed bytes as well, or compressed parts."""
    rng = random.Random(-case)
    stream = io.BytesIO()
    torch.save(mutate(content, case), stream)
    data = stream.getvalue()
    if rng.random() < 0.06:
        data = _repacked(data, rng)
    elif rng.random() < 0.06:
        torn = bytearray(data)
        for _ in range(rng.randrange(1, 20)):
            torn[rng.randrange(len(torn))] = rng.randrange(256)
        data = bytes(torn)
    path.write_bytes(data)


def _repacked(data: bytes, rng: random.Random) -> bytes:
    """Pack the parts anew: compressed, one of them much larger, or one of them left out."""
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    parts = source.infolist()
    chosen = rng.choice(parts)
    way = rng.randrange(4)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if way < 2 else zipfile.ZIP_STORED) as new:
        for part in parts:
            held = source.read(part)
            if part is chosen and way == 1:
                held = bytes(50_000_000)
            elif part is chosen and way == 2:
                continue
            elif part.filename.endswith(".pkl") and way == 3:
                held = held.replace(b"K\x08", b"J\xff\xff\xff\x7f")
            new.writestr(part.filename, held)
    return out.getvalue()


def _copy(value: Any) -> Any:
    """Copy mappings and lists, at any depth, so that each can be changed."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and len(value) < 600:
        return [_copy(item) for item in value]
    return list(value) if isinstance(value, list) else value  # the states of random numbers


def _places(value: Any, depth: int = 0) -> Any:
    """Yield (depth, mapping or list, key) of all that can be changed."""
    keys = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = list(range(min(3, len(value))))
    for key in keys:
        yield depth, value, key
        yield from _places(value[key], depth + 1) if depth < 12 else ()
