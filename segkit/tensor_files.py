"""Files of tensors that may come from a stranger: no code is run, and no tensor is believed."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from segkit.files import require_file

DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
MAX_VALUES = 5_000_000  # in a file; what stands in two places counts twice


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote, onto the CPU; plain values and tensors alone.

    Raises:
        Exception: of nearly any kind, where the file is damaged or no such file.
    """
    require_file(path)
    if zipfile.is_zipfile(path):  # torch writes a checksum of each part, but reads none
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > path.stat().st_size:  # torch compresses nothing
                raise OSError(f"its parts hold {unpacked:,} bytes, more than the file")
            damaged = archive.testzip()
            if damaged:
                raise OSError(f"the checksum of its part {damaged} is wrong")
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    with archive.open(name) as part:
                        check_pickle(part)
    else:  # as before torch 1.6: a number, a version, a system, the content, names of tensors
        with open(path, "rb") as file:
            for _ in range(5):
                check_pickle(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_pickle(file: IO[bytes]) -> None:
    """Refuse a pickle whose tuples, each written out wherever it stands, hold too many values.

    A key that is a tuple with another one twice in it, and so on, takes Python for ever to hash.

    Raises:
        ValueError: it is too much.
        pickle.UnpicklingError: it is no pickle.
    """
    try:
        size = _largest(file)
    except Exception as error:  # bytes that are no pickle lead the reader anywhere
        raise pickle.UnpicklingError("it is no pickle") from error
    if size > MAX_VALUES:
        raise ValueError("it holds more values than a file of weights or a checkpoint does")


def _largest(file: IO[bytes]) -> int:
    """Return how many values the largest value of a pickle is, or the first beyond the bound."""
    largest = 0
    mark = pickletools.markobject
    stack: list[Any] = []  # of each value, how many values it is; or a mark
    known: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "MEMOIZE" or "PUT" in name:
            known[len(known) if name == "MEMOIZE" else int(argument or 0)] = stack[-1]
        elif "GET" in name:
            stack.append(known[int(argument or 0)])
        elif name == "MARK":
            stack.append(mark)
        else:
            size, below = 1, opcode.stack_before
            if mark in below:
                while (top := stack.pop()) is not mark:
                    size += top
                below = below[: below.index(mark)]
            size += sum(stack.pop() for _ in below)
            largest = max(largest, size)
            if largest > MAX_VALUES:
                break
            stack += [size] * len(opcode.stack_after)
    return largest


def check_tensor(value: Tensor) -> None:
    """Refuse a tensor whose numbers are not all in the file, real, and in their places.

    Raises:
        ValueError: what it is instead.
    """
    if type(value) not in (Tensor, nn.Parameter):
        raise ValueError(f"it is a {type(value).__name__}")
    if value.layout != torch.strided or value.device.type != "cpu":
        raise ValueError(f"it is not dense, but {value.layout} on {value.device}")
    if value.dtype not in DTYPES or value.is_neg():
        raise ValueError(f"its numbers are {value.dtype}, or stored in another way")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"its size {list(value.shape)} is larger than what the file holds")
