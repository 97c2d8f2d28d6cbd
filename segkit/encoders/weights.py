"""Weights for encoders: from ImageNet, the hub or a file; checked before they are loaded."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from segkit.errors import UserError, shorten
from segkit.hub import Source, download, is_address, parse_address
from segkit.registry import find, names
from segkit.tensor_files import check_tensor, read_torch_file

SUFFIXES = (".pth", ".pt", ".safetensors")
TIMEOUT_SECONDS = 30.0  # for each wait on the network, not for the whole download

_log = logging.getLogger(__name__)


def resolve_weights(name: str, weights: Source) -> Path:
    """Return the file that `weights` names.

    Args:
        name: of the encoder that `imagenet` is downloaded for.
        weights: `imagenet`, a path, or an address on the hub: `hf://user/model` for its
            model.safetensors, or `hf://user/model/FILE.safetensors`.
    """
    if is_address(weights):
        return _from_hub(weights)
    if str(weights) != "imagenet":
        return Path(weights).expanduser()
    url = imagenet_url(name)
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not os.path.isfile(path):  # unlike Path.is_file, never raises
        _download(url, path)
    return path


def _from_hub(weights: Source) -> Path:
    """Return the file in the hub's cache; without its name, that of most repositories."""
    address = parse_address(weights)
    file = address.file or "model.safetensors"
    if not file.endswith(".safetensors"):
        raise UserError(
            f"{weights} is no .safetensors file; no other kind is taken from the hub, as it could "
            "run code"
        )
    return download(address, [file]) / file


def imagenet_url(name: str) -> str:
    """Return the address of torchvision's ImageNet weights for an encoder."""
    import torchvision  # here because it takes seconds, and only this function needs it

    find("encoder", name)
    published = [known for known in names("encoder") if known in torchvision.models.list_models()]
    if name not in published:
        raise UserError(
            f"no ImageNet weights are published for the encoder '{name}'; use weights: null, the "
            f"path of a weight file, or an encoder that has them: {', '.join(published)}"
        )
    url: str = torchvision.models.get_model_weights(name).DEFAULT.url
    return url


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a plain dict of tensors onto the CPU, running no code from the file."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is not a weight file: its name must end in {', '.join(SUFFIXES)}")
    if not os.path.isfile(path):
        raise UserError(f"there is no weight file {path}; check the path, or use weights: null")
    try:
        if suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path, device="cpu")
        else:
            content = read_torch_file(path)
    except Exception as error:  # a broken file raises nearly anything, from EOFError to KeyError
        raise UserError(
            f"cannot read the weight file {path} ({type(error).__name__}); it is damaged, cut "
            "short, or not a plain dict of tensors, so fetch or save it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a plain dict of tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path} is not a plain dict of tensors: under {shorten(key)} it holds a "
                f"{type(value).__name__}; save the model's state_dict() alone"
            )
        try:
            check_tensor(value)
        except ValueError as error:
            raise UserError(
                f"{path} is no weight file: of {shorten(key)}, {error}; save it as a plain tensor"
            ) from error
    return {key: value.detach() for key, value in content.items()}


def fit_input_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Turn RGB filters `(O, 3, k, k)` into filters of `in_channels`; return all others unchanged.

    >>> fit_input_channels(torch.ones(8, 3, 1, 1), 5)[0].flatten().tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    if weight.ndim != 4 or weight.shape[1] != 3 or in_channels == 3:
        return weight
    if in_channels == 1:  # grey is R = G = B, so the sum sees it as RGB filters would
        return weight.sum(1, keepdim=True)
    extra = weight.new_zeros(weight.shape[0], max(0, in_channels - 3), *weight.shape[2:])
    return torch.cat([weight[:, :in_channels], extra], 1)


def load_checked(module: nn.Module, given: dict[str, Tensor], problem: str) -> None:
    """Load tensors into a module, or none and raise an error that starts with `problem`."""
    wanted = module.state_dict()
    # files from before torch 0.4.1 lack this counter, and torch then starts it at 0 itself
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in wanted]
    misshaped = [
        f"{k} is {list(given[k].shape)} instead of {list(wanted[k].shape)}"
        for k in wanted
        if k in given and given[k].shape != wanted[k].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    report = [
        f"{len(keys)} {what} ({', '.join(keys[:5] + ['...'] * (len(keys) > 5))})"
        for what, keys in found.items()
        if keys
    ]
    if report:
        raise UserError(
            f"{problem}: of its keys {'; '.join(report)}; choose the encoder, norm, width and "
            "in_channels that the file was made for, or another file"
        )
    module.load_state_dict(given)


def _download(url: str, path: Path) -> None:
    """Download a file completely or not at all; several processes may do so at the same time."""
    try:
        found = re.search(r"-([0-9a-f]{8,})\.", path.name)
        if found is None:  # without it, torch takes a body cut short for the whole file
            raise ValueError("its name carries no hash to check it by")
        path.parent.mkdir(parents=True, exist_ok=True)
        # torch may leave its temporary file on a full disk; in a folder of its own it goes too
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, _socket_timeout():
            part = os.path.join(folder, path.name)
            _log.info("downloading %s to %s", url, path)
            torch.hub.download_url_to_file(url, part, hash_prefix=found[1])
            os.replace(part, path)
    except (OSError, RuntimeError, ValueError, HTTPException) as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, RuntimeError):  # the hash
            reason = f"what came is cut short or another file, {reason}"
        raise UserError(
            f"could not download {url}: {reason}; put the file at {path} by hand, or use "
            "weights: null or the path of a .pth, .pt or .safetensors file"
        ) from error


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Make a dead host an error; torch's own download would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
