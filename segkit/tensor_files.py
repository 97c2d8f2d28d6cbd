"""Files of tensors that may come from a stranger: no code is run, and no tensor is believed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote, onto the CPU; plain values and tensors alone.

    Raises:
        Exception: of nearly any kind, where the file is damaged or no such file.
    """
    if zipfile.is_zipfile(path):  # torch writes a checksum of each part, but reads none
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > path.stat().st_size:  # torch compresses nothing
                raise OSError(f"its parts hold {unpacked:,} bytes, more than the file")
            damaged = archive.testzip()
        if damaged:
            raise OSError(f"the checksum of its part {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


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
